"""`alignctl`: what a person types. One command a file; nothing heavy is imported before it is needed."""

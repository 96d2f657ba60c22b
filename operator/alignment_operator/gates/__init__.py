"""Gates: pure functions from measurements and limits to verdicts with reasons and numbers. One gate a file."""

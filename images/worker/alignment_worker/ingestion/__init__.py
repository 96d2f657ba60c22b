"""What the stage `ingest` is made of: reading a source, what its rows are, which of them stay, what is told of them."""

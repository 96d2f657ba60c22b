"""The vocabulary: what a manifest may say, as pydantic and as a real API server judge it."""

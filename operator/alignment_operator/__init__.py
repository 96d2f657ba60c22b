"""Decides: observe → plan → apply. Never computes on weights, never imports the worker."""

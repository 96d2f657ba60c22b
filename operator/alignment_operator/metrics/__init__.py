"""What the operator's metrics say, as pure functions. Serving them is in `runtime/metrics.py`."""

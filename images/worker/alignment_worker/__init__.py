"""The worker: computes what the operator decides on, one module a stage."""

import os

# Models and data come from the store alone; the libraries read this when they are imported.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

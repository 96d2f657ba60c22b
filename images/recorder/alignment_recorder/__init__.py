"""An OpenAI-compatible pass-through that logs what a model answers. It knows neither the operator nor the worker."""

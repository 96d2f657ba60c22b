"""How the worker and the server that samples for it find each other in their pod."""

MODEL_NAME = "policy"  # what the worker calls the model that it asks for
PORT = 8000
PROBE_PATH = "/v1/models"  # answers once the model is loaded; vLLM's /health may do so before
ADDRESS_VARIABLE = "ALIGNMENT_SERVER_ADDRESS"  # HOST:PORT, in the worker

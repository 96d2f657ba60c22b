"""Where a worker on a cluster tells how far it is. No decision depends on it.

GET /progress gives `{"host", "done", "total", "unit", "secondsLeft"}`: the host name of the pod that answers, for the
address may be another pod's by now; GET /metrics the same and more in the text format of Prometheus.
"""

PORT = 9464
PORT_NAME = "metrics"
PROGRESS_PATH = "/progress"
METRICS_PATH = "/metrics"
ADDRESS_VARIABLE = "ALIGNMENT_METRICS_ADDRESS"  # HOST:PORT to listen on; absent: nothing is served
MAX_PROGRESS_BYTES = 1024

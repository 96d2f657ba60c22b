"""What the recorder counts. Prometheus adds `_total`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

WRITTEN = Counter("alignment_recorder_written", "Interactions and feedback in the log.", ["kind"])
LEFT_OUT = Counter(
    "alignment_recorder_left_out",
    "Answers that are not in the log. sampling: of the other percents; full: the queue was full; log: the folder could "
    "not be written; unreadable: not the API's JSON; too_long: request or answer above the limit; failed: the server "
    "said so; unfinished: client or server ended the answer.",
    ["reason"],
)
QUEUED = Gauge("alignment_recorder_queue_bytes", "Waiting to be written.")
UPSTREAM_ERRORS = Counter(
    "alignment_recorder_upstream_errors", "Requests for which the server could not be reached."
)

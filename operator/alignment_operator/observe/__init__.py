"""Reads everything that a pass decides from, and nothing else. Changes nothing."""

from alignment_operator.observe.cycle import observe_cycle
from alignment_operator.observe.dataset import observe_dataset
from alignment_operator.observe.jobs import JobSource
from alignment_operator.observe.known import Known
from alignment_operator.observe.objects import UnreadableError

__all__ = ["JobSource", "Known", "UnreadableError", "observe_cycle", "observe_dataset"]

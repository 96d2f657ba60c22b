"""Why a stage stops: one exception a cause, each with its exit code.

WorkerError
├── InputMissingError        63  not there yet
├── InvalidConfigError       64
├── InvalidRowError          65
├── InvalidModelError        66
├── DigestMismatchError      67
├── NoPromptsError           68
├── TooFewPairsError         69
├── NoWorkDoneError          70
├── TrainingDivergedError    71
├── TooManyCategoriesError   72
├── StoreConflictError       73
├── JudgeStaleError          74
├── JudgeBudgetError         75
├── JudgeRefusedError        76
├── JudgeUnusableError       77
├── ContaminatedError        78
├── NotVerifiedError         79
└── RetriedError              1
    ├── StoreError               the store's file system
    ├── SamplingServerError      the server beside the worker
    ├── PythonGraderError        the grader Python, beside the worker
    ├── JudgeSilentError         the LLM judge's endpoint
    ├── LabelStudioError         Label Studio
    └── BucketError              a bucket that sources are in

Interrupted                 143  SIGTERM; retried
"""

from __future__ import annotations

import errno
import unicodedata
from typing import ClassVar

from alignment_api.stage import MAX_MESSAGE_LENGTH, STORE_FULL, ExitCode, StageFailure

EXIT_CRASHED = 1
EXIT_INTERRUPTED = 128 + 15

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded", "os error 28", "os error 122")


class WorkerError(Exception):
    """A stage stops, and the message says where, what, and what to do."""

    exit_code: ClassVar[int]

    @property
    def reason(self) -> str:
        """CamelCase, for `StageFailure`."""
        return ExitCode(self.exit_code).reason


class InputMissingError(WorkerError):
    """An input is not there, or cannot be read."""

    exit_code = ExitCode.INPUT_MISSING


class InvalidConfigError(WorkerError):
    """The StageConfig cannot be read, or contradicts itself or its inputs."""

    exit_code = ExitCode.INVALID_CONFIG


class InvalidRowError(WorkerError):
    """A row of a data file."""

    exit_code = ExitCode.INVALID_ROW


class InvalidModelError(WorkerError):
    """A model folder that cannot be used."""

    exit_code = ExitCode.INVALID_MODEL


class DigestMismatchError(WorkerError):
    """An input is not what the iteration froze."""

    exit_code = ExitCode.DIGEST_MISMATCH


class NoPromptsError(WorkerError):
    """Nothing to sample on, or to ask."""

    exit_code = ExitCode.NO_PROMPTS


class TooFewPairsError(WorkerError):
    """Nothing to train on."""

    exit_code = ExitCode.TOO_FEW_PAIRS


class NoWorkDoneError(WorkerError):
    """A stage that did nothing."""

    exit_code = ExitCode.NO_WORK_DONE


class TrainingDivergedError(WorkerError):
    """The training went astray before there was a checkpoint known to be sound."""

    exit_code = ExitCode.TRAINING_DIVERGED


class TooManyCategoriesError(WorkerError):
    """More categories than a report holds."""

    exit_code = ExitCode.TOO_MANY_CATEGORIES


class StoreConflictError(WorkerError):
    """Another stage's manifest stands where this one's belongs."""

    exit_code = ExitCode.STORE_CONFLICT


class JudgeStaleError(WorkerError):
    """A reward model that unseen pairs do not show to be better than chance."""

    exit_code = ExitCode.JUDGE_STALE


class JudgeBudgetError(WorkerError):
    """The LLM judge has cost what it may."""

    exit_code = ExitCode.JUDGE_BUDGET_EXHAUSTED


class JudgeRefusedError(WorkerError):
    """The LLM judge's endpoint does not take the request: the key, the model's name, the address."""

    exit_code = ExitCode.JUDGE_REFUSED


class JudgeUnusableError(WorkerError):
    """An LLM judge whose replies say no preference too often."""

    exit_code = ExitCode.JUDGE_UNUSABLE


class ContaminatedError(WorkerError):
    """Rows to train on hold gold or held-out prompts, and the spec forbids it."""

    exit_code = ExitCode.CONTAMINATED


class NotVerifiedError(WorkerError):
    """A model whose signature is missing, or not of a key that counts, or not of these bytes."""

    exit_code = ExitCode.SIGNATURE_NOT_VERIFIED


class RetriedError(WorkerError):
    """Something outside of the stage, which another attempt may find mended."""

    exit_code = EXIT_CRASHED

    @property
    def reason(self) -> str:
        return "Crashed"


class StoreError(RetriedError):
    """The store's file system cannot do what is needed."""


class SamplingServerError(RetriedError):
    """The server that samples does not answer, or fails."""


class JudgeSilentError(RetriedError):
    """The LLM judge's endpoint does not answer, or fails."""


class LabelStudioError(RetriedError):
    """Label Studio does not answer, or fails."""


class BucketError(RetriedError):
    """A bucket does not answer, fails, or breaks off."""


class PythonGraderError(RetriedError):
    """The grader Python does not answer, or could not try a program."""


class Interrupted(BaseException):
    """SIGTERM: the pod is being deleted, or a person pressed Ctrl-C."""


def exit_code_of(error: BaseException) -> int:
    if isinstance(error, WorkerError):
        return error.exit_code
    return EXIT_INTERRUPTED if isinstance(error, Interrupted) else EXIT_CRASHED


def failure_of(error: BaseException) -> StageFailure:
    """What the report says of an exception that ended a stage."""
    if isinstance(error, WorkerError):
        reason, message = error.reason, str(error)
    elif isinstance(error, Interrupted):
        reason, message = (
            "Interrupted",
            "The stage was told to stop (SIGTERM); the next attempt does it again.",
        )
    elif is_store_full(error):
        reason = STORE_FULL
        message = f"The store is full: {error}. Free space or enlarge the volume; the stage is then retried."
    else:
        reason = "Crashed"
        message = f"{type(error).__name__}: {error} (the traceback is in the worker's log)"
    return StageFailure(reason=reason, message=_shortened(_printable(message)))


def is_store_full(error: BaseException) -> bool:
    """safetensors and torch wrap the operating system's error in exceptions of their own."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return any(text in str(error) for text in _FULL_MESSAGES)


def _printable(message: str) -> str:
    """Nothing that a terminal would obey: an endpoint's words, or a row's, may be in it."""
    return "".join(
        "\ufffd" if unicodedata.category(sign).startswith("C") and sign not in "\n\t" else sign
        for sign in message
    )


def _shortened(message: str) -> str:
    """At most what the contract allows, in bytes: the report's budget counts bytes."""
    encoded = message.encode(errors="replace")
    if len(encoded) <= MAX_MESSAGE_LENGTH:
        return encoded.decode()
    return encoded[: MAX_MESSAGE_LENGTH - 4].decode(errors="ignore") + "…"

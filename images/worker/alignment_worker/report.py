"""The termination message: what a stage reports to the operator, and where it is written."""

from __future__ import annotations

import sys
from pathlib import Path

from alignment_api.stage import ReportTooLargeError, StageReport
from alignment_worker.failures import TooManyCategoriesError, failure_of

DEFAULT_PATH = Path("/dev/termination-log")


def encode(said: StageReport) -> str:
    """Raises TooManyCategoriesError if the measurements do not fit the termination message."""
    try:
        return said.encode()
    except ReportTooLargeError as error:
        raise TooManyCategoriesError(
            f"The measurements by category do not fit a report: {error}. Use fewer categories, or shorter names."
        ) from error


def write(path: Path, said: StageReport) -> None:
    """Raises OSError: a stage whose report is lost is done again, and then only reported."""
    path.write_text(encode(said))


def write_failure(path: Path, error: BaseException) -> None:
    """Says it on stderr too, for who reads the log; a report that cannot be written changes nothing."""
    failure = failure_of(error)
    print(f"{failure.reason}: {failure.message}", file=sys.stderr, flush=True)
    try:
        path.write_text(StageReport(failure=failure).encode())
    except OSError as problem:
        print(f"The report could not be written to {path}: {problem}", file=sys.stderr, flush=True)

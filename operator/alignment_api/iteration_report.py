"""The contract of `python -m alignment_worker.iteration_report`: what it is asked for, and how a pod's log carries it.

It reads finished stages in the store and writes nothing there. No decision depends on it.
"""

from __future__ import annotations

import base64
import gzip
from typing import Annotated, Literal, Self

from pydantic import Field, RootModel

from alignment_api import digests, numbers
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import HistoryRow, Iteration
from alignment_api.gates import Gate, GateReason, Verdict
from alignment_api.measurements import Measurement
from alignment_api.model import Model
from alignment_api.stage import CONTRACT_VERSION, Located, Stage, StageResult

FILE = "report.html"  # in the folder of the iteration, beside its stages


class Measured(Model):
    """A measurement as people read it. `least` and `most`: what the gate allows; `even`: where nothing changed."""

    label: str
    measurement: Measurement
    unit: str = ""
    digits: int = 1
    signed: bool = False
    even: float | None = None
    least: float | None = None
    most: float | None = None

    def estimate(self) -> str:
        """With its unit."""
        if self.measurement.estimate is None:
            return "not known"
        value = numbers.number(self.measurement.estimate, self.digits, signed=self.signed)
        return f"{value} {self.unit}".rstrip()

    def interval(self) -> str:
        """Empty if there is none."""
        low, high = self.measurement.low, self.measurement.high
        return "" if low is None and high is None else numbers.interval(low, high, self.digits)

    def allowed(self) -> str:
        """`at least −2.0`, `0.20 to 1.30`; empty if nothing is forbidden."""
        limits = (self.least, self.most)
        least, most = (None if limit is None else numbers.number(limit, self.digits) for limit in limits)
        if least is not None and most is not None:
            return f"{least} to {most}"
        return f"at least {least}" if least is not None else f"at most {most}" if most is not None else ""


class ExplainedGate(Model):
    """A gate's verdict, with what it could have detected and what would settle it; empty if there is nothing to say."""

    name: Gate
    verdict: Verdict
    reason: GateReason | None = None
    message: str
    warnings: list[str] = Field([], description="What deserves a look though it decides nothing.")
    note: str = Field("", description="How its measurements are to be read.")
    measured: list[Measured] = Field([], description="What it looked at.")
    detectable: str = ""
    settles: str = ""


class Explanation(Model):
    """What became of an iteration, why, and what a person can do next."""

    outcome: str = Field(description="An Outcome, Held or Running.")
    sentence: str
    why: list[str] = Field([], description="The gates that decided, a sentence each.")
    gates: list[ExplainedGate] = Field([], description="In the order of their weight.")
    next: list[str] = Field([], description="What a person can do, the most useful first.")


class ReportConfig(Model):
    """Asks for the HTML report of one iteration."""

    form: Literal["Html"] = "Html"
    contract_version: int = CONTRACT_VERSION
    namespace: str
    cycle: str
    iterations: str = Field(description="URI of the folder of all iterations.")
    iteration: Iteration
    spec: AlignmentCycleSpec | None = None
    explanation: Explanation
    history: list[HistoryRow] = Field([], description="Iterations that ended, for the trend.")
    unknown: list[str] = Field([], description="What could not be had of it, a sentence each.")

    @property
    def folder(self) -> str:
        """URI of what is read."""
        return self.iterations


class ResultsConfig(Model):
    """Asks for what the stages of some iterations reported, as the store has it."""

    form: Literal["Results"] = "Results"
    contract_version: int = CONTRACT_VERSION
    iterations: str = Field(description="URI of the folder of all iterations.")
    numbers: list[int]

    @property
    def folder(self) -> str:
        """URI of what is read."""
        return self.iterations


class DiffConfig(Model):
    """Asks in what two revisions of a dataset differ."""

    form: Literal["Diff"] = "Diff"
    contract_version: int = CONTRACT_VERSION
    revisions: str = Field(description="URI of the folder of all revisions.")
    first: Located
    second: Located
    examples: int = Field(description="Most rows that are shown of those that came, and of those that went.")

    @property
    def folder(self) -> str:
        """URI of what is read."""
        return self.revisions


class SearchConfig(Model):
    """Asks which rows of a revision have prompts that are nearest in meaning."""

    form: Literal["Search"] = "Search"
    contract_version: int = CONTRACT_VERSION
    revisions: str = Field(description="URI of the folder of all revisions.")
    revision: Located
    model: str = Field(description="URI of the model that embedded them.")
    words: str
    most: int = Field(ge=1, description="Rows that are wanted.")

    @property
    def folder(self) -> str:
        """URI of what is read."""
        return self.revisions


ReadingConfig = ReportConfig | ResultsConfig | DiffConfig | SearchConfig


def read_by(config: ReadingConfig) -> list[str]:
    """URIs of all that is read for the answer."""
    return [config.folder, *([config.model] if isinstance(config, SearchConfig) else [])]


class Wanted(RootModel[Annotated[ReadingConfig, Field(discriminator="form")]]):
    """Any of them."""


class Results(Model):
    """The answer to ResultsConfig: by number, the results of the stages whose artifacts are still there."""

    iterations: dict[int, dict[Stage, StageResult]]

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Raises ValueError."""
        return cls.model_validate_json(text)


class RowExample(Model):
    """A pair or unpaired row, shortened."""

    ordinal: int
    source: str
    file: str
    line: int
    prompt: str
    said: str = Field(description="What is chosen, or the completion and its label.")
    against: str = Field("", description="What is rejected.")


class Diff(Model):
    """The answer to DiffConfig. Rows are pairs and unpaired rows; `came` and `went` count them by source."""

    first: dict[str, int] = Field(description="What the first refresh counted.")
    second: dict[str, int]
    both: int = Field(description="Rows of both revisions.")
    came: dict[str, int]
    went: dict[str, int]
    examples_came: list[RowExample]
    examples_went: list[RowExample]

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Raises ValueError."""
        return cls.model_validate_json(text)


class Match(Model):
    """A row that was searched for."""

    percent: float = Field(
        description="100 times the cosine of its prompt's embedding and that of the words."
    )
    row: RowExample


class Matches(Model):
    """The answer to SearchConfig, the nearest first."""

    matches: list[Match]

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Raises ValueError."""
        return cls.model_validate_json(text)


# A pod's log mixes both streams and may lose its beginning, so what it carries is marked and digested.
_LINE = "alignment-report: "
_END = "alignment-report-end: "
_LINE_CHARACTERS = 8000


def framed(data: bytes) -> str:
    """Lines for a log that `unframed` finds again among others."""
    packed = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    pieces = [packed[at : at + _LINE_CHARACTERS] for at in range(0, len(packed), _LINE_CHARACTERS)]
    return "".join(f"{_LINE}{piece}\n" for piece in pieces) + f"{_END}{digests.of_bytes(data)}\n"


def unframed(log: bytes) -> bytes:
    """Raises ValueError if nothing is in it, or not all of it."""
    lines = log.decode(errors="replace").splitlines()
    packed = "".join(line.removeprefix(_LINE) for line in lines if line.startswith(_LINE))
    digest = next((line.removeprefix(_END) for line in reversed(lines) if line.startswith(_END)), "")
    try:
        data = gzip.decompress(base64.b64decode(packed, validate=True))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError("the log is not whole") from error
    if not digest or digests.of_bytes(data) != digest:
        raise ValueError("the log is not whole")
    return data

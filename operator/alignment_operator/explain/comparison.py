"""Two iterations of a cycle side by side: how they ended, what was measured, what they did, and from what spec."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignment_api.iteration_report import Measured
from alignment_operator.explain.account import Account
from alignment_operator.explain.explanation import outcome_of
from alignment_operator.explain.measured import measured_of

ABSENT = "–"
_NOTHING = {ABSENT, "0"}


@dataclass(frozen=True)
class Line:
    """A row; `first` and `second` are ABSENT where that iteration has no such thing."""

    name: str
    first: str
    second: str

    @property
    def differs(self) -> bool:
        return self.first != self.second


@dataclass(frozen=True)
class Comparison:
    """By section, in the order in which a reader asks."""

    outcome: list[Line]
    verdicts: list[Line]
    measurements: list[Line]
    work: list[Line]
    spec: list[Line] | None  # None: a frozen spec is gone
    models: list[Line]


def compared(first: Account, second: Account) -> Comparison:
    both = (first, second)
    specs = [account.spec.to_wire() for account in both if account.spec]
    return Comparison(
        outcome=_lines([_outcome(account) for account in both]),
        verdicts=_lines([_verdicts(account) for account in both]),
        measurements=_lines([_measurements(account) for account in both]),
        work=[
            line
            for line in _lines([_work(account) for account in both])
            if {line.first, line.second} - _NOTHING
        ],
        spec=[line for line in _lines([dict(_leaves(spec)) for spec in specs]) if line.differs]
        if len(specs) == 2
        else None,
        models=_lines([_models(account) for account in both]),
    )


def _lines(both: Sequence[Mapping[str, str]]) -> list[Line]:
    first, second = both
    names = dict.fromkeys([*first, *second])
    return [Line(name, first.get(name, ABSENT), second.get(name, ABSENT)) for name in names]


def _outcome(account: Account) -> dict[str, str]:
    iteration = account.iteration
    told = {"outcome": outcome_of(iteration), "reason": iteration.reason or ABSENT}
    return told | {"ended": iteration.finished_at or "not yet"}


def _verdicts(account: Account) -> dict[str, str]:
    return {
        gate.name.value: gate.verdict.value + (f" ({gate.reason.value})" if gate.reason else "")
        for gate in account.iteration.gates
    }


def _measurements(account: Account) -> dict[str, str]:
    return {
        f"{gate.name.value}: {measured.label}": _told(measured)
        for gate in account.iteration.gates
        for measured in measured_of(gate, account.spec)
    }


def _told(measured: Measured) -> str:
    told = " ".join(part for part in (measured.estimate(), measured.interval()) if part)
    return f"{told} n={measured.measurement.n}"


def _work(account: Account) -> dict[str, str]:
    return {
        f"{entry.name.value}: {name}": f"{count:,}"
        for entry in account.iteration.stages
        if entry.result
        for name, count in entry.result.counts.items()
    }


def _models(account: Account) -> dict[str, str]:
    iteration = account.iteration
    located = {"incumbent": iteration.incumbent, "candidate": iteration.candidate}
    found = {role: model.digest for role, model in located.items() if model}
    return (
        found
        | iteration.inputs
        | {f"dataset {each.name}": f"revision {each.revision}, {each.digest}" for each in iteration.datasets}
    )


def _leaves(value: Any, path: str = "spec") -> Iterator[tuple[str, str]]:
    """Every scalar by its path; items of a list by their name where they have one."""
    match value:
        case dict() if value:
            for key, inner in value.items():
                yield from _leaves(inner, f"{path}.{key}")
        case list() if value:
            for index, inner in _numbered(value):
                yield from _leaves(inner, f"{path}[{index}]")
        case _:
            yield path, str(value)


def _numbered(items: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    for index, item in enumerate(items):
        name = item.get("name") if isinstance(item, dict) else None
        yield str(name or index), item

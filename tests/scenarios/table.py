"""The table of the battery, and what of it is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.scenarios.scenarios import HEALTHY, HELD, PROMOTED, REFUSED, Scenario

MOST_WRONG_OF_HEALTHY = 2.0  # percent
_COLUMNS = ("scenario", "may be", "runs", "sets", "promoted", "refused", "held", "right", "wrong", "reasons")
_OUTCOMES = (PROMOTED, REFUSED, HELD)


@dataclass(frozen=True)
class Ended:
    """An outcome with its reason."""

    outcome: str
    reason: str


@dataclass(frozen=True)
class Row:
    """`runs`: how each seed ended. `sets`: how each resampled set of measurements did; none if nothing was measured.

    `by_luck`: of an equal model, the same without the gate that sees that it is equal.
    """

    scenario: Scenario
    runs: Sequence[Ended]
    sets: Sequence[Ended]
    by_luck: Sequence[Ended] = ()

    @property
    def counted(self) -> Sequence[Ended]:
        return self.sets or self.runs

    def wrongly_promoted(self) -> int:
        """Of all runs and sets."""
        wrong = {PROMOTED} - self.scenario.right
        return sum(ended.outcome in wrong for ended in (*self.runs, *self.sets))

    @property
    def unexpected(self) -> list[Ended]:
        """Runs that ended otherwise than the scenario says, or for another reason."""
        right, reasons = self.scenario.right, self.scenario.reasons
        return [run for run in self.runs if run.outcome not in right or run.reason not in reasons]

    def cells(self) -> tuple[str, ...]:
        count = len(self.counted)
        outcomes = Counter(ended.outcome for ended in self.counted)
        wrong = sum(ended.outcome not in self.scenario.right for ended in self.counted)
        runs = Counter(run.outcome for run in self.runs)
        reasons = Counter(ended.reason for ended in self.counted)
        return (
            self.scenario.name,
            " or ".join(outcome for outcome in _OUTCOMES if outcome in self.scenario.right),
            ", ".join(f"{runs[outcome]} {outcome}" for outcome in _OUTCOMES if runs[outcome]),
            str(len(self.sets)) if self.sets else "–",
            *(_percent(outcomes[outcome], count) for outcome in _OUTCOMES),
            _percent(count - wrong, count),
            _percent(wrong, count),
            ", ".join(reason for reason, _ in reasons.most_common(2)),
        )


def problems(rows: Sequence[Row]) -> list[str]:
    """What the battery does not allow: a wrong promotion, a healthy one lost too often, a run that ended otherwise."""
    found = []
    for row in rows:
        name = row.scenario.name
        if promoted := row.wrongly_promoted():
            found.append(f"{name}: {promoted} wrong promotions")
        found += [f"{name}: a run was {run.outcome}, {run.reason}" for run in row.unexpected]
        if row.scenario is HEALTHY:
            lost = sum(ended.outcome != PROMOTED for ended in row.counted)
            if lost > MOST_WRONG_OF_HEALTHY / 100 * len(row.counted):
                found.append(f"{name}: {lost} of {len(row.counted)} were not promoted")
    return found


def table(rows: Sequence[Row]) -> str:
    """In Markdown, as docs/scenarios.md shows it."""
    cells = [_COLUMNS, tuple("---" for _ in _COLUMNS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def luck(rows: Sequence[Row]) -> str:
    """What an equal model's chances were; empty if none was tried."""
    ended = [each for row in rows for each in row.by_luck]
    promoted = sum(each.outcome == PROMOTED for each in ended)
    said = f"without gates.divergence, luck alone would promote the equal model in {promoted} of {len(ended)} sets"
    return said if ended else ""


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %".replace(".0 %", " %") if part else "0"

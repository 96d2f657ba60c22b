"""The page's figures and tables: what is drawn from which rows, and the same in words and numbers."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from markupsafe import Markup

from alignment_api import measurements as names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.iteration_report import ReportConfig
from alignment_api.measurements import Measurement, accuracy_before
from alignment_api.numbers import number
from alignment_api.stage import Stage, StageResult
from alignment_worker.iteration_report import charts
from alignment_worker.iteration_report.reading import Artifact, Row
from alignment_worker.iteration_report.words import count, interval, rough

_POINTS = 240  # of a line: more are not seen
_BINS = 24
_TABLE_ROWS = 12  # of the numbers behind a line


@dataclass(frozen=True)
class Table:
    """`headers` of the columns; the first cell of a row is its header. `missing` says why there are no rows."""

    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str | Markup]] = ()
    note: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Figure:
    """A chart, what it shows in a sentence, and its numbers; or why there is none."""

    name: str
    title: str
    caption: str = ""
    drawing: Markup | None = None
    numbers: Table = field(default_factory=Table)
    legend: str = ""  # `sides` or `outcomes`: whose marks it explains
    missing: str = ""


def win_rate(comparisons: Artifact, confidence_percent: float, floor: float) -> Figure:
    """Over the comparisons, in the order in which they were made."""
    name, title = "win-rate", "Win rate over the comparisons"
    if not comparisons.rows:
        return Figure(name, title, missing=comparisons.missing or "Nothing was compared.")
    steps = _sequence([row["won"] for row in comparisons.rows], confidence_percent / 100)
    shown = _thinned(steps, _POINTS)
    last, mean, low, high = steps[-1]
    side = "above" if low > floor else "below" if high < floor else "not yet on one side of"
    caption = (
        f"{number(mean)} % after {_of(last, 'comparison')}. With {confidence_percent:g} % confidence, however early "
        f"one stops, the win rate lies from {number(low)} to {number(high)} %: {side} the "
        f"{floor:g} % that it must exceed."
    )
    drawing = charts.plotted(
        name,
        title,
        caption,
        charts.Plot(
            x_label="comparisons",
            y_label="win rate, %",
            lines=[charts.Line("win rate", [(at, value) for at, value, _, _ in shown])],
            band=[(at, below, above) for at, _, below, above in shown],
            rules=[(floor, f"must exceed {floor:g} %")],
            y_range=(0, 100),
        ),
    )
    told = [
        [count(at), number(value), number(below), number(above)]
        for at, value, below, above in _thinned(steps, _TABLE_ROWS)
    ]
    return Figure(name, title, caption, drawing, Table(["comparisons", "win rate, %", "low", "high"], told))


def _of(amount: int, thing: str) -> str:
    return f"{count(amount)} {thing}" if amount == 1 else f"{count(amount)} {thing}s"


def _sequence(scores: Sequence[float], confidence: float) -> list[tuple[int, float, float, float]]:
    """After each comparison: how many, the win rate, and its confidence sequence, in percent."""
    from alignment_worker.statistics.betting import WinRate  # noqa: PLC0415 - loads numpy, which no other figure needs

    rate, total, steps = WinRate(confidence), 0.0, []
    for at, score in enumerate(scores, start=1):
        rate.update(score)
        total += score
        low, high = rate.bounds()
        steps.append((at, 100 * total / at, 100 * low, 100 * high))
    return steps


def outcomes(comparisons: Artifact, answers: Artifact) -> Figure:
    """Wins, ties and losses, by category."""
    name, title = "outcomes", "Wins, ties and losses"
    if not comparisons.rows:
        return Figure(name, title, missing=comparisons.missing or "Nothing was compared.")
    category = {row["line"]: row.get("category", "") for row in answers.rows}
    groups: dict[str, list[float]] = {"all": [row["won"] for row in comparisons.rows]}
    for row in comparisons.rows:
        if of := category.get(row["line"]):
            groups.setdefault(of, []).append(row["won"])
    rows = []
    for group, won in groups.items():
        wins, losses = sum(share > 0.5 for share in won), sum(share < 0.5 for share in won)
        ties = len(won) - wins - losses
        parts = [("win", wins / len(won)), ("tie", ties / len(won)), ("loss", losses / len(won))]
        bar = charts.shares(parts, f"{group}: {wins} won, {ties} tied, {losses} lost")
        rows.append([group, bar, count(wins), count(ties), count(losses), f"{number(100 * fmean(won))} %"])
    longer = sum(row["longer"] for row in comparisons.rows)
    told = (
        f"In {count(longer)} of {count(len(comparisons.rows))} the candidate's answer is over a fifth longer"
    )
    won_longer = sum(row["won"] > 0.5 for row in comparisons.rows if row["longer"])
    caption = f"{told}; of those it won {count(won_longer)}." if longer else f"{told}."
    return Figure(
        name,
        title,
        caption,
        numbers=Table(["category", "share", "won", "tied", "lost", "win rate"], rows),
        legend="outcomes",
    )


def lengths(answers: Artifact) -> Figure:
    """Of both models' answers to the held-out prompts."""
    name, title = "lengths", "Length of the answers"
    if not answers.rows:
        return Figure(name, title, missing=answers.missing or "Nothing was answered.")
    sides = {side: [float(len(row[side]["ids"])) for row in answers.rows] for side in _SIDES}
    before, after = (fmean(sides[side]) for side in _SIDES)
    cut = {side: sum(row[side]["truncated"] for row in answers.rows) for side in _SIDES}
    caption = (
        f"On average {number(before)} → {number(after)} tokens over {count(len(answers.rows))} held-out prompts; "
        f"{count(cut['incumbent'])} → {count(cut['candidate'])} were cut off at maxNewTokens."
    )
    return _histogram(name, title, caption, sides, "tokens an answer")


def rewards(comparisons: Artifact) -> Figure:
    """By the training judge; by the comparison's, where the iteration had no other."""
    name, title = "rewards", "Scores by the training judge"
    if not comparisons.rows:
        return Figure(
            name, title, missing=comparisons.missing or "Nothing was compared, so nothing was scored."
        )
    trained = all("reward" in row for row in comparisons.rows)
    title = title if trained else "Scores by the comparison's judge"
    scored = [row["reward"] if trained else row for row in comparisons.rows]
    sides = {side: [float(row[side]) for row in scored] for side in _SIDES}
    before, after = (fmean(sides[side]) for side in _SIDES)
    won = 100 * fmean(row["won"] for row in scored)
    caption = (
        f"On average {number(before, 2)} → {number(after, 2)} over the {count(len(scored))} prompts that were "
        f"compared. By this judge the candidate wins {number(won)} %."
    )
    return _histogram(name, title, caption, sides, "score")


_SIDES = ("incumbent", "candidate")


def _histogram(name: str, title: str, caption: str, sides: Mapping[str, list[float]], x_label: str) -> Figure:
    edges = _edges([value for values in sides.values() for value in values])
    shares = {side: _binned(values, edges) for side, values in sides.items()}
    means = fmean(sides["incumbent"]), fmean(sides["candidate"])
    data = charts.Histogram(edges, shares["incumbent"], shares["candidate"], x_label, means)
    told = [
        [
            side,
            number(fmean(values), 2),
            *(rough(_quantile(values, share)) for share in (0.05, 0.25, 0.5, 0.75, 0.95)),
        ]
        for side, values in sides.items()
    ]
    table = Table(["model", "mean", "5 %", "25 %", "median", "75 %", "95 %"], told)
    return Figure(name, title, caption, charts.histogram(name, title, caption, data), table, legend="sides")


def _edges(values: Sequence[float]) -> list[float]:
    """Of bins that hold all but the longest tail, which counts to the last; of whole values, whole bins."""
    ordered = sorted(values)
    low, high = ordered[0], max(ordered[min(len(ordered) - 1, int(0.995 * len(ordered)))], ordered[0])
    whole = all(value.is_integer() for value in (low, high)) and all(value.is_integer() for value in ordered)
    if whole:
        values_a_bin = max(1, -(-int(high - low + 1) // _BINS))
        bins = -(-int(high - low + 1) // values_a_bin)
        return [low - 0.5 + index * values_a_bin for index in range(bins + 1)]
    distinct = sorted(set(ordered))
    if len(distinct) <= 9:
        step = min((b - a for a, b in pairwise(distinct)), default=1.0)
        bins = round((distinct[-1] - distinct[0]) / step) + 1
        if bins <= 2 * _BINS:
            return [distinct[0] + (index - 0.5) * step for index in range(bins + 1)]
    width = (high - low) / _BINS or 1.0
    return [low + index * width for index in range(_BINS + 1)]


def _binned(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    bins = [0] * (len(edges) - 1)
    for value in values:
        bins[min(max(bisect_right(edges, value) - 1, 0), len(bins) - 1)] += 1
    return [amount / len(values) for amount in bins]


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return median(ordered) if share == 0.5 else ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def gold(evaluated: StageResult | None, items: Artifact, spec: AlignmentCycleSpec | None) -> Table:
    """Accuracy by category, before and after; how many items were lost and gained, if the rows are there."""
    if evaluated is None:
        return Table(missing=items.missing or "The gold set was not asked.")
    moved = _moved(items.rows)
    rows: list[list[str | Markup]] = []
    for category, measured in evaluated.by_category.items():
        change, accuracy = measured.get(names.GOLD), measured.get(names.GOLD_ACCURACY)
        if change is None or change.estimate is None or accuracy is None or accuracy.estimate is None:
            continue
        after, before = accuracy.estimate, accuracy_before(accuracy.estimate, change)
        told = f"{number(before)} → {number(after)} %"
        gained, lost = moved.get(category, (None, None))
        limit = spec.gates.gold_set.max_drop_of(category) if spec else None
        rows.append(
            [
                category,
                charts.dumbbell(before, after, f"{category}: {told}"),
                told,
                f"{number(change.estimate, signed=True)} {interval(change)}",
                "" if limit is None else f"−{limit:g}" if limit else "0",
                "" if gained is None else count(gained),
                "" if lost is None else count(lost),
                count(change.n),
            ]
        )
    headers = [
        "category",
        "from 0 to 100 %",
        "accuracy",
        "change, points",
        "limit",
        "gained",
        "lost",
        "items",
    ]
    note = f"Gained and lost items are not known: {items.missing}" if not items.rows and items.missing else ""
    return Table(headers, rows, note)


def _moved(items: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """By category, how many items became right and how many wrong; of several samples, on average."""
    found: dict[str, tuple[int, int]] = {}
    for item in items:
        before, after = (fmean(item[side]["right"]) for side in _SIDES)
        gained, lost = found.get(item["category"], (0, 0))
        found[item["category"]] = (gained + (after > before), lost + (after < before))
    return found


# Where the stages report it, who it is, and what of: the judge of `judge` is the training judge.
_JUDGED = (
    ("training judge", (Stage.JUDGE, Stage.TRAIN), names.JUDGE_ACCURACY),
    ("comparison judge", (Stage.COMPARE,), names.COMPARISON_JUDGE_ACCURACY),
)
_CHANCE = 50.0


def judges(results: Mapping[Stage, StageResult]) -> Table:
    """Each judge's agreement with people's labels, and with itself in the other order: in all, and by category."""
    rows: list[list[str | Markup]] = []
    for who, stages, accuracy in _JUDGED:
        for result in (results[stage] for stage in stages if stage in results):
            for category, measured in (("all", result.measurements), *sorted(result.by_category.items())):
                labels, orders = measured.get(accuracy), measured.get(names.ORDER_AGREEMENT)
                if labels is not None or orders is not None:
                    rows.append([f"{who}, {category}", *_agreed(labels), _beats(labels), *_agreed(orders)])
    headers = [
        "judge",
        "agrees with people, %",
        "pairs",
        "better than a coin",
        "same in both orders, %",
        "pairs",
    ]
    missing = "" if rows else "No judge was checked on people's labels, and none was asked in both orders."
    return Table(headers, rows, missing=missing)


def _agreed(value: Measurement | None) -> tuple[str, str]:
    if value is None or value.estimate is None:
        return "", ""
    return f"{number(value.estimate)} {interval(value)}".strip(), count(value.n)


def _beats(labels: Measurement | None) -> str:
    if labels is None or labels.estimate is None or labels.low is None or labels.high is None:
        return ""
    return "yes" if labels.low > _CHANCE else "no" if labels.high < _CHANCE else "not shown"


_MOST_NEAR = 10


def near(duplicates: Artifact) -> Table:
    """Of what was flagged as near-duplicates, the most alike; no rows if nothing was looked for or found."""
    rows = [
        [
            f"{row['source']}, row {row['line']}",
            row["prompt"],
            f"{row['measuredOn']}, row {row['measuredLine']}",
            row["measuredPrompt"],
            number(row["percent"]),
        ]
        for row in duplicates.rows[:_MOST_NEAR]
    ]
    return Table(["trained on", "prompt", "measured on", "prompt there", "alike, %"], rows)


# Measurement, stage, title, unit, digits, and where nothing changed.
_TREND = (
    (names.GOLD_POOLED, Stage.EVALUATE, "Gold set, change", "points", 1, 0.0),
    (names.WIN_RATE, Stage.COMPARE, "Win rate", "%", 1, 50.0),
    (names.LENGTH_RATIO, Stage.EVALUATE, "Length ratio", "candidate ÷ incumbent", 2, 1.0),
    (names.DIVERGENCE, Stage.EVALUATE, "Divergence", "nats a token", 3, None),
)


def trend(config: ReportConfig, results: Mapping[int, Mapping[Stage, StageResult]]) -> list[Figure]:
    """Each iteration's candidate against the incumbent of its time."""
    outcome = {row.number: str(row.outcome) for row in config.history}
    outcome.setdefault(config.iteration.number, config.explanation.outcome)
    figures = []
    for name, stage, title, unit, digits, even in _TREND:
        found: dict[int, Measurement] = {}
        for number_, stages in sorted(results.items()):
            value = stages[stage].measurements.get(name) if stage in stages else None
            if value is not None and value.estimate is not None and number_ in outcome:
                found[number_] = value
        if len(found) < 2:
            continue
        bars = [
            charts.Bar(at, _estimate(value), value.low, value.high, filled=outcome[at] == "Promoted")
            for at, value in found.items()
        ]
        told = [
            [
                str(at),
                outcome[at],
                number(_estimate(value), digits),
                interval(value, digits),
                count(value.n),
            ]
            for at, value in found.items()
        ]
        caption = f"{title} of {len(found)} iterations, each against the incumbent of its time."
        drawing = charts.plotted(
            f"trend-{name}",
            title,
            caption,
            charts.Plot(
                x_label="iteration",
                y_label=unit,
                bars=bars,
                rules=[] if even is None else [(even, "no change")],
                x_ticks=_some(sorted(found)),
            ),
        )
        table = Table(["iteration", "outcome", unit, "interval", "n"], told)
        figures.append(Figure(f"trend-{name}", title, "", drawing, table))
    return figures


def _estimate(value: Measurement) -> float:
    return value.estimate or 0.0


def _some(found: Sequence[int]) -> list[float]:
    step = -(-len(found) // 10)
    return [float(at) for at in found[::step]]


# What the trainers log, the more telling first, with what it says.
_CURVES = (
    ("loss", "Loss", "of the method, by step"),
    ("reward", "Reward", "the judge's score of a completion"),
    ("rewardMargin", "Reward margin", "implicit reward, chosen minus rejected"),
    ("rewardAccuracy", "Reward accuracy", "share of pairs with a positive margin"),
    ("kl", "KL", "nats from the reference"),
    ("entropy", "Entropy", "nats a token"),
    ("gradientNorm", "Gradient norm", "before clipping"),
    ("tokenAccuracy", "Token accuracy", "share of tokens that were the likeliest"),
)
_MOST_CURVES = 4


def curves(log: Artifact) -> list[Figure]:
    """The first four that the method has; none but a reason if nothing was logged."""
    if not log.rows:
        return [Figure("curves", "Training", missing=log.missing or "Nothing was logged.")]
    figures = []
    for column, title, what in _CURVES:
        points = [(float(row["step"]), float(row[column])) for row in log.rows if row.get(column) is not None]
        if not points:
            continue
        shown = _averaged(points, _POINTS)
        first, last = points[0][1], points[-1][1]
        caption = f"{title}, {what}: {rough(first)} → {rough(last)} over {count(len(log.rows))} steps."
        drawing = charts.plotted(
            f"curve-{column}",
            title,
            caption,
            charts.Plot(x_label="step", y_label=title.lower(), lines=[charts.Line(title, shown)]),
        )
        told = [[rough(at), rough(value)] for at, value in _averaged(points, _TABLE_ROWS)]
        figures.append(
            Figure(f"curve-{column}", title, caption, drawing, Table(["step", title.lower()], told))
        )
    return figures[:_MOST_CURVES] or [Figure("curves", "Training", missing="The log has no curve.")]


def _averaged(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many: means of equal stretches."""
    size = -(-len(points) // most)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]


def _thinned(steps: Sequence[Any], most: int) -> list[Any]:
    """At most so many, the last among them."""
    size = -(-len(steps) // most)
    return [step for index, step in enumerate(steps) if (len(steps) - 1 - index) % size == 0]

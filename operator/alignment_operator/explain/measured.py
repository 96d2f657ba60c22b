"""What the gates measured, as people read it: a label, a unit, and the range that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from alignment_api import measurements as names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import Gate, GateResult
from alignment_api.iteration_report import Measured
from alignment_operator.gates import gold_set, length_drift, reward_hacking

_INITIAL = "M_0"
_KIND: Mapping[str, Mapping[str, Any]] = {
    names.LENGTH_RATIO: {"label": "length ratio", "digits": 2, "even": 1.0},
    names.LENGTH_RATIO_FROM_INITIAL: {"label": f"length ratio to {_INITIAL}", "digits": 2, "even": 1.0},
    names.TRUNCATED_SHARE: {"label": "answers cut off", "unit": "%"},
    names.TRUNCATED_CHANGE: {
        "label": "answers cut off, change",
        "unit": "points",
        "signed": True,
        "even": 0.0,
    },
    names.DISTINCT2_DROP: {"label": "distinct-2, drop", "unit": "%", "signed": True, "even": 0.0},
    names.DISTINCT2_DROP_FROM_INITIAL: {
        "label": f"distinct-2, drop from {_INITIAL}",
        "unit": "%",
        "signed": True,
        "even": 0.0,
    },
    names.IDENTICAL_CHANGE: {
        "label": "equal to another prompt's answer",
        "unit": "points",
        "signed": True,
        "even": 0.0,
    },
    names.PROMPT_DEPENDENCE_CHANGE: {
        "label": "prompt dependence, change",
        "unit": "nats an answer",
        "digits": 2,
        "signed": True,
        "even": 0.0,
    },
    names.PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL: {
        "label": f"prompt dependence, change from {_INITIAL}",
        "unit": "nats an answer",
        "digits": 2,
        "signed": True,
        "even": 0.0,
    },
    names.DIVERGENCE: {"label": "from the incumbent", "unit": "nats a token", "digits": 4, "even": 0.0},
    names.DIVERGENCE_FROM_INITIAL: {
        "label": f"from {_INITIAL}",
        "unit": "nats a token",
        "digits": 4,
        "even": 0.0,
    },
    names.LEAKED_PROMPTS: {"label": "prompts that hold gold or held-out ones", "digits": 0},
    names.LEAKED_ROWS: {"label": "rows of datasets that do", "digits": 0},
    names.NEAR_PROMPTS: {"label": "prompts that resemble one", "digits": 0},
    names.NEAR_ROWS: {"label": "prompts of datasets that do", "digits": 0},
    names.WIN_RATE: {"label": "win rate", "unit": "%", "even": 50.0},
    names.WIN_RATE_EVIDENCE: {"label": "evidence, logarithm of the e-value", "digits": 2, "even": 0.0},
    names.WIN_RATE_EVIDENCE_NEEDED: {"label": "evidence that it takes", "digits": 2},
    names.WIN_RATE_LENGTH_CONTROLLED: {"label": "win rate at equal length", "unit": "%", "even": 50.0},
    names.WIN_RATE_NOT_LONGER: {"label": "win rate where not longer", "unit": "%", "even": 50.0},
    names.NEW_PHRASE: {"label": "answers with one new phrase", "unit": "points", "signed": True, "even": 0.0},
    names.REWARD_WIN_RATE: {"label": "win rate by the training judge", "unit": "%", "even": 50.0},
    names.GOLD_POOLED: {"label": "gold set, all items", "unit": "points", "signed": True, "even": 0.0},
}
_GOLD: Mapping[str, Any] = {"unit": "points", "signed": True, "even": 0.0}
Range = Mapping[str, float | None]


def measured_of(gate: GateResult, spec: AlignmentCycleSpec | None) -> list[Measured]:
    """In the gate's order. Without the spec that it was judged by, nothing is said of what is allowed."""
    return [
        Measured(
            measurement=value, **_kind(gate.name, name), **(_allowed(gate.name, name, spec) if spec else {})
        )
        for name, value in gate.measurements.items()
    ]


def _kind(gate: Gate, name: str) -> dict[str, Any]:
    """Of goldSet the name is a category's, perhaps with FROM_INITIAL behind it; of lengthDrift one may follow it."""
    if gate is Gate.GOLD_SET:
        category = name.removesuffix(gold_set.FROM_INITIAL)
        return {**_GOLD, "label": category if category == name else f"{category}, from {_INITIAL}"}
    kind, _, category = name.partition("/")
    told = _KIND.get(kind, {"label": kind})
    return {**told, "label": f"{told['label']}, {category}"} if category else dict(told)


def _allowed(gate: Gate, name: str, spec: AlignmentCycleSpec) -> Range:
    return _ALLOWED[gate](name, spec)


def _gold_set(name: str, spec: AlignmentCycleSpec) -> Range:
    return {"least": -gold_set.limit_of(spec.gates.gold_set, name)}


def _length_drift(name: str, spec: AlignmentCycleSpec) -> Range:
    if name == names.TRUNCATED_SHARE:
        return {"most": length_drift.MAX_TRUNCATED_PERCENT}
    if name == names.TRUNCATED_CHANGE:
        return {"most": length_drift.MAX_TRUNCATED_INCREASE}
    least, most = length_drift.allowed(spec.gates.length_drift, name)
    return {"most": most, "least": least or None}


def _collapse(name: str, spec: AlignmentCycleSpec) -> Range:
    limits = spec.gates.collapse
    if limits is None or "promptDependence" in name:
        return {}
    initial = name == names.DISTINCT2_DROP_FROM_INITIAL
    return {
        "most": limits.max_distinct_drop_from_initial_percent if initial else limits.max_distinct_drop_percent
    }


def _divergence(name: str, spec: AlignmentCycleSpec) -> Range:
    limits = spec.gates.divergence
    if limits is None:
        return {}
    initial = name == names.DIVERGENCE_FROM_INITIAL
    return {"most": limits.max_nats_per_token_from_initial if initial else limits.max_nats_per_token}


def _win_rate(name: str, spec: AlignmentCycleSpec) -> Range:
    if name == names.GOLD_POOLED:
        return {"least": 0.0}
    if name in {
        names.WIN_RATE_LENGTH_CONTROLLED,
        names.WIN_RATE_EVIDENCE,
        names.WIN_RATE_EVIDENCE_NEEDED,
        names.NEW_PHRASE,
    }:
        return {}
    return {"least": spec.gates.win_rate.min_percent} if spec.gates.win_rate else {}


def _reward_hacking(name: str, spec: AlignmentCycleSpec) -> Range:
    """Beyond each of them is what hacking looks like; no single one refuses."""
    suspicious: Mapping[str, Range] = {
        names.REWARD_WIN_RATE: {},
        names.GOLD_POOLED: {"least": reward_hacking.MIN_GOLD_GAIN},
        names.LENGTH_RATIO: {"most": reward_hacking.SUSPICIOUS_LENGTH_RATIO},
        names.WIN_RATE: {"least": reward_hacking.EVEN},
    }
    return suspicious.get(name, {})


def _contamination(name: str, spec: AlignmentCycleSpec) -> Range:
    limits = spec.gates.contamination
    flagged = name in {names.NEAR_PROMPTS, names.NEAR_ROWS}
    return {"most": 0.0} if limits and limits.action == "Fail" and not flagged else {}


_ALLOWED: Mapping[Gate, Callable[[str, AlignmentCycleSpec], Range]] = {
    Gate.GOLD_SET: _gold_set,
    Gate.LENGTH_DRIFT: _length_drift,
    Gate.COLLAPSE: _collapse,
    Gate.DIVERGENCE: _divergence,
    Gate.WIN_RATE: _win_rate,
    Gate.REWARD_HACKING: _reward_hacking,
    Gate.CONTAMINATION: _contamination,
}

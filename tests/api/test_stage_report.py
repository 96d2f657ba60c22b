"""The termination message: at most 2,048 bytes, whatever a stage has to report."""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api import measurements as m
from alignment_api import packing
from alignment_api.measurements import Measurement
from alignment_api.stage import (
    MAX_MESSAGE_LENGTH,
    MAX_REPORT_BYTES,
    ExitCode,
    Located,
    ReportTooLargeError,
    StageFailure,
    StageReport,
    StageResult,
)

_PREFIX = "pvc://models/support/cycles/alignment/support-assistant/0f8fad5b-d9cb-469f-a165-70867728950e/iterations/17"

_LETTERS = string.ascii_lowercase

OVERALL = (
    m.GOLD_POOLED,
    m.LENGTH_RATIO,
    m.LENGTH_RATIO_FROM_INITIAL,
    m.TRUNCATED_SHARE,
    m.TRUNCATED_CHANGE,
    m.CANDIDATE_TOKENS,
    m.INCUMBENT_TOKENS,
    m.CANDIDATE_ENTROPY,
    m.INCUMBENT_ENTROPY,
    m.DISTINCT2_DROP,
    m.DISTINCT2_DROP_FROM_INITIAL,
    m.IDENTICAL_CHANGE,
    m.PROMPT_DEPENDENCE_CHANGE,
    m.PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL,
)
CHANGES = (m.GOLD, m.GOLD_FROM_INITIAL)
LEVELS = (m.GOLD_ACCURACY, m.LENGTH_RATIO, m.LENGTH_RATIO_FROM_INITIAL)


def fullest_report(categories: list[str], seed: int = 0) -> StageReport:
    """All that `evaluate` can measure, in numbers that do not compress."""
    numbers = random.Random(seed)

    def digest() -> str:
        return f"sha256:{numbers.randbytes(32).hex()}"

    def measurement(n: int, *, change: bool = False) -> Measurement:
        estimate, width = numbers.uniform(-100, 100), numbers.uniform(1, 9)
        level: dict[str, Any] = {
            "estimate": estimate,
            "low": estimate - width,
            "high": estimate + width,
            "n": n,
        }
        if change:
            level |= {
                "p": numbers.random(),
                "discordant": numbers.random(),
                "lowerBound": estimate - 0.8 * width,
            }
        return Measurement.from_wire(level)

    by_category: dict[str, dict[str, Measurement]] = {}
    for category in categories:
        items, prompts = numbers.randint(100, 999), numbers.randint(10, 99)
        by_category[category] = {name: measurement(items, change=True) for name in CHANGES}
        by_category[category] |= {
            name: measurement(items if name == m.GOLD_ACCURACY else prompts) for name in LEVELS
        }
    return StageReport(
        result=StageResult(
            manifest=Located(uri=f"{_PREFIX}/evaluate", digest=digest()),
            model=Located(uri=f"{_PREFIX}/train/run-0123abcd/model", digest=digest()),
            counts={
                name: numbers.randint(100, 99_999) for name in ("goldItems", "heldOutPrompts", "answers")
            },
            measurements={name: measurement(1000) for name in OVERALL},
            by_category=by_category,
        )
    )


def _random_names(alphabet: str, length: int, count: int = 16) -> list[str]:
    numbers = random.Random(1)
    return ["".join(numbers.choices(alphabet, k=length)) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "categories",
    [
        _random_names(_LETTERS, 20),
        [
            f"{level}_{subject}"
            for level in ("high_school", "college")
            for subject in _random_names(_LETTERS, 12, 8)
        ],
        _random_names(_LETTERS, 63, 8),
    ],
    ids=["16 of 20 letters", "16 of two words", "8 of 63 letters"],
)
def test_the_fullest_report_fits(categories: list[str], seed: int) -> None:
    text = fullest_report(categories, seed).encode()
    assert len(text.encode()) <= MAX_REPORT_BYTES
    assert text.isascii()


def test_what_is_said_of_judges_in_16_categories_fits() -> None:
    full = fullest_report(_random_names(_LETTERS, 20))
    assert full.result is not None
    judged = {
        category: {
            m.COMPARISON_JUDGE_ACCURACY: found[m.LENGTH_RATIO],
            m.ORDER_AGREEMENT: found[m.GOLD_ACCURACY],
        }
        for category, found in full.result.by_category.items()
    }
    counts = {f"{letter * 20}": 99_999 - number for number, letter in enumerate(_LETTERS[:16])}
    result = full.result.model_copy(update={"by_category": judged, "counts": counts})
    assert len(StageReport(result=result).encode()) <= MAX_REPORT_BYTES


def test_a_report_that_does_not_fit_is_an_error_with_its_size() -> None:
    with pytest.raises(ReportTooLargeError, match=r"the report needs \d{4} bytes; the limit is 2048"):
        fullest_report(_random_names(string.printable[:94], 63)).encode()


def test_a_short_report_is_plain_json() -> None:
    report = StageReport(
        result=StageResult(
            manifest=Located(uri="pvc://a/b", digest="sha256:" + "0" * 64),
            counts={"steps": 12},
            measurements={"trainLoss": Measurement(estimate=0.693147, n=12)},
        )
    )
    text = report.encode()
    assert '"trainLoss":{"estimate":0.6931,"n":12}' in text
    assert StageReport.decode(text).result == report.result.model_copy(  # type: ignore[union-attr]
        update={"measurements": {"trainLoss": Measurement(estimate=0.6931, n=12)}}
    )


def test_a_packed_report_says_the_same_to_eleven_bits() -> None:
    report = fullest_report(["reasoning", "short code", "Fakten über 1900"])
    text = packing.packed(report.to_wire())
    decoded = StageReport.decode(text)
    assert decoded.result is not None
    assert report.result is not None
    assert decoded.result.manifest == report.result.manifest
    assert decoded.result.counts == report.result.counts
    assert _close(decoded.result.to_wire(), report.result.to_wire())


def _close(left: object, right: object) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_close(left[key], right[key]) for key in left)
    if isinstance(left, float) and isinstance(right, float):
        return abs(left - right) <= abs(right) * 2**-11 + 2**-25
    return left == right


MEASUREMENTS = st.builds(
    Measurement,
    estimate=st.none() | st.floats(-1e4, 1e4),
    low=st.none() | st.floats(-1e4, 1e4),
    high=st.none() | st.floats(-1e4, 1e4),
    n=st.integers(0, 10**6),
    p=st.none() | st.floats(0, 1),
    discordant=st.none() | st.floats(0, 1),
    lower_bound=st.none() | st.floats(-1e4, 1e4),
)
KEYS = st.text(max_size=20)


@settings(deadline=None, derandomize=True)
@given(
    st.dictionaries(KEYS, MEASUREMENTS, max_size=5),
    st.dictionaries(KEYS, st.dictionaries(KEYS, MEASUREMENTS, min_size=1, max_size=4), max_size=4),
)
def test_whatever_is_measured_comes_back_from_packing(
    overall: dict[str, Measurement], by_category: dict[str, dict[str, Measurement]]
) -> None:
    manifest = Located(uri="pvc://a/b", digest="sha256:" + "0" * 64)
    result = StageResult(manifest=manifest, measurements=overall, by_category=by_category)
    unpacked = packing.unpacked(packing.packed(StageReport(result=result).to_wire()))
    decoded = StageReport.from_wire(unpacked).result
    assert decoded is not None
    assert _close(decoded.to_wire(), result.to_wire())


def test_a_failure_of_the_greatest_length_fits_and_comes_back() -> None:
    words = " ".join(_random_names(string.ascii_letters, 9, 200))[:MAX_MESSAGE_LENGTH]
    report = StageReport(failure=StageFailure(reason=ExitCode.INVALID_ROW.reason, message=words))
    assert StageReport.decode(report.encode()) == report
    wide = StageReport(failure=StageFailure(reason="Crashed", message="模" * MAX_MESSAGE_LENGTH))
    assert StageReport.decode(wide.encode()) == wide


def _cut(text: str) -> str:
    return text[:-20]


def _swapped(text: str) -> str:
    return text[:100] + ("0" if text[100] != "0" else "1") + text[101:]


@pytest.mark.parametrize("damage", [_cut, _swapped, lambda _: "z:", lambda _: "z:é"])
def test_a_damaged_packed_report_is_an_error(damage: Callable[[str], str]) -> None:
    with pytest.raises(ValueError, match="not a stage report"):
        StageReport.decode(damage(packing.packed(fullest_report(["a", "b"]).to_wire())))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Killed",
        "[]",
        "null",
        "[" * MAX_REPORT_BYTES,
        "{}",
        '{"contractVersion":1}',
        '{"contractVersion":1,"result":{}}',
        '{"contractVersion":2,"failure":{"reason":"Crashed","message":"a"}}',
        '{"failure":{"reason":"Crashed","message":"a"},"result":null,"more":1}',
    ],
)
def test_what_is_no_report_is_an_error_without_jargon(text: str) -> None:
    with pytest.raises(ValueError, match="not a stage report") as caught:
        StageReport.decode(text)
    assert "pydantic" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exit_codes_say_their_reason_and_whose_fault_it_is() -> None:
    assert ExitCode.INPUT_MISSING.reason == "InputMissing"
    assert not ExitCode.INPUT_MISSING.users_fault
    assert {code for code in ExitCode if code.users_fault} == set(ExitCode) - {
        ExitCode.DONE,
        ExitCode.INPUT_MISSING,
    }
    assert len({code.reason for code in ExitCode}) == len(ExitCode)

"""The gate goldSet: cases by hand, the detectable drop by enumeration, and what must never slip through."""

from __future__ import annotations

from math import comb, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.cycle import GoldCategory, GoldSetGate
from alignment_api.gates import GateReason, GateResult, Verdict
from alignment_api.measurements import GOLD, GOLD_ACCURACY, GOLD_FROM_INITIAL, Measurement
from alignment_operator.gates.gold_set import detectable_drop, holm, judge
from alignment_worker.statistics.paired_accuracy import paired_accuracy
from tests.gates.measured import MISSING, NOTHING, at, gold


def judged(limits: GoldSetGate, **changes: Measurement) -> GateResult:
    return judge(limits, {category: {GOLD: change} for category, change in changes.items()}, 0.95)


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        # √(6.18·0.1/300) is 4.5 points, within the 10 that must be noticed.
        ({"code": gold(2.5)}, Verdict.PASSED, None),
        ({"code": gold(-5, p=0.01)}, Verdict.FAILED, GateReason.GOLD_REGRESSION),
        # Beyond the limit, but it may be chance; from 4.5 points on, it should have shown.
        ({"code": gold(-4.4, p=0.06)}, Verdict.PASSED, None),
        ({"code": gold(-4.6, p=0.06)}, Verdict.INCONCLUSIVE, GateReason.GOLD_UNDECIDED),
        # Certain, but within the limit, and the limit itself is within.
        ({"code": gold(-1.9, p=0.001)}, Verdict.PASSED, None),
        ({"code": gold(-2.0, p=0.001)}, Verdict.PASSED, None),
        ({"code": gold(-2.01, p=0.001)}, Verdict.FAILED, GateReason.GOLD_REGRESSION),
        # Holm over two categories: the smallest p has to be at most 0.025.
        ({"code": gold(-4, p=0.03), "facts": gold(1)}, Verdict.PASSED, None),
        ({"code": gold(-5, p=0.03), "facts": gold(1)}, Verdict.INCONCLUSIVE, GateReason.GOLD_UNDECIDED),
        ({"code": gold(-5, p=0.025), "facts": gold(1)}, Verdict.FAILED, GateReason.GOLD_REGRESSION),
        # Once the other is rejected, the second has to be at most 0.05.
        ({"code": gold(-5, p=0.001), "facts": gold(-5, p=0.04)}, Verdict.FAILED, GateReason.GOLD_REGRESSION),
        # √(6.18·0.33/200) is 10.1 points, √(6.18·0.32/200) is 9.94.
        ({"code": gold(0, discordant=0.33, n=200)}, Verdict.INCONCLUSIVE, GateReason.GOLD_SET_TOO_SMALL),
        ({"code": gold(0, discordant=0.32, n=200)}, Verdict.PASSED, None),
        # One category too small, and one harmed: the harm decides.
        (
            {"code": gold(0, n=10), "facts": gold(-9, p=0.001)},
            Verdict.FAILED,
            GateReason.GOLD_REGRESSION,
        ),
    ],
)
def test_no_harm(changes: dict[str, Measurement], verdict: Verdict, reason: GateReason | None) -> None:
    result = judged(GoldSetGate(), **changes)
    assert (result.verdict, result.reason) == (verdict, reason)


def test_every_failed_category_is_named_with_its_numbers() -> None:
    by_category = {
        "code": {GOLD: gold(-13.3, p=0.0003), GOLD_ACCURACY: at(60.0)},
        "facts": {GOLD: gold(-4.0, p=1e-38)},
        "reasoning": {GOLD: gold(3.0)},
    }
    result = judge(GoldSetGate(), by_category, 0.95)
    assert (
        "code 73.3 → 60.0 %: dropped by 13.3 points [−18.3, −8.3], at most 2.0 are allowed" in result.message
    )
    assert "p = 0.0003" in result.message
    assert "facts −4.0 points" in result.message
    assert "p < 0.0001" in result.message
    assert "reasoning" not in result.message
    assert result.limit == -2
    assert set(result.measurements) == {"code", "facts", "reasoning"}


def test_a_pass_says_what_would_have_been_found() -> None:
    by_category = {"reasoning": {GOLD: gold(2.5, discordant=0.15, n=200), GOLD_ACCURACY: at(64.5)}}
    result = judge(GoldSetGate(), by_category, 0.95)
    assert result.message == (
        "reasoning 62.0 → 64.5 %: no harm found; a drop of 6.8 points would have been found"
    )


def test_a_drop_that_may_be_chance_is_a_warning() -> None:
    result = judged(GoldSetGate(), code=gold(-4, p=0.2))
    assert result.verdict == Verdict.PASSED
    assert "harm not shown (p = 0.2)" in result.message
    assert result.warnings == ["code dropped by 4.0 points, more than 2.0, which may be chance (p = 0.2)"]


def test_a_large_drop_that_holm_does_not_let_through_is_not_passed() -> None:
    result = judged(GoldSetGate(), code=gold(-9, p=0.02), facts=gold(1), reasoning=gold(1))
    assert result.verdict == Verdict.INCONCLUSIVE
    assert "harm is neither shown (p = 0.02) nor ruled out by 300 items" in result.message


def test_a_gold_set_that_the_incumbent_gets_all_wrong_proves_nothing() -> None:
    nothing = {"code": {GOLD: gold(0, discordant=0.0), GOLD_ACCURACY: at(0.0)}}
    result = judge(GoldSetGate(), nothing, 0.95)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, GateReason.GOLD_SET_TOO_SMALL)
    assert "are grader and answers right?" in result.message
    some = nothing | {"facts": {GOLD: gold(0), GOLD_ACCURACY: at(60.0)}}
    result = judge(GoldSetGate(), some, 0.95)
    assert result.verdict == Verdict.PASSED
    assert "code: only 0.0 % were right before" in result.warnings[0]


def test_the_accuracy_before_is_a_whole_number_of_items() -> None:
    # 206 of 300, of which the report's rounded figures make 68.64.
    rounded = {"facts": {GOLD: gold(29.67), GOLD_ACCURACY: at(98.31)}}
    assert "facts 68.7 → 98.3 %" in judge(GoldSetGate(), rounded, 0.95).message


def test_a_drop_up_to_the_limit_is_none_to_warn_of() -> None:
    result = judged(GoldSetGate(), code=gold(-2, p=0.2))
    assert "no harm found" in result.message
    assert not result.warnings


def test_a_pass_shows_the_limit_that_was_nearest() -> None:
    limits = GoldSetGate(categories=[GoldCategory(name="reasoning", max_drop_points=5)])
    assert judged(limits, reasoning=gold(0), code=gold(0)).limit == -2
    assert judged(limits, reasoning=gold(-4), code=gold(0)).limit == -5


def test_too_small_a_set_says_how_many_items_would_do() -> None:
    result = judged(GoldSetGate(max_undetected_drop_points=5), code=gold(0, discordant=0.2, n=300))
    assert result.reason == GateReason.GOLD_SET_TOO_SMALL
    # 6.18·0.2/0.05² is 494.6.
    assert "about 495 items" in result.message
    assert judged(GoldSetGate(max_undetected_drop_points=5), code=gold(0, discordant=0.2, n=495)).verdict == (
        Verdict.PASSED
    )


@pytest.mark.parametrize(
    ("discordant", "items", "points"),
    [
        (0.10, 200, 5.559),  # √(6.1826·0.10/200)
        (0.50, 300, 10.151),
        (0.25, 1000, 3.931),
        (0.0, 100, 5.560),  # at least five discordant items: √(6.1826·5)/100
        (0.0, 20, 27.80),
    ],
)
def test_the_detectable_drop_by_hand(discordant: float, items: int, points: float) -> None:
    assert detectable_drop(discordant, items, 0.95) == pytest.approx(points, abs=0.002)


def test_the_detectable_drop_at_other_confidence() -> None:
    # z.99 is 2.3263, z.80 is 0.8416: (3.168)² is 10.036.
    assert detectable_drop(0.1, 200, 0.99) == pytest.approx(100 * sqrt(10.036 * 0.1 / 200), abs=0.01)
    # At α = 1/32 five discordant items can just reject: z is 1.8627, (2.7043)² is 7.313.
    assert detectable_drop(0, 100, 1 - 1 / 32) == pytest.approx(sqrt(7.313 * 5), abs=0.01)


@pytest.mark.parametrize(("discordant", "items"), [(0.1, 300), (0.2, 300), (0.4, 1000)])
def test_a_drop_of_that_size_is_found_four_times_of_five(discordant: float, items: int) -> None:
    """The exact test's power, by enumeration of every number of discordant items and of losses among them."""
    drop = detectable_drop(discordant, items, 0.95) / 100
    lost = (discordant + drop) / 2 / discordant
    power = 0.0
    for changed in range(items + 1):
        here = comb(items, changed) * discordant**changed * (1 - discordant) ** (items - changed)
        if here < 1e-9:
            continue
        tail = found = 0.0
        for losses in range(changed, -1, -1):
            tail += comb(changed, losses) / 2**changed
            if tail > 0.05:
                break
            found += comb(changed, losses) * lost**losses * (1 - lost) ** (changed - losses)
        power += here * found
    assert power == pytest.approx(0.80, abs=0.06)


@pytest.mark.parametrize(
    ("p_values", "rejected"),
    [
        # Holm (1979) at 0.05, step by step: 0.05/4, 0.05/3, 0.05/2, 0.05.
        ([0.01, 0.04, 0.03, 0.005], [True, False, False, True]),
        ([0.01, 0.02, 0.015, 0.005], [True, True, True, True]),
        ([0.0125, 0.0167, 0.9, 0.9], [True, False, False, False]),
        ([0.05], [True]),
        ([0.051], [False]),
        ([], []),
    ],
)
def test_holm(p_values: list[float], rejected: list[bool]) -> None:
    assert holm(p_values, 0.05) == rejected


def test_a_large_gain_is_not_called_too_small_a_set() -> None:
    """Half the items changed, so that √(6.18·d/n) is 10.2 points, but nearly all for the better."""
    before = [[True]] * 3 + [[False]] * 147 + [[True]] * 75 + [[False]] * 75
    after = [[False]] * 3 + [[True]] * 147 + [[True]] * 75 + [[False]] * 75
    result = judged(GoldSetGate(), code=paired_accuracy(before, after, 0.95, seed=0))
    assert result.verdict == Verdict.PASSED


@pytest.mark.parametrize("items", [1, 3, 10, 55])
@pytest.mark.parametrize("better", [False, True])
def test_a_handful_of_items_proves_nothing(items: int, better: bool) -> None:
    """Built to slip through: hardly a gold set, on which nothing changed, or everything for the better."""
    change = paired_accuracy([[not better]] * items, [[True]] * items, 0.95, seed=0)
    result = judged(GoldSetGate(), code=change)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, GateReason.GOLD_SET_TOO_SMALL)


def test_damage_to_one_category_does_not_hide_behind_the_others() -> None:
    """Built to slip through: better on the whole, one small category ruined."""
    better = paired_accuracy([[False]] * 60 + [[True]] * 240, [[True]] * 300, 0.95, seed=0)
    ruined = paired_accuracy([[True]] * 60 + [[False]] * 20, [[True]] * 40 + [[False]] * 40, 0.95, seed=0)
    result = judged(GoldSetGate(), facts=better, code=ruined, reasoning=better)
    assert result.verdict == Verdict.FAILED
    assert result.message.startswith("code −25.0 points: dropped by 25.0 points")


def test_small_drops_do_not_add_up() -> None:
    """Built to slip through: within the limit every week, but not since M_0."""
    limits = GoldSetGate(max_drop_from_initial_points=4)
    change = {GOLD: gold(-1.5, p=0.2), GOLD_FROM_INITIAL: gold(-9, p=0.001)}
    result = judge(limits, {"code": change}, 0.95)
    assert (result.verdict, result.reason) == (Verdict.FAILED, GateReason.GOLD_REGRESSION)
    assert "code/fromInitial" in result.message
    assert result.limit == -4
    assert judge(GoldSetGate(), {"code": change}, 0.95).verdict == Verdict.PASSED


def test_a_category_may_have_a_limit_of_its_own() -> None:
    limits = GoldSetGate(categories=[GoldCategory(name="reasoning", max_drop_points=1)])
    drop = gold(-1.5, p=0.001)
    assert judged(limits, reasoning=drop, code=gold(0)).verdict == Verdict.FAILED
    assert judged(limits, code=drop, reasoning=gold(0)).verdict == Verdict.PASSED


@pytest.mark.parametrize(
    ("bounds", "verdict"),
    [
        ((-1.9,), Verdict.PASSED),
        ((-2.0,), Verdict.INCONCLUSIVE),
        ((0.5, -1.99), Verdict.PASSED),
        ((0.5, -2.5), Verdict.INCONCLUSIVE),
    ],
)
def test_non_inferior_passes_only_what_rules_the_drop_out(
    bounds: tuple[float, ...], verdict: Verdict
) -> None:
    limits = GoldSetGate(mode="NonInferior")
    changes = {f"category{index}": gold(0, lower_bound=bound) for index, bound in enumerate(bounds)}
    result = judged(limits, **changes)
    assert result.verdict == verdict
    if verdict == Verdict.INCONCLUSIVE:
        assert result.reason == GateReason.GOLD_NOT_SHOWN_NON_INFERIOR


def test_non_inferior_says_what_would_settle_it() -> None:
    # From 4 points below the estimate to 2: four times the items.
    result = judged(GoldSetGate(mode="NonInferior"), code=gold(0, n=300, lower_bound=-4))
    assert "a drop of 4.0 points is not ruled out by 300 items" in result.message
    assert "about 1200 items" in result.message
    hopeless = judged(GoldSetGate(mode="NonInferior"), code=gold(-3, n=300, lower_bound=-6))
    assert "more items would not help" in hopeless.message
    at_the_limit = judged(GoldSetGate(mode="NonInferior"), code=gold(-2, n=300, lower_bound=-6))
    assert "more items would not help" in at_the_limit.message


def test_non_inferior_does_not_pass_a_set_on_which_nothing_changed() -> None:
    same = [[True]] * 100
    change = paired_accuracy(same, same, 0.95, seed=0)
    assert judged(GoldSetGate(mode="NonInferior"), code=change).verdict == Verdict.INCONCLUSIVE
    same *= 2
    change = paired_accuracy(same, same, 0.95, seed=0)
    assert judged(GoldSetGate(mode="NonInferior"), code=change).verdict == Verdict.PASSED


@pytest.mark.parametrize(
    ("by_category", "limits", "reason", "words"),
    [
        ({}, GoldSetGate(), GateReason.MEASUREMENT_MISSING, "no category"),
        ({"code": {}}, GoldSetGate(), GateReason.MEASUREMENT_MISSING, "no category"),
        (
            {"code": {GOLD: gold(1)}, "facts": {GOLD_ACCURACY: at(60.0)}},
            GoldSetGate(),
            GateReason.MEASUREMENT_MISSING,
            "gold of category facts",
        ),
        ({"code": {GOLD: MISSING}}, GoldSetGate(), GateReason.MEASUREMENT_MISSING, "gold of category code"),
        ({"code": {GOLD: NOTHING}}, GoldSetGate(), GateReason.TOO_LITTLE_WORK, "gold of category code"),
        ({"code": {GOLD: at(1.0)}}, GoldSetGate(), GateReason.MEASUREMENT_MISSING, "harm test"),
        (
            {"code": {GOLD: Measurement(estimate=0, n=99, p=1)}},
            GoldSetGate(),
            GateReason.MEASUREMENT_MISSING,
            "harm test",
        ),
        (
            {"code": {GOLD: gold(0)}},
            GoldSetGate(max_drop_from_initial_points=4),
            GateReason.MEASUREMENT_MISSING,
            "goldFromInitial of category code",
        ),
        (
            {"code": {GOLD: gold(0)}},
            GoldSetGate(categories=[GoldCategory(name="coding", max_drop_points=1)]),
            GateReason.MEASUREMENT_MISSING,
            "names coding, of which the gold set has no item; its categories are: code",
        ),
        (
            {"code": {GOLD: Measurement(estimate=0, n=9, p=1, discordant=0)}},
            GoldSetGate(mode="NonInferior"),
            GateReason.MEASUREMENT_MISSING,
            "lower bound",
        ),
    ],
)
def test_what_was_not_measured_is_an_error(
    by_category: dict[str, dict[str, Measurement]], limits: GoldSetGate, reason: GateReason, words: str
) -> None:
    result = judge(limits, by_category, 0.95)
    assert (result.verdict, result.reason) == (Verdict.ERROR, reason)
    assert words in result.message


def test_sixteen_categories_fit_the_message() -> None:
    changes = {f"category-with-a-rather-long-name-{index}": gold(-20, p=1e-6) for index in range(16)}
    result = judged(GoldSetGate(), **changes)
    assert result.verdict == Verdict.FAILED
    assert len(result.message) <= 1024
    assert "more" in result.message.rsplit(";", maxsplit=1)[-1]


@settings(deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 200)), min_size=1, max_size=4),
    st.integers(0, 3),
    st.integers(1, 20),
    st.sampled_from(["NoHarm", "NonInferior"]),
    st.floats(0, 20),
)
def test_a_worse_candidate_is_never_judged_better(
    counts: list[tuple[int, int, int]], which: int, more: int, mode: str, limit: float
) -> None:
    """Some gains become losses: what failed stays failed, what did not pass does not pass."""
    limits = GoldSetGate(mode=mode, max_drop_points=limit, max_undetected_drop_points=100)
    worse = list(counts)
    gains, losses, same = worse[which % len(worse)]
    turned = min(more, gains)
    worse[which % len(worse)] = (gains - turned, losses + turned, same)
    before, after = (judge(limits, _measured(case), 0.95).verdict for case in (counts, worse))
    assert not (before == Verdict.FAILED and after != Verdict.FAILED)
    assert not (before == Verdict.INCONCLUSIVE and after == Verdict.PASSED)


def _measured(counts: list[tuple[int, int, int]]) -> dict[str, dict[str, Measurement]]:
    return {
        f"category{index}": {
            GOLD: paired_accuracy(
                [[False]] * gains + [[True]] * (losses + same),
                [[True]] * gains + [[False]] * losses + [[True]] * same,
                0.95,
                seed=0,
            )
        }
        for index, (gains, losses, same) in enumerate(counts)
    }

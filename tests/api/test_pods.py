"""Settings of a stage's pod: amounts, and how a stage's settings are laid over the defaults."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from alignment_api.pods import PodDefaults, PodSettings, settled
from alignment_api.quantities import amount


@pytest.mark.parametrize(
    ("quantity", "worth"),
    [
        ("0", 0),
        ("1.5", Fraction(3, 2)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("1n", Fraction(1, 10**9)),
        ("1u", Fraction(1, 10**6)),
        ("500m", Fraction(1, 2)),
        ("2k", 2000),
        ("2Ki", 2048),
        ("1M", 10**6),
        ("1.5Mi", 3 * 2**19),
        ("1G", 10**9),
        ("1Gi", 2**30),
        ("1T", 10**12),
        ("1Ti", 2**40),
        ("1P", 10**15),
        ("1Pi", 2**50),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("1E3", 1000),
        ("1e-2", Fraction(1, 100)),
        ("1e+2", 100),
    ],
)
def test_a_quantity_is_worth_what_kubernetes_says(quantity: str, worth: Fraction) -> None:
    assert amount(quantity) == Decimal(worth.numerator) / Decimal(worth.denominator)


def test_a_stages_maps_merge_over_the_defaults_and_its_lists_replace_theirs() -> None:
    defaults = PodDefaults.from_wire(
        {
            "retries": 3,
            "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "1Gi"}},
            "podLabels": {"team": "a", "tier": "b"},
            "podSecurityContext": {"runAsUser": 7},
            "tolerations": [{"operator": "Exists"}],
        }
    )
    override = PodSettings.from_wire(
        {
            "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
            "podLabels": {"team": "c"},
            "podSecurityContext": {"runAsGroup": 8},
            "tolerations": [],
        }
    )
    assert settled(defaults, override).to_wire() == {
        "activeDeadlineSeconds": 86_400,
        "pendingDeadlineSeconds": 3600,
        "retries": 3,
        "ttlSecondsAfterFinished": 86_400,
        "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1", "memory": "2Gi"}},
        "podLabels": {"team": "c", "tier": "b"},
        "podSecurityContext": {"runAsUser": 7, "runAsGroup": 8},
        "tolerations": [],
    }
    assert settled(defaults, None) == defaults

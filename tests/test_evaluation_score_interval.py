"""Score limits of a weighted difference. Truth: R, likelihood maximized and limits found numerically; Wilson's formula."""

import json
from pathlib import Path

import numpy as np
import pytest

from alneval.decision_curve import decision_curve, net_benefit
from alneval.estimate import interval
from alneval.intervals import wilson_interval
from alneval.score_interval import weighted_difference_interval
from alneval.units import Units

REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


def marks(gained, lost, n):
    """(n, 1) and (n, 1) with these numbers of ones, on different rows."""
    rows = np.arange(n)[:, None]
    return rows < gained, (rows >= gained) & (rows < gained + lost)


@pytest.mark.parametrize("reference", EXPECTED["score_limits"], ids=lambda reference: str(reference["case"]))
def test_limits_agree_with_r(reference):
    gained, lost, n, weight = reference["case"]
    low, high = weighted_difference_interval(*marks(gained, lost, int(n)), [weight])
    assert (low[0], high[0]) == pytest.approx(tuple(reference["limits"]), abs=1e-7)


@pytest.mark.parametrize(("count", "n"), [(0, 20), (7, 50), (20, 20)])
def test_without_weight_it_is_wilsons_interval(count, n):
    low, high = weighted_difference_interval(*marks(count, 0, n), [0.0], confidence=0.9)
    expected = wilson_interval(count, n, confidence=0.9)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_exchanging_the_sides_mirrors_the_limits():
    gained, lost = marks(9, 4, 60)
    low, high = weighted_difference_interval(gained, lost, [0.4])
    mirrored_low, mirrored_high = weighted_difference_interval(lost, gained, [1 / 0.4])
    assert (-0.4 * mirrored_high, -0.4 * mirrored_low) == (pytest.approx(low), pytest.approx(high))


def test_repeated_rows_of_a_patient_say_nothing_new():
    gained, lost = marks(12, 7, 80)
    once = weighted_difference_interval(gained, lost, [0.5])
    three = np.repeat(np.arange(80), 3)
    ignored = weighted_difference_interval(gained[three], lost[three], [0.5])
    known = weighted_difference_interval(gained[three], lost[three], [0.5], patient=three)
    np.testing.assert_allclose(known, once, rtol=0.02)  # 80 / 79 in the variance between patients
    assert (ignored[1] - ignored[0]) < 0.65 * (known[1] - known[0])
    nobody = np.zeros((240, 1))
    np.testing.assert_allclose(
        weighted_difference_interval(nobody, nobody, [0.5], patient=three),
        weighted_difference_interval(nobody[:80], nobody[:80], [0.5]),
    )
    alone = weighted_difference_interval(gained, lost, [0.5], patient=np.arange(80))
    assert (alone[1] - alone[0]) >= (once[1] - once[0])


def test_a_decision_curve_has_these_limits():
    """At 0.3 a model treats nobody: percentile limits have no width there, these have."""
    rng = np.random.default_rng(3)
    y = rng.random(60) < 0.2
    p = np.clip(0.15 + 0.1 * y + 0.03 * rng.normal(size=60), 0.01, 0.29)
    thresholds = [0.0, 0.2, 0.3]
    units = Units.of(y, p)
    table = decision_curve(units, thresholds, intervals=True).set_index("threshold")
    treated = p >= 0.2
    expected = weighted_difference_interval((treated & y)[:, None], (treated & ~y)[:, None], [0.25])
    assert tuple(table.loc[0.2, ["net_benefit_low", "net_benefit_high"]]) == pytest.approx(np.ravel(expected))
    avoided = weighted_difference_interval((~treated & ~y)[:, None], (~treated & y)[:, None], [4.0])
    found = tuple(table.loc[0.2, ["interventions_avoided_per_100_low", "interventions_avoided_per_100_high"]])
    assert found == pytest.approx(100 * np.ravel(avoided))
    assert table.loc[0.2, "gain_low"] == pytest.approx(min(expected[0][0], 0.25 * avoided[0][0]))
    prevalence = wilson_interval(int(y.sum()), 60)
    assert table.loc[0.2, "treat_all_low"] == pytest.approx(1.25 * prevalence.low - 0.25)
    assert tuple(table.loc[0.0, ["gain_low", "gain_high"]]) == (0, 0)  # all are treated, by both
    assert table.loc[0.3, "net_benefit_low"] < 0 < table.loc[0.3, "net_benefit_high"]
    resampled = interval(net_benefit([0.3]), units, np.random.default_rng(4), n=200)
    assert (resampled.low, resampled.high) == (0, 0)
    ordered = table.dropna()
    for name in ("net_benefit", "treat_all", "gain", "interventions_avoided_per_100"):
        assert (ordered[f"{name}_low"] <= ordered[name] + 1e-12).all(), name
        assert (ordered[name] <= ordered[f"{name}_high"] + 1e-12).all(), name


def test_marks_that_do_not_fit_are_refused():
    gained, lost = marks(3, 2, 10)
    with pytest.raises(ValueError, match="need"):
        weighted_difference_interval(gained, lost, [0.5, 1.0])
    with pytest.raises(ValueError, match="both"):
        weighted_difference_interval(gained, gained, [0.5])
    with pytest.raises(ValueError, match="negative"):
        weighted_difference_interval(gained, lost, [-0.5])

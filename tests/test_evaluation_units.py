"""Scored units as one value. Property: what patients are called changes neither strata nor draws of unclustered rows."""

from __future__ import annotations

import numpy as np

from alneval.estimate import resamples
from alneval.units import Units


def test_stratified_resamples_keep_the_positives_whatever_the_patients_are_called():
    y = np.array([1, 0, 0, 0, 1, 0, 1, 0])
    units = {
        "anonymous": Units.of(y, np.arange(8.0)),
        "backwards": Units.of(y, np.arange(8.0), patient=list("hgfedcba")),
        "a part": Units.of(np.repeat(y, 2), np.arange(16.0), patient=np.repeat(list("hgfedcba"), 2)).where(
            np.arange(16) % 2 == 0
        ),
    }
    drawn = {
        name: np.concatenate(list(resamples(of_name, 50, np.random.default_rng(0)))) for name, of_name in units.items()
    }
    for name, weights in drawn.items():
        assert set(weights @ y) == {3.0}, name
        np.testing.assert_array_equal(weights, drawn["anonymous"])

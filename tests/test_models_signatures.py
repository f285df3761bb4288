"""Signatures: one column per source, out of fold for those fitted, honest on noise, and scale of C by number of columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alneval.delong import auc
from alnlib.models.frozen import LinearHead
from alnlib.models.signatures import Signatures

SOURCES = {"deep": "d", "hand": "h"}


def features(n: int, seed: int, signal: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    values = rng.normal(size=(n, 60))
    values[:, :5] += signal * y[:, None]
    columns = [f"d{k}" for k in range(40)] + [f"h{k}" for k in range(19)] + ["age"]
    return pd.DataFrame(values, index=[f"p{k}" for k in range(n)], columns=columns), y


def test_every_source_becomes_a_column_and_the_others_pass():
    X, y = features(60, 1)
    made = Signatures(SOURCES).fit(X, y)
    out = made.transform(X)
    assert list(out) == ["age", "deep", "hand"] == list(made.get_feature_names_out()) and out.index.equals(X.index)
    deep = X.filter(regex="^d")
    head = LinearHead(strengths=(2.0 / 40,)).fit(deep, y)
    np.testing.assert_allclose(out["deep"], head.decision_function(deep) - head.intercept_)
    assert out["deep"].mean() == pytest.approx(0, abs=1e-8), "the prevalence is left to what comes after"


def test_rows_fitted_on_get_signatures_of_heads_that_never_saw_them():
    """Noise: signatures of patients that the head knows separate them, those out of fold do not; planted signal is found."""
    X, y = features(120, 2)
    made = Signatures({"deep": "d"})
    out_of_fold = made.fit_transform(X, y)["deep"]
    assert auc(y, made.transform(X)["deep"]) > 0.8 and abs(auc(y, out_of_fold) - 0.5) < 0.15
    X, y = features(120, 3, signal=1.0)
    new, labels = features(400, 4, signal=1.0)
    assert min(auc(y, made.fit_transform(X, y)["deep"]), auc(labels, made.transform(new)["deep"])) > 0.7


def test_rows_of_a_patient_stay_together():
    """Each patient twice: a head that had seen the twin would know the label by heart."""
    X, y = features(40, 5)
    twice, labels = pd.concat([X, X]), np.concatenate([y, y])
    out = Signatures({"deep": "d"}).fit_transform(twice, labels)["deep"].to_numpy()
    np.testing.assert_allclose(out[:40], out[40:])


def test_a_source_without_columns_is_named():
    X, y = features(40, 6)
    with pytest.raises(ValueError, match="no column matches the source video"):
        Signatures({"video": "v"}).fit(X, y)

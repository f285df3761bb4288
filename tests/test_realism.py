"""realism.csv and the stills it is measured on. Truth: the public images where they are (else skipped), and arithmetic."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from alnsim.realism import REALISM_COLUMNS, STILL_PIXELS, read_realism, simulate_stills
from alnsim.statistics import compare_stills
from alnsim.ultrasound import SCANNERS
from tests.real_data import real_data
from tools.realism import N_STILLS, SEED, read_stills, rounded, slice_statistics

GROUP = ["modality", "scanner"]


@pytest.fixture(scope="module")
def realism() -> pd.DataFrame:
    return read_realism()


def test_every_modality_and_scanner_was_measured(realism):
    assert tuple(realism.columns) == REALISM_COLUMNS
    expected = {(modality, scanner) for modality in ("US", "CT", "MG") for scanner in SCANNERS}
    assert set(realism[GROUP].itertuples(index=False, name=None)) == expected
    assert not realism.duplicated([*GROUP, "statistic"]).any()
    common = set.intersection(*(set(group["statistic"]) for _, group in realism.groupby(GROUP)))
    assert {"mean_gray", "noise_sd", "spectral_slope", "grain_axial_mm", "line_coherence"} <= common
    assert {"fat_hu", "fat_noise_hu", "muscle_hu"} <= set(realism.loc[realism["modality"] == "CT", "statistic"])


def test_numbers_are_possible(realism):
    assert realism["auc"].between(0.0, 1.0).all()
    for group in ("real", "simulated"):
        assert (realism[f"{group}_q1"] <= realism[f"{group}_median"]).all()
        assert (realism[f"{group}_median"] <= realism[f"{group}_q3"]).all()
        assert (realism[f"n_{group}"] >= 4).all()
    # the real images do not depend on which machine was simulated
    real = ["n_real", "real_q1", "real_median", "real_q3"]
    for _, both in realism.groupby(["modality", "statistic"]):
        assert len(both) == 2 and both[real].nunique().eq(1).all()
    separated = (realism["simulated_q1"] > realism["real_q3"]) & (realism["auc"] < 0.5)
    assert not separated.any()


def test_digits_are_cut_but_counts_are_not():
    table = pd.DataFrame([["US", "primary", "a", 12345, 1234.56, 0.00123456, -98.7654, 67890, 0.0, 1.0, 2.0, 0.5]])
    table.columns = REALISM_COLUMNS
    row = rounded(table).iloc[0]
    assert (row["n_real"], row["n_simulated"]) == (12345, 67890)
    assert [row["real_q1"], row["real_median"], row["real_q3"]] == [1235.0, 0.001235, -98.77]


def test_ultrasound_rows_are_what_the_public_stills_give(realism):
    """Recomputed for the primary machine from BrEaST; other processors may draw single gray levels differently."""
    stills = read_stills(real_data("breast_lesions_usg").parent)
    again = compare_stills(stills, simulate_stills(N_STILLS, np.random.default_rng(SEED)))
    stored = realism.query("modality == 'US' and scanner == 'primary'")
    assert stored["statistic"].tolist() == again["statistic"].tolist()
    for column in REALISM_COLUMNS[3:]:
        atol = 0.02 if column == "auc" else 1.1e-3  # noise of whole gray levels comes in steps of 0.001
        np.testing.assert_allclose(stored[column], again[column], rtol=2e-3, atol=atol, err_msg=column)


def test_simulated_stills_follow_their_seed():
    first, again, other = (simulate_stills(2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert [str(still.path) for still in first] == ["simulated-001", "simulated-002"]
    assert all(still.pixels.shape == (STILL_PIXELS, STILL_PIXELS) for still in first)
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(first, again, strict=True))
    assert not np.array_equal(first[0].pixels, other[0].pixels)
    assert not np.array_equal(first[0].pixels, first[1].pixels)
    # a prefix of a longer series, and another machine
    assert np.array_equal(simulate_stills(1, np.random.default_rng(1))[0].pixels, first[0].pixels)
    external = simulate_stills(1, np.random.default_rng(1), "external")[0]
    assert external.spacing_mm[0] > first[0].spacing_mm[0]
    assert simulate_stills(0, np.random.default_rng(1)) == []
    with pytest.raises(ValueError):
        simulate_stills(-1, np.random.default_rng(1))


def test_noise_and_level_of_pure_tissue_are_found():
    """Half fat at -100 HU, half muscle at 60 HU, white noise of 12 HU; a Gaussian of 3 pixels takes 2.7 % of its variance."""
    hounsfield = np.where(np.arange(160)[:, None] < 80, -100.0, 60.0) + np.zeros((160, 160))
    found = slice_statistics(hounsfield + np.random.default_rng(3).normal(0.0, 12.0, hounsfield.shape))
    assert found["fat_hu"] == pytest.approx(-100.0, abs=0.5)
    assert found["muscle_hu"] == pytest.approx(60.0, abs=0.5)
    for tissue in ("fat", "muscle"):
        assert found[f"{tissue}_noise_hu"] == pytest.approx(12.0 * 0.987, rel=0.04)
    fat_only = slice_statistics(np.random.default_rng(4).normal(-100.0, 12.0, (160, 160)))
    assert np.isnan(fat_only["muscle_hu"]) and np.isnan(fat_only["muscle_noise_hu"])

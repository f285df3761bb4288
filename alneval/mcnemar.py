"""McNemar's test of two calls on the same units, plain and clustered by patient."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

EXACT_BELOW = 25
"""Fewer discordant pairs than this: exact binomial McNemar; otherwise chi-squared with continuity correction."""


def mcnemar_p(a_only: int, b_only: int) -> float:
    """Two-sided p of McNemar's test on discordant counts: exact below EXACT_BELOW of them, else with continuity correction.

    R `binom.test(min(a, b), a + b)` and `mcnemar.test(correct = TRUE)`. 1 where nothing is discordant.
    """
    discordant = a_only + b_only
    if discordant == 0:
        return 1.0
    return float(mcnemar([[0, a_only], [b_only, 0]], exact=discordant < EXACT_BELOW, correction=True).pvalue)


def clustered_mcnemar_p(balances: np.ndarray) -> float:
    """Two-sided p of McNemar's test when a patient has several units; balances: (k,) units won by a less those won by b.

    Below EXACT_BELOW patients with a balance: exact, the share of all their signs that give as large a sum; else chi-squared of
    the squared sum over the sum of squares (Durkalski et al. 2003, Stat Med 22:2417, without weights). With one unit per
    patient they are McNemar's exact test, and his chi-squared without correction.
    """
    sizes = np.abs(balances[balances != 0]).astype(int)
    total = abs(int(balances.sum()))
    if sizes.size == 0:
        return 1.0
    if sizes.size >= EXACT_BELOW:
        return float(stats.chi2.sf(total**2 / (sizes**2).sum(), 1))
    chances = np.ones(1)  # of every sum, from the lowest on
    for size in sizes:
        chances = (np.pad(chances, (0, 2 * size)) + np.pad(chances, (2 * size, 0))) / 2
    sums = np.arange(-sizes.sum(), sizes.sum() + 1)
    return float(min(chances[np.abs(sums) >= total].sum(), 1.0))

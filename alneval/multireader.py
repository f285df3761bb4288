"""One model against the mean of several readers of the same cases (Obuchowski and Rockette), with DeLong's covariances.

A single reader's operating point lives in `readers`; two models, which have no readers, in `delong`.
"""

from __future__ import annotations

from math import copysign, inf, nan, sqrt

import numpy as np
from scipy import stats

from alneval.delong import covariance
from alneval.estimate import Estimate
from alneval.units import Units

READERS = ("random", "fixed")
"""random: the result is about readers like these; fixed: about these readers only. Cases are random in either."""


def compare_model_with_readers(units: Units, *, readers: str = "random", confidence: float = 0.95) -> Estimate:
    """AUC of a stand-alone model less the mean AUC of readers who read the same cases; `values`: those two.

    units: the first score is the model's, the others (one or more) the readers', any monotone scales. The r differences
    model minus reader are one modality of the Obuchowski-Rockette model: their mean has variance
    [MS(reader) + r max(cov2, 0)] / r with random readers and Hillis' degrees of freedom (Hillis et al. 2005, Stat Med
    24:1579, equation 23; R `RJafroc::StSignificanceTestingCadVsRad(method = "1T-RRRC")`), and exactly their mean
    covariance with fixed ones, where one reader gives DeLong's test. With few readers the random interval says more
    about the number of readers than about the model. Raises ValueError for one random reader or a missing class.
    """
    r = units.scores.shape[1] - 1
    if readers not in READERS:
        raise ValueError(f"readers must be one of {', '.join(READERS)}, not {readers!r}")
    if readers == "random" and r < 2:
        raise ValueError("one reader says nothing about readers at large: use readers='fixed'")
    aucs, between = covariance(units)
    contrasts = np.column_stack([np.ones(r), -np.eye(r)])
    deltas, cases = contrasts @ aucs, contrasts @ between @ contrasts.T
    variance, degrees = float(cases.mean()), inf
    if readers == "random":
        mean_square = float(deltas.var(ddof=1))
        total = mean_square + r * max(float((cases.sum() - np.trace(cases)) / (r * (r - 1))), 0.0)
        # Satterthwaite: a mean square with r - 1 degrees of freedom, and a covariance that is taken as known
        degrees = total**2 / (mean_square**2 / (r - 1)) if mean_square > 0 else inf
        variance = total / r
    delta = float(deltas.mean())
    error = sqrt(max(variance, 0.0)) if np.isfinite(variance) else nan
    reference = stats.norm if degrees == inf else stats.t(degrees)
    half = float(reference.ppf(0.5 + confidence / 2)) * error
    without_variance = 0.0 if delta == 0 else copysign(inf, delta)
    statistic = delta / error if error > 0 else (nan if np.isnan(error) else without_variance)
    p = float(2 * reference.sf(abs(statistic)))
    counts = {"n": len(units), "n_positive": units.n_positive, "values": (float(aucs[0]), float(aucs[1:].mean()))}
    method = f"{r} {readers} reader{'s' if r > 1 else ''}"
    return Estimate(delta, delta - half, delta + half, error, p, statistic, degrees, method=method, **counts)

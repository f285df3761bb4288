"""Net reclassification improvement (NRI) and integrated discrimination improvement (IDI) of a new over an old model.

Both are reported because readers ask for them; neither should decide. They can be positive for a useless marker when a
model is miscalibrated or fitted on the data that judge it: Pepe et al. 2014 (Stat Biosci 7:282), Hilden & Gerds 2014
(Stat Med 33:3405), Kerr et al. 2014 (Epidemiology 25:114). Look at the difference in AUC (`delong.auc_difference`), at
calibration and at net benefit (`decision_curve`) first.
"""

from __future__ import annotations

import numpy as np

from alneval.units import Units


def reclassification(units: Units, weights: np.ndarray) -> np.ndarray:
    """Event part and non-event part of the category-free NRI, and IDI, (b, 3); not finite where a class is missing.

    A statistic for `estimate.interval`, of units with two probabilities: old, then new. A part of the NRI, in [-1, 1], is
    the share whose probability moved the right way less the share in which it moved the wrong way; any change counts,
    however small, so its size says little, and 0.6 is not "60 %" of anything. Their sum weighs them as if half the patients
    had events. Pencina et al. 2011, Stat Med 30:11. The IDI is the mean rise of the probability in events plus its mean fall
    in non-events, which equals the difference of the discrimination slopes: more extreme probabilities raise it without
    ranking anybody better, so a miscalibrated model can win. Pencina et al. 2008, Stat Med 27:157. R
    `Hmisc::improveProb` has both. For nested models no test of them is valid (Kerr et al. 2011, Am J Epidemiol 174:364).
    """
    change = units.scores[:, 1] - units.scores[:, 0]
    columns = [members * moved for moved in (np.sign(change), change) for members in (units.positive, ~units.positive)]
    sums = weights @ np.column_stack(columns)
    of_class = weights @ np.column_stack([units.positive, ~units.positive]).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):  # one class
        up, down, rise, fall = (sums / np.tile(of_class, 2)).T
    return np.column_stack([up, -down, rise - fall])

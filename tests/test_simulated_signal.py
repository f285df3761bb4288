"""What a trained network finds in simulated pixels: something where there is signal, nothing where there is none.

Truth comes from the generative model: with `signal: 0` images are drawn without a look at the patient, so the expected
AUC of any score is exactly 0.5; with signal 1 the attainable AUC is far above it. What oracles reach is tested in
`test_simulated_truth`; here the network sees pixels alone, of fresh patients, rendered in memory. Seed and sizes were
fixed before the first run with them, and both signals share them: an interval that misses 0.5 at signal 0 is a leak, or
the one draw in twenty, and is to be looked into, not to be reseeded.
"""

from __future__ import annotations

import numpy as np
import pytest

from alneval.delong import auc_interval
from alneval.estimate import Estimate
from alneval.units import Units
from alnlib.imaging.crop import (
    adjustable_square_crop,
    box_center_mm,
    box_from_mask,
    fixed_size_crop,
    resample_to_square,
)
from alnlib.models.frozen import FrozenSpec, frozen_features
from alnlib.training.data import CropDataset
from alnlib.training.oof import linear_heads
from alnsim import SimulationSpec, ct, traits, truth, ultrasound
from alnsim import patients as model

SEED = 2026
SIDE = 32
FROZEN = FrozenSpec(depths=(3, 5, 9))


def stills(n: int, spec: SimulationSpec, rng: np.random.Generator) -> CropDataset:
    """One ultrasound still per patient, cut to 36 mm round the lesion, which keeps its size and its shadow."""
    drawn = truth.draw_population(n, "primary", model.nodal_intercept(spec), spec, rng)
    crops = []
    for i in range(n):
        scores = {name: drawn[name][i] for name in traits.ULTRASOUND.columns()}
        appearance = ultrasound.appearance_from_traits(traits.rendered(traits.ULTRASOUND, scores, spec))
        still = ultrasound.simulate_bmode(appearance, ultrasound.SCANNERS["primary"], 96, 96, rng.spawn(1)[0])
        center = box_center_mm(box_from_mask(still.mask), still.spacing_mm)
        crops.append(resample_to_square(fixed_size_crop(still.pixels, center, 36.0, still.spacing_mm), SIDE))
    return CropDataset(np.rint(crops).astype(np.uint8), drawn["aln_metastasis"], unit_names(rng, n))


def nodes(n: int, spec: SimulationSpec, rng: np.random.Generator) -> CropDataset:
    """The lymph nodes of n patients on CT, one to four each, in a square scaled to the node; -160 to 240 HU as 0-255."""
    drawn = truth.draw_population(n, "primary", model.nodal_intercept(spec), spec, rng)
    status = drawn["aln_metastasis"]
    crops, labels, patients = [], [], []
    for i, count in enumerate(traits.draw_node_counts(status, spec, rng)):
        own = rng.spawn(1)[0]
        habitus = ct.draw_habitus(own)
        malignant = traits.draw_node_labels(int(status[i]), int(count), own)
        scores = traits.draw_node_traits(malignant, spec, own)
        for k in range(count):
            node = {name: values[k] for name, values in scores.items()}
            appearance = ct.appearance_from_traits(traits.rendered(traits.NODE, node, spec, traits.MALIGNANT_NODES))
            image = ct.simulate_node_slice(appearance, ct.SCANNERS["primary"], 128, 128, 0.8, habitus, own)
            crop = adjustable_square_crop(image.hounsfield, box_from_mask(image.mask), 0.4)
            crops.append(resample_to_square((crop.clip(-160, 240) + 160) * (255 / 400), SIDE))
        labels += list(malignant)
        patients += [i] * count
    patient_ids = np.array(unit_names(rng, n))[patients]
    return CropDataset(
        np.rint(crops).astype(np.uint8), np.array(labels), unit_names(rng, len(crops)), tuple(patient_ids)
    )


def unit_names(rng: np.random.Generator, n: int) -> tuple[str, ...]:
    """Names that no other draw repeats."""
    first = int(rng.integers(2**40))
    return tuple(f"{first}-{i}" for i in range(n))


def network_auc(render, sizes: tuple[int, int], signal: float, seed: int = SEED) -> Estimate:
    """AUC, on fresh patients, of a linear head on frozen pretrained features. sizes: training and test patients."""
    spec = SimulationSpec(**dict.fromkeys(SimulationSpec.signals(), signal))
    streams = np.random.default_rng(seed).spawn(2)
    sets = [render(n, spec, stream) for n, stream in zip(sizes, streams, strict=True)]
    features = np.concatenate([frozen_features(each.crops, FROZEN) for each in sets])
    y, patients = (np.concatenate([getattr(each, name) for each in sets]) for name in ("y", "patient_ids"))
    known = np.arange(len(y)) < len(sets[0])
    score = linear_heads(features, y, patients, 1, seed)(known)(~known)[:, 0]
    return auc_interval(Units.of(y[~known], score, patient=patients[~known]))


CASES = [
    pytest.param(stills, (300, 240), id="ultrasound stills"),
    pytest.param(nodes, (140, 110), id="CT nodes"),
]


@pytest.mark.parametrize(("render", "sizes"), CASES)
def test_a_network_finds_nothing_where_there_is_no_signal(render, sizes):
    found = network_auc(render, sizes, signal=0.0)
    assert found.low <= 0.5 <= found.high
    assert found.high - found.low < 0.2, "too wide an interval to say anything"


@pytest.mark.parametrize(("render", "sizes"), CASES)
def test_the_same_network_finds_something_where_there_is_signal(render, sizes):
    """So that the test above cannot pass with a network, or a crop, that sees nothing."""
    assert network_auc(render, sizes, signal=1.0).low > 0.5

"""What each modality shows of a patient: image traits drawn from the hidden state, per patient, per node and per visit.

Who the patients are is decided in `patients`; a trait becomes pixels in the module of its modality, and `truth`
computes what the traits together can tell.

The model in words, with sources and what is unlike reality: MODEL.md in this folder.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alnsim import patients as model
from alnsim.specification import SimulationSpec


@dataclass(frozen=True)
class Driver:
    """What drives one trait: "invasiveness", "size", "status" or "chemosensitivity", and how strongly (w, or d')."""

    trait: str
    source: str
    strength: float


@dataclass(frozen=True)
class TraitModel:
    """The traits of one modality. prefix: of their columns in latent.csv; signal: field of `SimulationSpec`."""

    prefix: str
    signal: str
    drivers: tuple[Driver, ...]

    @classmethod
    def of(cls, prefix: str, signal: str, **sources: dict[str, float]) -> TraitModel:
        """From {trait: strength} by source, in the order of the modality's TRAITS."""
        drivers = (Driver(trait, source, w) for source, shown in sources.items() for trait, w in shown.items())
        return cls(prefix, signal, tuple(drivers))

    def strength(self, driver: Driver, spec: SimulationSpec) -> float:
        """w or d' at the signal of this recipe."""
        return getattr(spec, self.signal) * driver.strength

    def columns(self) -> list[str]:
        """Columns of latent.csv, in the order of the modality's TRAITS."""
        return [f"{self.prefix}_{driver.trait}" for driver in self.drivers]


ULTRASOUND = TraitModel.of(
    "us",
    "signal_ultrasound",
    invasiveness={"irregularity": 0.80, "shadowing": 0.80, "hypoechogenicity": 0.75}
    | {"halo": 0.60, "heterogeneity": 0.55, "orientation": 0.50},
    size={"size": 0.90},
)
"""Our choice: a few strongly coupled traits, so that a small network has something to find, and none perfect. Irregular
margin, shadow, halo and a tall shape are malignant features in BI-RADS; that they also mark nodal risk this strongly is
an assumption of the simulation."""

KEY_FRAME = TraitModel.of("usv", "signal_video", status={"lymphatics": 1.00})
"""What a sweep's key frame shows beyond the archived still: dilated lymphatics round the tumor. The sweep is of the same
lesion, so the still's seven traits are the sweep's."""

MOTION = TraitModel.of("usv", "signal_video", status={"tethering": 0.95, "satellites": 0.75})
"""What only the moving picture shows: a lesion that does not slide against its surroundings, and further foci off the key
plane. That both mark nodal disease is an assumption of the simulation; it puts video above still, as Li 2023 found."""

MRI = TraitModel.of(
    "mri",
    "signal_mri",
    size={"size": 0.95},
    invasiveness={"irregularity": 0.60, "rim_enhancement": 0.60, "washout": 0.50}
    | {"low_adc": 0.50, "heterogeneity": 0.45},
    status={"edema": 0.50},
)
"""Our choice of strengths. Directions: peritumoral edema on T2, rim enhancement and low ADC are described as markers of
nodal disease in breast MRI."""

MAMMOGRAPHY = TraitModel.of(
    "mg",
    "signal_mammography",
    size={"size": 0.80},
    invasiveness={"irregularity": 0.55, "density": 0.35, "distortion": 0.50},
    status={"microcalcifications": 0.75},
)
"""Our choice; microcalcifications carry what MRI does not see, so that the two together exceed either (Guo 2024)."""

NODE = TraitModel.of(
    "ct",
    "signal_ct",
    status={"size": 1.10, "roundness": 1.10, "hilum_loss": 1.20, "cortical_enhancement": 0.90}
    | {"necrosis": 0.75, "margin": 0.85, "stranding": 0.95},
)
"""Separations d' between malignant and benign nodes. Size, shape, hilum, cortex, necrosis and margin are the textbook
signs; the strengths are our choice and give one node image an attainable AUC near the 0.968 of Park 2024."""

LOST_BY_ADJUSTABLE_SQUARE = ("size", "stranding")
"""Traits that a square scaled to the node takes away: absolute size, and the fat beyond the margin.

Not quite: how coarse the grain of the enlarged pixels is still tells the size, so a network that reads the grain can
exceed the AUC of the remaining traits."""

BEFORE_THERAPY = TraitModel.of(
    "mri",
    "signal_response",
    size={"size": 0.95},
    chemosensitivity={"irregularity": -0.15, "rim_enhancement": -0.20, "washout": 0.25}
    | {"low_adc": 0.30, "heterogeneity": -0.35, "edema": -0.20},
)
"""MRI before therapy tells a little of what therapy will do. Our choice of strengths."""

CHANGE = TraitModel.of(
    "mri",
    "signal_response",
    chemosensitivity={"shrinkage": 0.75, "adc_rise": 0.65, "enhancement_drop": 0.60, "edema_resolution": 0.40},
)
"""What changes from before to after therapy. After therapy alone these are mixed with how the tumor was before; the two
visits together show them undisturbed, which is why longitudinal MRI exceeds either visit. Our choice of strengths."""

VASCULARITY = TraitModel.of("mri", "signal_response", chemosensitivity={"vascularity": 0.0})
"""How strongly the tumor takes up contrast to begin with: says nothing of the response, and hides the drop of enhancement
from whoever sees the second visit alone."""

IMAGES = {"ultrasound": ULTRASOUND, "key_frame": KEY_FRAME, "motion": MOTION, "mri": MRI, "mammography": MAMMOGRAPHY}
"""Trait models of the patients operated at once, by the random stream that draws them."""

NODE_COUNT_CHANCE = {0: (0.46, 0.30, 0.16, 0.08), 1: (0.15, 0.25, 0.30, 0.30)}
"""Chance of 1-4 nodes on CT, without and with metastasis: about 2.16 each, as 1,128 in 523 patients (Park 2024).

More nodes are imaged where there is disease, so their number alone tells something (`ct_node_count` in truth.json), and
whoever counts a patient's rows in images.csv uses it. A model of single node images must not."""

MALIGNANT_SHARE = 0.97
"""Chance that a node imaged in a positive patient is malignant, given that at least one is; about 43 % of all nodes are
(Park 2024: 48 %, among patients with more disease)."""

NODE_ALIKE = 0.35
"""Correlation of a trait between nodes of one patient, given their labels: one scanner, one phase, one body. Our choice."""

MALIGNANT_NODES = 538 / 1128


LARGEST_SCORE = 2.5
"""Appearance is constant beyond this many standard deviations."""


def trait_scores(scores: np.ndarray, names: tuple[str, ...]) -> list[float]:
    """Standard normal scores, one per name, clipped to +-LARGEST_SCORE. Raises ValueError for another shape or no number."""
    values = np.asarray(scores, dtype=float)
    if values.shape != (len(names),) or not np.isfinite(values).all():
        raise ValueError(f"expected {len(names)} finite scores ({', '.join(names)}), got shape {values.shape}")
    return [float(value) for value in np.clip(values, -LARGEST_SCORE, LARGEST_SCORE)]


def draw_traits(
    trait_model: TraitModel, hidden: dict[str, np.ndarray], spec: SimulationSpec, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """{column of latent.csv: (n,) scores} of one modality.

    hidden: invasiveness, size_mm, aln_metastasis, and chemosensitivity where the model asks for it, (n,) each.
    """
    drawn = {}
    for driver, column in zip(trait_model.drivers, trait_model.columns(), strict=True):
        strength = trait_model.strength(driver, spec)
        if driver.source == "size":
            shown = model.standardized_log_size(hidden["size_mm"])
        elif driver.source == "status":
            shown = hidden["aln_metastasis"]
        else:
            shown = hidden[driver.source]
        left = 1.0 if driver.source == "status" else np.sqrt(1.0 - strength**2)
        drawn[column] = strength * shown + left * rng.standard_normal(shown.size)
    return drawn


def rendered(
    trait_model: TraitModel, scores: dict[str, float], spec: SimulationSpec, prevalence: float = model.TARGET_PREVALENCE
) -> np.ndarray:
    """(traits,) scores as the physics takes them: mean 0 and variance 1 over the population.

    prevalence: of what "status" stands for; only traits driven by it need to be shifted and scaled.
    """
    values = []
    for driver, column in zip(trait_model.drivers, trait_model.columns(), strict=True):
        apart = trait_model.strength(driver, spec) if driver.source == "status" else 0.0
        spread = np.sqrt(1.0 + apart**2 * prevalence * (1.0 - prevalence))
        values.append((scores[column] - apart * prevalence) / spread)
    return np.array(values)


def node_count_chance(status: int, spec: SimulationSpec) -> np.ndarray:
    """(4,) chance of 1, 2, 3, 4 nodes on CT; without signal the same for both outcomes."""
    chances = np.array([NODE_COUNT_CHANCE[0], NODE_COUNT_CHANCE[1]])
    typical = (1.0 - model.TARGET_PREVALENCE) * chances[0] + model.TARGET_PREVALENCE * chances[1]
    return (1.0 - spec.signal_ct) * typical + spec.signal_ct * chances[status]


def draw_node_counts(status: np.ndarray, spec: SimulationSpec, rng: np.random.Generator) -> np.ndarray:
    """(n,) 1-4 nodes on CT given each patient's status."""
    cumulative = np.array([np.cumsum(node_count_chance(outcome, spec)) for outcome in (0, 1)])
    return 1 + (rng.random(status.size)[:, None] > cumulative[status, :3]).sum(axis=1)


def draw_node_labels(status: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) 1 = malignant: none in a negative patient, at least one in a positive one."""
    if not status:
        return np.zeros(count, dtype=int)
    while True:
        labels = (rng.random(count) < MALIGNANT_SHARE).astype(int)
        if labels.any():
            return labels


def draw_node_traits(labels: np.ndarray, spec: SimulationSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """{column: (nodes,) scores} of one patient's nodes."""
    drawn = {}
    for driver, column in zip(NODE.drivers, NODE.columns(), strict=True):
        common, own = rng.standard_normal(), rng.standard_normal(labels.size)
        noise = np.sqrt(NODE_ALIKE) * common + np.sqrt(1.0 - NODE_ALIKE) * own
        drawn[column] = NODE.strength(driver, spec) * labels + noise
    return drawn

"""The five published systems as data: sizes, models, claims and published numbers, each with its source.

The only home of published numbers. What is not published in an abstract is None and shown as "not available"; how each
system is rebuilt, and what we chose where the abstract is silent, its notebook says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

CLAIM_KINDS = ("better", "not different", "optimism", "level")
METRIC_NAMES = {"auc": "AUC", "accuracy": "accuracy", "sensitivity": "sensitivity", "specificity": "specificity"}


@dataclass(frozen=True)
class Published:
    """A published figure: value with its 95 % interval where one is given (None: not available), on a named split."""

    model: str
    split: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Claim:
    """A published statement that can be tested, in our words.

    kind, one of CLAIM_KINDS: "better": `better` exceeds `worse` in `metric` on `split`; "not different": the two were not
    told apart; "optimism": `better` is better on training than on `split`; "level": `better` reaches the published value.
    The last two have no `worse`. p: as printed, or None. difference, low, high: printed with the claim; None where the
    paper prints none (`published_difference` then takes it from the published values, if it follows from them).
    """

    better: str
    worse: str | None
    split: str
    metric: str = "auc"
    p: str | None = None
    kind: str = "better"
    sentence: str = ""
    difference: float | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in CLAIM_KINDS:
            raise ValueError(f"kind must be one of {CLAIM_KINDS}, not {self.kind!r}")
        if (self.worse is None) != (self.kind in ("optimism", "level")):
            raise ValueError(f"a claim of kind {self.kind!r} {'has no' if self.worse else 'needs a'} second model")

    @property
    def models(self) -> tuple[str, ...]:
        """The one or two published models that it is about."""
        return (self.better,) if self.worse is None else (self.better, self.worse)

    def __str__(self) -> str:
        if self.kind == "optimism":
            return f"{self.better} is better on training than on new patients"
        if self.kind == "level":
            return f"{self.better} reaches the published {METRIC_NAMES[self.metric]}"
        return f"{self.better} {'beats' if self.kind == 'better' else 'is not told apart from'} {self.worse}"


@dataclass(frozen=True)
class Model:
    """A published model and its rebuilt one.

    notebook: that rebuilds it; shown: what it sees, by the name under which a simulated cohort states the best AUC that
    could be reached; here: its names in our predictions, most likely first, if not its own, because which network it is
    was chosen on our validation patients; role: in our predictions; joins: the published models whose
    scores it takes.
    """

    name: str
    notebook: str
    shown: str
    here: tuple[str, ...] = ()
    role: str = "main"
    joins: tuple[str, ...] = ()

    @property
    def names_here(self) -> tuple[str, ...]:
        """The names that it may have in our predictions, most likely first."""
        return self.here or (self.name,)


@dataclass(frozen=True)
class Study:
    """One of the five systems.

    n: patients by cohort part as published; endpoint: column of patients.csv; models: as published; contrasts: the
    published statements beside the levels that `published` gives; split_names: {our split: what the paper calls it}, where
    it differs.
    """

    key: str
    title: str
    source: str
    doi: str
    endpoint: str
    n: dict[str, int]
    models: tuple[Model, ...]
    published: tuple[Published, ...]
    contrasts: tuple[Claim, ...]
    split_names: dict[str, str] = field(default_factory=dict)

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The contrasts, and a claim of kind "level" for every published figure that has a value."""
        given = [figure for figure in self.published if figure.value is not None]
        words = [f"The abstract gives this {METRIC_NAMES[figure.metric]}." for figure in given]
        return self.contrasts + tuple(
            Claim(figure.model, None, figure.split, figure.metric, kind="level", sentence=sentence)
            for figure, sentence in zip(given, words, strict=True)
        )

    def model(self, name: str) -> Model | None:
        """A model by its published name or by one that it has here; None if the study has no such model."""
        return next((model for model in self.models if name in (model.name, *model.here)), None)

    def split_name(self, split: str) -> str:
        """What the paper calls our `split`: Li 2026's "validation" is our "test"."""
        return self.split_names.get(split, split)


def _contrasts(
    better: str, others: Iterable[str], sentence: str, splits: Iterable[str] = ("test",), **more: str
) -> tuple[Claim, ...]:
    """One claim per split and other model, in the same words."""
    return tuple(Claim(better, other, split, sentence=sentence, **more) for split in splits for other in others)


TANG = Study(
    key="tang",
    title="Ultrasound + MRI + clinical",
    source="Tang 2025, Academic Radiology",
    doi="10.1016/j.acra.2024.07.029",
    endpoint="aln_metastasis",
    n={"development and internal validation": 465, "external": 123},
    models=(
        Model("DL_US", "22_ultrasound", "ultrasound"),
        Model("DL_MRI", "24_mri", "mri"),
        Model("DL_MRI+US", "31_fusion", "ultrasound_mri", joins=("DL_MRI", "DL_US")),
        Model("clinical", "21_clinical", "clinical"),
        Model("DL_MRI+US+Clinical", "31_fusion", "clinical_ultrasound_mri", joins=("DL_MRI", "DL_US", "clinical")),
    ),
    published=(
        Published("DL_MRI+US+Clinical", "test", "auc", 0.819, 0.734, 0.903),
        Published("DL_MRI+US+Clinical", "external", "auc", 0.809, 0.723, 0.895),
        *(Published(model, "test", "auc", None) for model in ("DL_US", "DL_MRI", "clinical")),
    ),
    contrasts=_contrasts(
        "DL_MRI+US+Clinical",
        ("DL_US", "DL_MRI", "DL_MRI+US", "clinical"),
        "Of the five models the one that joins both modalities and clinical variables is the best.",
        splits=("test", "external"),
    ),
    split_names={"test": "internal validation"},
)

CT_CROPS = {"FSC": "ct_nodes_fixed_size", "ASC": "ct_nodes_adjustable_square"}
CT_NETWORKS = {"DenseNet": ("densenet121",), "ResNet": ("resnet50", "resnet18"), "EfficientNet": ("efficientnet_b0",)}
"""Published network and the architectures that may stand for it here."""

PARK_BEST = tuple(f"DenseNet121 {crop}" for crop in CT_CROPS)

PARK = Study(
    key="park",
    title="CT node crops",
    source="Park 2024, Current Oncology 31:2278",
    doi="10.3390/curroncol31040169",
    endpoint="aln_metastasis",
    n={"patients": 523, "node images": 1128, "malignant images": 538, "benign images": 590},
    models=(
        *(Model(f"DenseNet121 {crop}", "25_ct_nodes", shown, (f"CT_{crop}",)) for crop, shown in CT_CROPS.items()),
        Model("DenseNet121 FSC+ASC", "25_ct_nodes", "ct_nodes", ("CT_FSC+ASC",), joins=PARK_BEST),
        *(
            Model(f"{network} {crop}", "25_ct_nodes", shown, tuple(f"CT_{crop}/{name}" for name in names), "candidate")
            for crop, shown in CT_CROPS.items()
            for network, names in CT_NETWORKS.items()
        ),
    ),
    published=(
        Published("DenseNet121 FSC", "test", "auc", 0.934),
        Published("DenseNet121 ASC", "test", "auc", 0.939),
        Published("DenseNet121 FSC+ASC", "test", "auc", 0.968),
        Published("DenseNet121 FSC+ASC", "test", "accuracy", 0.938),
        Published("DenseNet121 FSC+ASC", "test", "sensitivity", 0.980),
        Published("DenseNet121 FSC+ASC", "test", "specificity", 0.903),
    ),
    contrasts=(
        *_contrasts(
            "DenseNet121 FSC+ASC",
            PARK_BEST,
            "The ensemble of both crops has the highest AUC of the three.",
        ),
        *(
            claim
            for crop in CT_CROPS
            for claim in _contrasts(
                f"DenseNet {crop}",
                (f"ResNet {crop}", f"EfficientNet {crop}"),
                "For either crop DenseNet is the best of the three networks.",
            )
        ),
    ),
)

LI_VIDEO = Study(
    key="li_video",
    title="Ultrasound video",
    source="Li 2023, Frontiers in Oncology 13:1219838",
    doi="10.3389/fonc.2023.1219838",
    endpoint="aln_metastasis",
    n={"training, validation and test A": 271, "test A": 61, "test B": 49},
    models=(
        *(Model(name, "23_ultrasound_video", "video") for name in ("TIN", "R(2+1)D", "ResNet-3D")),
        Model("static image", "23_ultrasound_video", "video_key_frame"),
    ),
    published=(
        Published("TIN", "test", "auc", 0.914, 0.843, 0.985),
        Published("static image", "test", "auc", 0.856, 0.753, 0.959),
        Published("TIN", "test", "accuracy", 52 / 61),
        Published("TIN", "test", "sensitivity", 16 / 21),
        Published("TIN", "test", "specificity", 36 / 40),
        Published("TIN", "external", "auc", None),
    ),
    contrasts=(
        *_contrasts("TIN", ("static image",), "The video network beats the network on a still image.", p="< 0.05"),
        *_contrasts("TIN", ("R(2+1)D", "ResNet-3D"), "Of the three video networks TIN is the best."),
    ),
    split_names={"test": "test A", "external": "test B"},
)

GUO = Study(
    key="guo",
    title="Mammography + MRI, radiomics and deep features",
    source="Guo 2024, Frontiers in Immunology 15:1482020",
    doi="10.3389/fimmu.2024.1482020",
    endpoint="aln_metastasis",
    n={"patients": 270},
    models=tuple(
        Model(name, "26_mammography_mri", "mri_mammography")
        for name in ("radiomics-LR", "radiomics-MLP", "DL-MLP", "combined-MLP")
    ),
    published=(
        Published("radiomics-LR", "test", "auc", 0.759),
        Published("radiomics-MLP", "test", "auc", 0.756),
        Published("DL-MLP", "test", "auc", 0.712),
        Published("combined-MLP", "test", "auc", 0.846),
    ),
    contrasts=_contrasts(
        "combined-MLP",
        ("radiomics-MLP", "DL-MLP", "radiomics-LR"),
        "Radiomics and deep features together have the highest test AUC.",
    ),
)

LI_NAT = Study(
    key="li_nat",
    title="Longitudinal MRI, axillary response",
    source="Li 2026, Breast Cancer: Targets and Therapy 18:568337",
    doi="not available",
    endpoint="apcr",
    n={"training": 144, "validation": 110},
    models=(
        Model("clinical", "27_longitudinal_mri", "response_clinical"),
        Model("radiomics", "27_longitudinal_mri", "response_mri_longitudinal"),
        Model("deep learning", "27_longitudinal_mri", "response_mri_longitudinal"),
        Model("DLR", "27_longitudinal_mri", "response_clinical_mri_longitudinal"),
    ),
    published=(
        Published("DLR", "train", "auc", 0.939, 0.905, 0.974),
        Published("DLR", "test", "auc", 0.856, 0.774, 0.938),
        *(Published(model, "test", "auc", None) for model in ("clinical", "radiomics", "deep learning")),
    ),
    contrasts=(
        *_contrasts("DLR", ("clinical",), "By DeLong's test DLR is better than the clinical model only.", p="< 0.0001"),
        *_contrasts(
            "DLR",
            ("radiomics", "deep learning"),
            "By DeLong's test DLR is better than the clinical model only: it was not told apart from this one.",
            kind="not different",
        ),
        Claim(
            "DLR",
            None,
            "test",
            kind="optimism",
            p="0.043",
            sentence="Bootstrap (2,000) of the difference between training and validation AUC.",
            difference=0.083,
            low=0.0019,
            high=0.1786,
        ),
    ),
    split_names={"train": "training", "test": "validation"},
)

STUDIES: dict[str, Study] = {study.key: study for study in (TANG, PARK, LI_VIDEO, GUO, LI_NAT)}

SHOWN_TO: dict[tuple[str, str], str] = {
    (study.key, model.names_here[0]): model.shown
    for study in STUDIES.values()
    for model in study.models
    if model.role == "main"
}
"""{(study, main model here): what it is shown}, by the names under which a simulated cohort states what can be reached."""


def shown_to(study: str, model: str) -> str | None:
    """What a model of a study is shown, one of a candidate architecture too; None if that is not known."""
    known = STUDIES[study].model(model) if study in STUDIES else None
    return None if known is None else known.shown


def title_of(study: str) -> str:
    """A study's subject and who published it, for headings; the key itself if it is none of the five."""
    known = STUDIES.get(study)
    return study if known is None else f"{known.title} (after {known.source.split(',')[0]})"


def published_value(study: str, model: str, split: str, metric: str = "auc") -> Published | None:
    """The published figure of a model, ours or theirs by name.

    None if the study is silent on it, or unknown; an entry with value None is "not available" too.
    """
    if study not in STUDIES:
        return None
    named = STUDIES[study].model(model)
    wanted = (model if named is None else named.name, split, metric)
    return next((p for p in STUDIES[study].published if (p.model, p.split, p.metric) == wanted), None)


def published_difference(study: str, claim: Claim) -> Published | None:
    """The difference that a study published with a claim, or that follows from its published values; None if neither.

    A difference that only follows has no interval: the models were measured on the same patients, and how their errors go
    together is not published.
    """
    if claim.kind == "level":
        return None
    name = f"{METRIC_NAMES[claim.metric]} difference"
    about = claim.better if claim.worse is None else f"{claim.better} minus {claim.worse}"
    if claim.difference is not None:
        return Published(about, claim.split, name, claim.difference, claim.low, claim.high)
    sides = [(claim.better, claim.split), (claim.worse, claim.split)]
    if claim.kind == "optimism":
        sides = [(claim.better, "train"), (claim.better, claim.split)]
    known = [published_value(study, model, split, claim.metric) for model, split in sides]
    if any(figure is None or figure.value is None for figure in known):
        return None
    return Published(about, claim.split, name, round(known[0].value - known[1].value, 6))

"""The five published systems as data: sizes, models, claims and published numbers, each with its source.

The only home of published numbers. What is not published in an abstract is None and shown as "not available"; what we
chose ourselves is in `default_build` and never passes for theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
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
class Study:
    """One of the five systems.

    n: patients by cohort part as published; endpoint: column of patients.csv; models: as published. rebuilt_as: {our name:
    published name} of models that have a name of their own here, because which network it is was chosen on our validation
    patients; made_by: {published model: notebook}; split_names: {our split: what the paper calls it}, where it differs.
    """

    key: str
    title: str
    source: str
    doi: str
    endpoint: str
    n: dict[str, int]
    models: tuple[str, ...]
    published: tuple[Published, ...]
    claims: tuple[Claim, ...]
    default_build: str
    notebooks: tuple[str, ...]
    anchors: tuple[str, ...] = field(default=())
    rebuilt_as: dict[str, str] = field(default_factory=dict)
    made_by: dict[str, str] = field(default_factory=dict)
    split_names: dict[str, str] = field(default_factory=dict)

    def split_name(self, split: str) -> str:
        """What the paper calls our `split`: Li 2026's "validation" is our "test"."""
        return self.split_names.get(split, split)

    def names_here(self, model: str) -> tuple[str, ...]:
        """The names that a published model may have in our predictions, most likely first."""
        return tuple(ours for ours, theirs in self.rebuilt_as.items() if theirs == model) or (model,)


def _levels(published: tuple[Published, ...]) -> tuple[Claim, ...]:
    """A claim of kind "level" for every published figure that has a value."""
    return tuple(
        Claim(
            figure.model,
            None,
            figure.split,
            figure.metric,
            kind="level",
            sentence=f"The abstract gives this {METRIC_NAMES[figure.metric]}.",
        )
        for figure in published
        if figure.value is not None
    )


_TANG_PUBLISHED = (
    Published("DL_MRI+US+Clinical", "test", "auc", 0.819, 0.734, 0.903),
    Published("DL_MRI+US+Clinical", "external", "auc", 0.809, 0.723, 0.895),
    Published("DL_US", "test", "auc", None),
    Published("DL_MRI", "test", "auc", None),
    Published("clinical", "test", "auc", None),
)

TANG = Study(
    key="tang",
    title="Ultrasound + MRI + clinical",
    source="Tang 2025, Academic Radiology",
    doi="10.1016/j.acra.2024.07.029",
    endpoint="aln_metastasis",
    n={"development and internal validation": 465, "external": 123},
    models=("DL_US", "DL_MRI", "DL_MRI+US", "clinical", "DL_MRI+US+Clinical"),
    published=_TANG_PUBLISHED,
    claims=(
        *(
            Claim(
                "DL_MRI+US+Clinical",
                other,
                split,
                sentence="Of the five models the one that joins both modalities and clinical variables is the best.",
            )
            for split in ("test", "external")
            for other in ("DL_US", "DL_MRI", "DL_MRI+US", "clinical")
        ),
        *_levels(_TANG_PUBLISHED),
    ),
    default_build=(
        "Tumor-box crops; ResNet-50, DenseNet-121 and EfficientNet-B0 per modality, the best by inner validation; 7:3 split "
        "stratified by patient; univariable then multivariable logistic regression for the clinical model; score-level fusion "
        "on out-of-fold logits."
    ),
    notebooks=("21_clinical", "22_ultrasound", "24_mri", "31_fusion"),
    made_by={
        "clinical": "21_clinical",
        "DL_US": "22_ultrasound",
        "DL_MRI": "24_mri",
        "DL_MRI+US": "31_fusion",
        "DL_MRI+US+Clinical": "31_fusion",
    },
    split_names={"test": "internal validation"},
)

_PARK_PUBLISHED = (
    Published("DenseNet121 FSC", "test", "auc", 0.934),
    Published("DenseNet121 ASC", "test", "auc", 0.939),
    Published("DenseNet121 FSC+ASC", "test", "auc", 0.968),
    Published("DenseNet121 FSC+ASC", "test", "accuracy", 0.938),
    Published("DenseNet121 FSC+ASC", "test", "sensitivity", 0.980),
    Published("DenseNet121 FSC+ASC", "test", "specificity", 0.903),
)

PARK = Study(
    key="park",
    title="CT node crops",
    source="Park 2024, Current Oncology 31:2278",
    doi="10.3390/curroncol31040169",
    endpoint="aln_metastasis",
    n={"patients": 523, "node images": 1128, "malignant images": 538, "benign images": 590},
    models=(
        "DenseNet121 FSC",
        "DenseNet121 ASC",
        "DenseNet121 FSC+ASC",
        *(f"{network} {crop}" for crop in ("FSC", "ASC") for network in ("DenseNet", "ResNet", "EfficientNet")),
    ),
    published=_PARK_PUBLISHED,
    claims=(
        *(
            Claim(
                "DenseNet121 FSC+ASC",
                f"DenseNet121 {crop}",
                "test",
                sentence="The ensemble of both crops has the highest AUC of the three.",
            )
            for crop in ("FSC", "ASC")
        ),
        *(
            Claim(
                f"DenseNet {crop}",
                f"{network} {crop}",
                "test",
                sentence="For either crop DenseNet is the best of the three networks.",
            )
            for crop in ("FSC", "ASC")
            for network in ("ResNet", "EfficientNet")
        ),
        *_levels(_PARK_PUBLISHED),
    ),
    default_build=(
        "Soft-tissue window; fixed-size crop of 40-50 mm and adjustable square crop with a 10-20 % margin, both at 224 pixels; "
        "mean probability of the best network per crop, chosen on validation; split by patient, intervals clustered by patient."
    ),
    notebooks=("25_ct_nodes",),
    rebuilt_as={
        "CT_FSC": "DenseNet121 FSC",
        "CT_ASC": "DenseNet121 ASC",
        "CT_FSC+ASC": "DenseNet121 FSC+ASC",
        **{
            f"CT_{crop}/{ours}": f"{theirs} {crop}"
            for crop in ("FSC", "ASC")
            for ours, theirs in (
                ("densenet121", "DenseNet"),
                ("resnet50", "ResNet"),
                ("resnet18", "ResNet"),
                ("efficientnet_b0", "EfficientNet"),
            )
        },
    },
    made_by=dict.fromkeys(
        (
            "DenseNet121 FSC",
            "DenseNet121 ASC",
            "DenseNet121 FSC+ASC",
            *(f"{network} {crop}" for crop in ("FSC", "ASC") for network in ("DenseNet", "ResNet", "EfficientNet")),
        ),
        "25_ct_nodes",
    ),
)

_LI_VIDEO_PUBLISHED = (
    Published("TIN", "test", "auc", 0.914, 0.843, 0.985),
    Published("static image", "test", "auc", 0.856, 0.753, 0.959),
    Published("TIN", "test", "accuracy", 52 / 61),
    Published("TIN", "test", "sensitivity", 16 / 21),
    Published("TIN", "test", "specificity", 36 / 40),
    Published("TIN", "external", "auc", None),
)

LI_VIDEO = Study(
    key="li_video",
    title="Ultrasound video",
    source="Li 2023, Frontiers in Oncology 13:1219838",
    doi="10.3389/fonc.2023.1219838",
    endpoint="aln_metastasis",
    n={"training, validation and test A": 271, "test A": 61, "test B": 49},
    models=("TIN", "R(2+1)D", "ResNet-3D", "static image"),
    published=_LI_VIDEO_PUBLISHED,
    claims=(
        Claim(
            "TIN", "static image", "test", p="< 0.05", sentence="The video network beats the network on a still image."
        ),
        Claim("TIN", "R(2+1)D", "test", sentence="Of the three video networks TIN is the best."),
        Claim("TIN", "ResNet-3D", "test", sentence="Of the three video networks TIN is the best."),
        *_levels(_LI_VIDEO_PUBLISHED),
    ),
    default_build=(
        "Eight segments sampled per video; R(2+1)D-18, ResNet-3D-18 and TIN on a ResNet; the same 2-D backbone on the key frame "
        "as static baseline."
    ),
    notebooks=("23_ultrasound_video",),
    made_by=dict.fromkeys(("TIN", "R(2+1)D", "ResNet-3D", "static image"), "23_ultrasound_video"),
    split_names={"test": "test A", "external": "test B"},
)

_GUO_PUBLISHED = (
    Published("radiomics-LR", "test", "auc", 0.759),
    Published("radiomics-MLP", "test", "auc", 0.756),
    Published("DL-MLP", "test", "auc", 0.712),
    Published("combined-MLP", "test", "auc", 0.846),
)

GUO = Study(
    key="guo",
    title="Mammography + MRI, radiomics and deep features",
    source="Guo 2024, Frontiers in Immunology 15:1482020",
    doi="10.3389/fimmu.2024.1482020",
    endpoint="aln_metastasis",
    n={"patients": 270},
    models=("radiomics-LR", "radiomics-MLP", "DL-MLP", "combined-MLP"),
    published=_GUO_PUBLISHED,
    claims=(
        *(
            Claim(
                "combined-MLP",
                other,
                "test",
                sentence="Radiomics and deep features together have the highest test AUC.",
            )
            for other in ("radiomics-MLP", "DL-MLP", "radiomics-LR")
        ),
        *_levels(_GUO_PUBLISHED),
    ),
    default_build="PyRadiomics on the lesion (normalized, fixed bin width, LoG, wavelet) and 3-D ResNet-18 pooled features; 7:3.",
    notebooks=("26_mammography_mri",),
    made_by=dict.fromkeys(("radiomics-LR", "radiomics-MLP", "DL-MLP", "combined-MLP"), "26_mammography_mri"),
)

_LI_NAT_PUBLISHED = (
    Published("DLR", "train", "auc", 0.939, 0.905, 0.974),
    Published("DLR", "test", "auc", 0.856, 0.774, 0.938),
    Published("clinical", "test", "auc", None),
    Published("radiomics", "test", "auc", None),
    Published("deep learning", "test", "auc", None),
)

LI_NAT = Study(
    key="li_nat",
    title="Longitudinal MRI, axillary response",
    source="Li 2026, Breast Cancer: Targets and Therapy 18:568337",
    doi="not available",
    endpoint="apcr",
    n={"training": 144, "validation": 110},
    models=("clinical", "radiomics", "deep learning", "DLR"),
    published=_LI_NAT_PUBLISHED,
    claims=(
        Claim(
            "DLR",
            "clinical",
            "test",
            p="< 0.0001",
            sentence="By DeLong's test DLR is better than the clinical model only.",
        ),
        *(
            Claim(
                "DLR",
                other,
                "test",
                kind="not different",
                sentence="By DeLong's test DLR is better than the clinical model only: it was not told apart from this one.",
            )
            for other in ("radiomics", "deep learning")
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
        *_levels(_LI_NAT_PUBLISHED),
    ),
    default_build=(
        "Features per timepoint and sequence with delta = (post - pre) / (|pre| + eps); Mann-Whitney, Spearman and LASSO inside "
        "the training fold; eight learners; unpaired bootstrap of the training-validation difference."
    ),
    notebooks=("27_longitudinal_mri",),
    made_by=dict.fromkeys(("clinical", "radiomics", "deep learning", "DLR"), "27_longitudinal_mri"),
    split_names={"train": "training", "test": "validation"},
)

STUDIES: dict[str, Study] = {study.key: study for study in (TANG, PARK, LI_VIDEO, GUO, LI_NAT)}


SHOWN_TO: dict[str | tuple[str, str], str] = {
    "clinical": "clinical",
    "DL_US": "ultrasound",
    "DL_MRI": "mri",
    "TIN": "video",
    "R(2+1)D": "video",
    "ResNet-3D": "video",
    "static image": "video_key_frame",
    "CT_FSC": "ct_nodes_fixed_size",
    "CT_ASC": "ct_nodes_adjustable_square",
    "CT_FSC+ASC": "ct_nodes",
    "DL_MRI+US": "ultrasound_mri",
    "DL_MRI+US+Clinical": "clinical_ultrasound_mri",
    "radiomics-LR": "mri_mammography",
    "radiomics-MLP": "mri_mammography",
    "DL-MLP": "mri_mammography",
    "combined-MLP": "mri_mammography",
    ("li_nat", "clinical"): "response_clinical",
    ("li_nat", "radiomics"): "response_mri_longitudinal",
    ("li_nat", "deep learning"): "response_mri_longitudinal",
    ("li_nat", "DLR"): "response_clinical_mri_longitudinal",
}
"""{model, or (study, model) where a name means something else there: what it is shown}, by the names under which a
simulated cohort states the best AUC that could be reached. Ask `shown_to`."""


def shown_to(study: str, model: str, known: Mapping[str | tuple[str, str], str] = SHOWN_TO) -> str | None:
    """What a model of a study is shown; None if that is not known. An architecture behind a slash changes nothing."""
    for name in (model, model.split("/")[0]):
        for key in ((study, name), name):
            if key in known:
                return known[key]
    return None


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
    wanted = (STUDIES[study].rebuilt_as.get(model, model), split, metric)
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

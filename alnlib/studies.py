"""The five published systems as data: sizes, models, claims and published numbers, each with its source.

The only home of published numbers. What is not published in an abstract is None and shown as "not available"; what we
chose ourselves is in `default_build` and never passes for theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field


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
    """A published statement that can be tested: `better` beats `worse` in `metric` on `split`. p as printed, or None."""

    better: str
    worse: str
    split: str
    metric: str = "auc"
    p: str | None = None


@dataclass(frozen=True)
class Study:
    """One of the five systems.

    n: patients by cohort part as published; endpoint: column of patients.csv; rebuilt_as: {our name: published name} of
    models that have a name of their own here, because which network it is was chosen on our validation patients.
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


TANG = Study(
    key="tang",
    title="Ultrasound + MRI + clinical",
    source="Tang 2025, Academic Radiology",
    doi="10.1016/j.acra.2024.07.029",
    endpoint="aln_metastasis",
    n={"development and internal validation": 465, "external": 123},
    models=("DL_US", "DL_MRI", "DL_MRI+US", "clinical", "DL_MRI+US+Clinical"),
    published=(
        Published("DL_MRI+US+Clinical", "test", "auc", 0.819, 0.734, 0.903),
        Published("DL_MRI+US+Clinical", "external", "auc", 0.809, 0.723, 0.895),
        Published("DL_US", "test", "auc", None),
        Published("DL_MRI", "test", "auc", None),
        Published("clinical", "test", "auc", None),
    ),
    claims=(
        Claim("DL_MRI+US+Clinical", "DL_US", "test"),
        Claim("DL_MRI+US+Clinical", "DL_MRI", "test"),
        Claim("DL_MRI+US+Clinical", "DL_MRI+US", "test"),
        Claim("DL_MRI+US+Clinical", "clinical", "test"),
    ),
    default_build=(
        "Tumor-box crops; ResNet-50, DenseNet-121 and EfficientNet-B0 per modality, the best by inner validation; 7:3 split "
        "stratified by patient; univariable then multivariable logistic regression for the clinical model; score-level fusion "
        "on out-of-fold logits."
    ),
    notebooks=("21_clinical", "22_ultrasound", "24_mri"),
)

PARK = Study(
    key="park",
    title="CT node crops",
    source="Park 2024, Current Oncology 31:2278",
    doi="10.3390/curroncol31040169",
    endpoint="aln_metastasis",
    n={"patients": 523, "node images": 1128, "malignant images": 538, "benign images": 590},
    models=("DenseNet121 FSC", "DenseNet121 ASC", "DenseNet121 FSC+ASC"),
    published=(
        Published("DenseNet121 FSC", "test", "auc", 0.934),
        Published("DenseNet121 ASC", "test", "auc", 0.939),
        Published("DenseNet121 FSC+ASC", "test", "auc", 0.968),
        Published("DenseNet121 FSC+ASC", "test", "accuracy", 0.938),
        Published("DenseNet121 FSC+ASC", "test", "sensitivity", 0.980),
        Published("DenseNet121 FSC+ASC", "test", "specificity", 0.903),
    ),
    claims=(
        Claim("DenseNet121 FSC+ASC", "DenseNet121 FSC", "test"),
        Claim("DenseNet121 FSC+ASC", "DenseNet121 ASC", "test"),
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
    },
)

LI_VIDEO = Study(
    key="li_video",
    title="Ultrasound video",
    source="Li 2023, Frontiers in Oncology 13:1219838",
    doi="10.3389/fonc.2023.1219838",
    endpoint="aln_metastasis",
    n={"training, validation and test A": 271, "test A": 61, "test B": 49},
    models=("TIN", "R(2+1)D", "ResNet-3D", "static image"),
    published=(
        Published("TIN", "test", "auc", 0.914, 0.843, 0.985),
        Published("static image", "test", "auc", 0.856, 0.753, 0.959),
        Published("TIN", "test", "accuracy", 52 / 61),
        Published("TIN", "test", "sensitivity", 16 / 21),
        Published("TIN", "test", "specificity", 36 / 40),
        Published("TIN", "external", "auc", None),
    ),
    claims=(Claim("TIN", "static image", "test", p="< 0.05"),),
    default_build=(
        "Eight segments sampled per video; R(2+1)D-18, ResNet-3D-18 and TIN on a ResNet; the same 2-D backbone on the key frame "
        "as static baseline."
    ),
    notebooks=("23_ultrasound_video",),
)

GUO = Study(
    key="guo",
    title="Mammography + MRI, radiomics and deep features",
    source="Guo 2024, Frontiers in Immunology 15:1482020",
    doi="10.3389/fimmu.2024.1482020",
    endpoint="aln_metastasis",
    n={"patients": 270},
    models=("radiomics-LR", "radiomics-MLP", "DL-MLP", "combined-MLP"),
    published=(
        Published("radiomics-LR", "test", "auc", 0.759),
        Published("radiomics-MLP", "test", "auc", 0.756),
        Published("DL-MLP", "test", "auc", 0.712),
        Published("combined-MLP", "test", "auc", 0.846),
    ),
    claims=(Claim("combined-MLP", "radiomics-MLP", "test"), Claim("combined-MLP", "DL-MLP", "test")),
    default_build="PyRadiomics on the lesion (normalised, fixed bin width, LoG, wavelet) and 3-D ResNet-18 pooled features; 7:3.",
    notebooks=(),
)

LI_NAT = Study(
    key="li_nat",
    title="Longitudinal MRI, axillary response",
    source="Li 2026, Breast Cancer: Targets and Therapy 18:568337",
    doi="not available",
    endpoint="apcr",
    n={"training": 144, "validation": 110},
    models=("clinical", "radiomics", "deep learning", "DLR"),
    published=(
        Published("DLR", "train", "auc", 0.939, 0.905, 0.974),
        Published("DLR", "validation", "auc", 0.856, 0.774, 0.938),
        Published("DLR", "training minus validation", "auc difference", 0.083, 0.0019, 0.1786),
        Published("clinical", "validation", "auc", None),
    ),
    claims=(Claim("DLR", "clinical", "validation", p="< 0.0001"),),
    default_build=(
        "Features per timepoint and sequence with delta = (post - pre) / (|pre| + eps); Mann-Whitney, Spearman and LASSO inside "
        "the training fold; eight learners; unpaired bootstrap of the training-validation difference."
    ),
    notebooks=(),
)

STUDIES: dict[str, Study] = {study.key: study for study in (TANG, PARK, LI_VIDEO, GUO, LI_NAT)}


SHOWN_TO = {
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
}
"""{model: what it is shown}, by the names under which a simulated cohort states the best AUC that could be reached."""


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

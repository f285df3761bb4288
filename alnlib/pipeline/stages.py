"""The stage table: which notebook needs what and makes what. The only place where the order of the compendium is written.

Running the table is the business of `alnlib.pipeline.runner`; what a file means, that of the notebook that makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One notebook of the pipeline.

    notebook: file name without .ipynb, "NN_topic"; needs, makes: files of the run folder, a trailing "/" naming a folder;
    reads_data: reads the cohort's data folder; modality: the cohort must have images of it ("US", ...; "MRI+lesion": with
    a mask or box), "clinical" for clinical variables, or "endpoint apcr" for that endpoint; several are joined by " & ".
    Else the stage does not apply.
    """

    notebook: str
    title: str
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    reads_data: bool = False
    modality: str | None = None

    @property
    def number(self) -> str:
        """The two digits that begin the notebook's name."""
        return self.notebook[:2]


COHORT = tuple(
    f"cohort/{name}"
    for name in ("cohort.yaml", "patients.csv", "images.csv", "readers.csv", "splits.csv", "study.json")
)
PREDICTIONS = tuple(
    f"predictions/{name}.csv"
    for name in (
        "clinical",
        "ultrasound",
        "video",
        "mri",
        "ct",
        "mammography_mri",
        "longitudinal_mri",
        "fusion",
    )
)
TRUTH = ("sources/truth.csv", "sources/oracle.csv")
READERS = ("clinical/readers.csv", "video/readers.csv")

NOT_COMMITTED = ("networks/", "features/")
"""Folders of what stages make that is too large to be committed with the results of the simulated demo."""

STAGES: tuple[Stage, ...] = (
    Stage(
        "01_sources",
        "Where the data come from, verified or simulated",
        makes=(
            "sources/files.csv",
            "sources/manifest.csv",
            "sources/realism.csv",
            "sources/truth.csv",
            "sources/oracle.csv",
            "numbers/01_sources.json",
        ),
        reads_data=True,
    ),
    Stage(
        "11_cohort",
        "Cohort, inclusion flow, splits and Table 1",
        needs=("sources/files.csv",),
        makes=(*COHORT, "cohort/flow.csv", "cohort/table_one.csv", "cohort/beside_duke.csv", "numbers/11_cohort.json"),
        reads_data=True,
    ),
    Stage(
        "21_clinical",
        "Clinical model, nomogram and the radiologist's read",
        needs=COHORT,
        makes=(
            "predictions/clinical.csv",
            "clinical/univariable.csv",
            "clinical/multivariable_complete_cases.csv",
            "clinical/model.csv",
            "clinical/nomogram.csv",
            "clinical/readers.csv",
            "numbers/21_clinical.json",
        ),
        modality="clinical",
    ),
    Stage(
        "22_ultrasound",
        "Three 2-D networks on ultrasound stills",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/ultrasound.csv",
            "ultrasound/training_history.csv",
            "ultrasound/choice.csv",
            "numbers/22_ultrasound.json",
        ),
        reads_data=True,
        modality="US",
    ),
    Stage(
        "23_ultrasound_video",
        "TIN, R(2+1)D and ResNet-3D on sweeps, beside the still",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/video.csv",
            "video/training_history.csv",
            "video/against_still.csv",
            "video/readers.csv",
            "networks/video_tin.pt",
            "networks/video_still.pt",
            "video/crops.json",
            "numbers/23_ultrasound_video.json",
        ),
        reads_data=True,
        modality="USV",
    ),
    Stage(
        "24_mri",
        "Three 2-D networks on MRI, three slices as channels",
        needs=(*COHORT, *TRUTH),
        makes=("predictions/mri.csv", "mri/training_history.csv", "mri/choice.csv", "numbers/24_mri.json"),
        reads_data=True,
        modality="MRI+lesion",
    ),
    Stage(
        "25_ct_nodes",
        "CT nodes: two crops, three networks, two ways to split",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/ct.csv",
            *(f"ct/{name}.csv" for name in ("training_history", "choice", "operating_points", "beside_published")),
            *(f"ct/{name}.csv" for name in ("recovered", "image_level", "leakage", "leakage_difference")),
            "networks/ct_fsc.pt",
            "networks/ct_asc.pt",
            "ct/crops.json",
            "numbers/25_ct_nodes.json",
        ),
        reads_data=True,
        modality="CT+lesion",
    ),
    Stage(
        "26_mammography_mri",
        "Mammography + MRI: radiomics, deep features and both",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/mammography_mri.csv",
            "features/mammography_mri.parquet",
            *(f"mammography_mri/{name}.csv" for name in ("failures", "stability", "learners", "nested", "selection")),
            "numbers/26_mammography_mri.json",
        ),
        reads_data=True,
        modality="MG+lesion & MRI+lesion",
    ),
    Stage(
        "27_longitudinal_mri",
        "MRI before and after therapy: response in the axilla",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/longitudinal_mri.csv",
            "features/longitudinal_mri.parquet",
            *(f"longitudinal_mri/{name}.csv" for name in ("splits", "univariable", "multivariable", "failures")),
            *(
                f"longitudinal_mri/{name}.csv"
                for name in ("stability", "learners", "selection", "comparisons", "optimism")
            ),
            "numbers/27_longitudinal_mri.json",
        ),
        reads_data=True,
        modality="endpoint apcr",
    ),
    Stage(
        "31_fusion",
        "Ultrasound, MRI and clinical variables fused",
        needs=(*COHORT, *TRUTH, *(f"predictions/{name}.csv" for name in ("clinical", "ultrasound", "mri"))),
        makes=(
            "predictions/fusion.csv",
            *(f"fusion/{name}.csv" for name in ("scale", "odds_ratios", "voting", "patterns", "own_patterns")),
            *(f"fusion/{name}.csv" for name in ("withheld", "recovered")),
            "numbers/31_fusion.json",
        ),
    ),
    Stage(
        "41_discrimination",
        "ROC curves, comparisons, reclassification, readers",
        needs=(*COHORT, *TRUTH, *READERS, *PREDICTIONS),
        makes=(
            *(f"evaluation/{name}.csv" for name in ("discrimination", "curves", "comparisons", "reclassification")),
            *(f"evaluation/{name}.csv" for name in ("models_against_readers", "attained")),
            "numbers/41_discrimination.json",
        ),
    ),
    Stage(
        "42_calibration",
        "Calibration, before and after recalibration",
        needs=(*COHORT, *PREDICTIONS),
        makes=("evaluation/calibration.csv", "evaluation/recalibration.csv", "numbers/42_calibration.json"),
    ),
    Stage(
        "43_clinical_utility",
        "Decision curves, operations avoided, prevalence",
        needs=(*COHORT, *PREDICTIONS),
        makes=("evaluation/net_benefit.csv", "evaluation/prevalence.csv", "numbers/43_clinical_utility.json"),
    ),
    Stage(
        "44_validity",
        "Whether a result could be an artifact",
        needs=(
            *(*COHORT, *TRUTH, *PREDICTIONS, "evaluation/discrimination.csv"),
            *("features/mammography_mri.parquet", "features/longitudinal_mri.parquet"),
            *("ct/leakage.csv", "ct/leakage_difference.csv", "ct/image_level.csv"),
        ),
        makes=(
            *(f"evaluation/{name}.csv" for name in ("validity", "permuted", "selection_leak", "resplits")),
            *(
                f"evaluation/{name}.csv"
                for name in ("learning_curve", "threshold_optimism", "subgroups", "sample_size")
            ),
            "numbers/44_validity.json",
        ),
        reads_data=True,
    ),
    Stage(
        "51_explanations",
        "Where the CT networks look",
        needs=(*COHORT, "networks/ct_fsc.pt", "networks/ct_asc.pt", "ct/crops.json"),
        makes=(
            *(f"explanations/ct_{name}.csv" for name in ("heat_by_node", "heat_by_region", "faithfulness")),
            *(f"explanations/ct_{name}.csv" for name in ("randomization", "shortcut")),
            "numbers/51_explanations.json",
        ),
        reads_data=True,
    ),
    Stage(
        "52_key_frames",
        "Which frames the video network looks at",
        needs=(*COHORT, "networks/video_tin.pt", "video/crops.json"),
        makes=(
            *(f"explanations/video_{name}.csv" for name in ("key_frames", "key_frame_summary", "faithfulness")),
            "numbers/52_key_frames.json",
        ),
        reads_data=True,
    ),
    Stage(
        "91_published_claims",
        "Published claims, and reporting checklists",
        needs=(
            *(*COHORT, "cohort/flow.csv", "cohort/table_one.csv", *TRUTH, *PREDICTIONS),
            *(f"evaluation/{name}.csv" for name in ("discrimination", "comparisons", "calibration", "recalibration")),
            *(f"evaluation/{name}.csv" for name in ("net_benefit", "models_against_readers", "validity", "subgroups")),
            *("explanations/ct_faithfulness.csv", "explanations/video_faithfulness.csv"),
        ),
        makes=(
            *("report/claims.csv", "report/checklists.csv", "report/checklists.html"),
            "numbers/91_published_claims.json",
        ),
    ),
)

NUMBERS = "report/numbers.json"
"""Every number that prose shows, gathered by the runner from the stages' numbers/NN_topic.json."""


def check_table(stages: Sequence[Stage] = STAGES) -> None:
    """Raise ValueError unless names are unique and in order, every need has one maker, and that maker stands earlier."""
    numbers = [stage.number for stage in stages]
    if numbers != sorted(set(numbers)):
        raise ValueError(f"stage numbers must be unique and ascending: {numbers}")
    maker: dict[str, Stage] = {}
    for stage in stages:
        for need in stage.needs:
            if need not in maker:
                raise ValueError(f"{stage.notebook} needs {need}, which no earlier stage makes")
        for made in stage.makes:
            if made in maker:
                raise ValueError(f"{made} is made by both {maker[made].notebook} and {stage.notebook}")
            maker[made] = stage


def makers_of(stage: Stage, stages: Sequence[Stage] = STAGES) -> tuple[Stage, ...]:
    """The stages that make what `stage` needs, in table order."""
    return tuple(other for other in stages if set(other.makes) & set(stage.needs))


def find_stage(number_or_name: str, stages: Iterable[Stage] = STAGES) -> Stage | None:
    """The stage called "22" or "22_ultrasound", or None."""
    return next((stage for stage in stages if number_or_name in (stage.number, stage.notebook)), None)


def applies(stage: Stage, modalities: frozenset[str]) -> bool:
    """Whether a cohort that offers these modalities ("clinical", "US", ...) has what the stage is about."""
    return not missing_modalities(stage, modalities)


def missing_modalities(stage: Stage, modalities: frozenset[str]) -> list[str]:
    """What the stage is about and the cohort does not offer, in the words of `Stage.modality`."""
    wanted = stage.modality.split(" & ") if stage.modality else []
    return [modality for modality in wanted if modality not in modalities]

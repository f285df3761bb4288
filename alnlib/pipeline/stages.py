"""The stage table: which notebook needs what and makes what. The only place where the order of the compendium is written.

Running the table is the business of `alnlib.pipeline.runner`; what a file means, that of the notebook that makes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alnlib.pipeline.offer import Clinical, Endpoint, Images, Need, Offer


@dataclass(frozen=True)
class Stage:
    """One executed notebook of the pipeline.

    notebook: name of the executed notebook without .ipynb, "NN_topic"; needs, makes: files of the run folder, a trailing
    "/" naming a folder; reads_data: reads the cohort's data folder; about: what the cohort must have, else the stage does
    not apply. source: the notebook that is executed, if it serves several stages and so is called otherwise; preset: its
    parameters for this stage, which profile and command line may override.
    """

    notebook: str
    title: str
    needs: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    reads_data: bool = False
    about: tuple[Need, ...] = ()
    source: str = ""
    preset: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def number(self) -> str:
        """The two digits that begin the notebook's name."""
        return self.notebook[:2]

    @property
    def source_notebook(self) -> str:
        """Name of the file in notebooks/, without .ipynb."""
        return self.source or self.notebook

    @property
    def predictions(self) -> tuple[str, ...]:
        """The predictions that it makes; a stage that makes some is one of models."""
        return tuple(made for made in self.makes if made.startswith("predictions/"))

    def lacks(self, offer: Offer) -> str | None:
        """What the stage is about and the cohort does not have; None if the stage applies."""
        return next((missing for need in self.about if (missing := need.missing_in(offer))), None)


def _tables(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}.csv" for name in names)


COHORT = ("cohort/cohort.yaml", *_tables("cohort", "patients", "images", "readers", "splits"), "cohort/study.json")
TRUTH = _tables("sources", "truth", "oracle")
READERS = ("clinical/readers.csv", "video/readers.csv")

NOT_COMMITTED = ("networks/", "features/")
"""Folders of what stages make that is too large to be committed with the results of the simulated demo."""

COHORT_STAGES = (
    Stage(
        "01_sources",
        "Where the data come from, verified or simulated",
        makes=(*_tables("sources", "files", "manifest", "realism"), *TRUTH, "numbers/01_sources.json"),
        reads_data=True,
    ),
    Stage(
        "11_cohort",
        "Cohort, inclusion flow, splits and Table 1",
        needs=("sources/files.csv",),
        makes=(*COHORT, *_tables("cohort", "flow", "table_one", "beside_duke"), "numbers/11_cohort.json"),
        reads_data=True,
    ),
)

MODEL_STAGES = (
    Stage(
        "21_clinical",
        "Clinical model, nomogram and the radiologist's read",
        needs=COHORT,
        makes=(
            "predictions/clinical.csv",
            *_tables("clinical", "univariable", "multivariable_complete_cases", "model", "nomogram", "readers"),
            "numbers/21_clinical.json",
        ),
        about=(Clinical(),),
    ),
    Stage(
        "22_ultrasound",
        "Three 2-D networks on ultrasound stills",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/ultrasound.csv",
            *_tables("ultrasound", "training_history", "choice"),
            "ultrasound/crop.json",
            "numbers/22_ultrasound.json",
        ),
        reads_data=True,
        about=(Images("US"),),
        source="22_stills",
        preset={"modality": "US", "model": "DL_US", "topic": "ultrasound", "stage": "22_ultrasound"},
    ),
    Stage(
        "23_ultrasound_video",
        "TIN, R(2+1)D and ResNet-3D on sweeps, beside the still",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/video.csv",
            *_tables("video", "training_history", "against_still", "readers"),
            "networks/video_tin.pt",
            "networks/video_still.pt",
            "video/crops.json",
            "numbers/23_ultrasound_video.json",
        ),
        reads_data=True,
        about=(Images("USV"),),
    ),
    Stage(
        "24_mri",
        "Three 2-D networks on MRI, three slices as channels",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/mri.csv",
            *_tables("mri", "training_history", "choice"),
            "mri/crop.json",
            "numbers/24_mri.json",
        ),
        reads_data=True,
        about=(Images("MRI", lesion=True),),
        source="22_stills",
        preset={
            **{"modality": "MRI", "model": "DL_MRI", "topic": "mri", "stage": "24_mri"},
            **{"sequence": "DCE_early", "subtract": "DCE_pre", "crop_mm": 60.0},
        },
    ),
    Stage(
        "25_ct_nodes",
        "CT nodes: two crops, three networks, two ways to split",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/ct.csv",
            *_tables("ct", "training_history", "choice", "operating_points", "beside_published"),
            *_tables("ct", "recovered", "image_level", "leakage", "leakage_difference"),
            "networks/ct_fsc.pt",
            "networks/ct_asc.pt",
            "ct/crops.json",
            "numbers/25_ct_nodes.json",
        ),
        reads_data=True,
        about=(Images("CT", lesion=True),),
    ),
    Stage(
        "26_mammography_mri",
        "Mammography + MRI: radiomics, deep features and both",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/mammography_mri.csv",
            "features/mammography_mri.parquet",
            *_tables("mammography_mri", "failures", "stability", "learners", "nested", "selection"),
            "numbers/26_mammography_mri.json",
        ),
        reads_data=True,
        about=(Images("MG", lesion=True), Images("MRI", lesion=True)),
    ),
    Stage(
        "27_longitudinal_mri",
        "MRI before and after therapy: response in the axilla",
        needs=(*COHORT, *TRUTH),
        makes=(
            "predictions/longitudinal_mri.csv",
            "features/longitudinal_mri.parquet",
            *_tables("longitudinal_mri", "splits", "univariable", "multivariable", "failures"),
            *_tables("longitudinal_mri", "stability", "learners", "selection", "comparisons", "optimism"),
            "numbers/27_longitudinal_mri.json",
        ),
        reads_data=True,
        about=(Endpoint("apcr"),),
    ),
    Stage(
        "31_fusion",
        "Ultrasound, MRI and clinical variables fused",
        needs=(*COHORT, *TRUTH, *_tables("predictions", "clinical", "ultrasound", "mri")),
        makes=(
            "predictions/fusion.csv",
            *_tables("fusion", "scale", "odds_ratios", "voting", "patterns", "own_patterns", "withheld", "recovered"),
            "numbers/31_fusion.json",
        ),
    ),
)
"""A new modality is one more of these; what is done with predictions takes those of all."""

PREDICTIONS = tuple(made for stage in MODEL_STAGES for made in stage.predictions)

EVALUATION_STAGES = (
    Stage(
        "41_discrimination",
        "ROC curves, comparisons, reclassification, readers",
        needs=(*COHORT, *TRUTH, *READERS, *PREDICTIONS),
        makes=(
            *_tables("evaluation", "discrimination", "curves", "comparisons", "reclassification"),
            *_tables("evaluation", "models_against_readers", "attained"),
            "numbers/41_discrimination.json",
        ),
    ),
    Stage(
        "42_calibration",
        "Calibration, before and after recalibration",
        needs=(*COHORT, *PREDICTIONS),
        makes=(*_tables("evaluation", "calibration", "recalibration"), "numbers/42_calibration.json"),
    ),
    Stage(
        "43_clinical_utility",
        "Decision curves, operations avoided, prevalence",
        needs=(*COHORT, *PREDICTIONS),
        makes=(*_tables("evaluation", "net_benefit", "prevalence"), "numbers/43_clinical_utility.json"),
    ),
    Stage(
        "44_leaks",
        "Whether a result could be an artifact of a leak",
        needs=(
            *(*COHORT, *TRUTH, *PREDICTIONS, "evaluation/discrimination.csv"),
            *("features/mammography_mri.parquet", "features/longitudinal_mri.parquet"),
            *_tables("ct", "leakage", "leakage_difference", "image_level"),
            *("ultrasound/crop.json", "mri/crop.json", "ct/crops.json"),
        ),
        makes=(*_tables("evaluation", "permuted", "selection_leak"), "evaluation/leaks.json", "numbers/44_leaks.json"),
        reads_data=True,
    ),
    Stage(
        "45_luck",
        "How much of a result is luck",
        needs=(
            *(*COHORT, *PREDICTIONS, "evaluation/leaks.json"),
            *("features/mammography_mri.parquet", "features/longitudinal_mri.parquet"),
        ),
        makes=(
            *_tables("evaluation", "validity", "resplits", "learning_curve", "threshold_optimism"),
            *(*_tables("evaluation", "subgroups", "sample_size"), "numbers/45_luck.json"),
        ),
    ),
    Stage(
        "51_explanations",
        "Where the CT networks look",
        needs=(*COHORT, "networks/ct_fsc.pt", "networks/ct_asc.pt", "ct/crops.json"),
        makes=(
            *_tables("explanations", "ct_heat_by_node", "ct_heat_by_region", "ct_faithfulness"),
            *_tables("explanations", "ct_randomization", "ct_shortcut"),
            "numbers/51_explanations.json",
        ),
        reads_data=True,
    ),
    Stage(
        "52_key_frames",
        "Which frames the video network looks at",
        needs=(*COHORT, "networks/video_tin.pt", "video/crops.json"),
        makes=(
            *_tables("explanations", "video_key_frames", "video_key_frame_summary", "video_faithfulness"),
            "numbers/52_key_frames.json",
        ),
        reads_data=True,
    ),
    Stage(
        "91_published_claims",
        "Published claims, and reporting checklists",
        needs=(
            *(*COHORT, "cohort/flow.csv", "cohort/table_one.csv", *TRUTH, *PREDICTIONS),
            *_tables("evaluation", "discrimination", "comparisons", "calibration", "recalibration", "net_benefit"),
            *_tables("evaluation", "models_against_readers", "validity", "subgroups"),
            *_tables("explanations", "ct_faithfulness", "video_faithfulness"),
        ),
        makes=(
            *_tables("report", "claims", "checklists"),
            "report/checklists.html",
            "numbers/91_published_claims.json",
        ),
    ),
)

STAGES: tuple[Stage, ...] = (*COHORT_STAGES, *MODEL_STAGES, *EVALUATION_STAGES)

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

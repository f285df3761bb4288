"""A logistic regression on handcrafted features, on signatures of many features, or on such a score and clinical variables.

Its steps come from `alnlib.models.learners` with a selection or signatures before them; features are measured as in the
stages on radiomics, `alnlib.radiomics.extract` and `alnlib.models.frozen`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from alnlib.cohorts.schema import Cohort
from alnlib.errors import InputError
from alnlib.files import atomic_path
from alnlib.imaging.lesions import crop
from alnlib.imaging.rows import is_given
from alnlib.imaging.spec import CropSpec
from alnlib.kept.equation import Equation, scored
from alnlib.models.frozen import FrozenSpec, frozen_table
from alnlib.models.learners import SCORE_DIGITS, signature
from alnlib.models.weights import read_tensors
from alnlib.radiomics.extract import delta_features, extract_cohort, settings_for

SIGNATURE = "signature"
"""What the score of the features is called among the variables of a joint model."""


@dataclass(frozen=True)
class Handcrafted:
    """Which images pyradiomics measures, and how. visits: one, before therapy, whose images need a mask; or pre and post, with
    the change of every feature."""

    sequences: tuple[str, ...]  # of MRI
    views: tuple[str, ...] = ()  # of mammograms
    visits: tuple[str, ...] = ("pre",)
    image_types: tuple[str, ...] = ("Original",)  # filters of pyradiomics
    rim: bool = False  # of the lesion too
    grid: str = "lesion"  # what resampled voxels are laid from

    def __post_init__(self) -> None:
        for name in ("sequences", "views", "visits", "image_types"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def needs(self) -> list[tuple[str, str, str]]:
        """(modality, timepoint, sequence or view) of each image that a patient must have once."""
        return [("MRI", visit, name) for visit in self.visits for name in self.sequences] + [
            ("MG", "pre", name) for name in self.views
        ]

    def rows(self, images: pd.DataFrame) -> pd.DataFrame:
        """The rows of an images table that are measured; a timepoint that is not given is before therapy."""
        names = images["modality"].map({"MRI": self.sequences, "MG": self.views})
        named = [
            isinstance(known, tuple) and name in known
            for known, name in zip(names, images["sequence_or_view"], strict=True)
        ]
        chosen = images[np.array(named, bool) & images["timepoint"].fillna("pre").isin(self.visits)]
        return chosen[chosen["mask_path"].map(is_given).astype(bool)] if len(self.visits) == 1 else chosen

    def measured(self, cohort: Cohort, patient_ids: Sequence[str]) -> pd.DataFrame:
        """Features by patient, in this order; with two visits their changes too."""
        rows = self.rows(cohort.images)
        kinds = ("MRI", "MRI/ADC", *(["MG"] if self.views else []))
        settings = {kind: settings_for(*kind.split("/"), grid=self.grid).only(*self.image_types) for kind in kinds}
        of_patients = rows[rows["patient_id"].isin(patient_ids)]
        features = extract_cohort(of_patients, cohort.root, settings, rim=self.rim).features
        features = features.set_index("patient_id").loc[list(patient_ids)]
        return features.join(delta_features(features)) if len(self.visits) == 2 else features


@dataclass(frozen=True)
class Deep:
    """Which pictures of MRI a frozen network reads. box: channels with a timepoint, three slices each; of two visits the later
    one and the change are kept."""

    box: CropSpec
    frozen: FrozenSpec

    def measured(self, cohort: Cohort, patient_ids: Sequence[str]) -> pd.DataFrame:
        """Features by patient, in this order."""
        volumes = crop(cohort.images, cohort.root, self.box, patient_ids)
        pictures = {f"MRI_{name.replace('/', '_')}": volumes[:, k] for k, name in enumerate(self.box.channels)}
        deep = frozen_table(pictures, patient_ids, self.frozen)
        before, after = (deep.filter(regex=f"^MRI_{visit}_") for visit in ("pre", "post"))
        if after.empty:
            return deep
        change = after - before.set_axis(after.columns, axis="columns")
        return after.join(change.rename(columns=lambda name: name.replace("MRI_post_", "MRI_delta_", 1)))


@dataclass(frozen=True, eq=False)
class Columns:
    """Features that stand for themselves, or (coef given) become one signature. fill: of what is missing; then (x - mean) /
    scale, and of a signature the sum of coef times that."""

    names: tuple[str, ...]
    fill: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray | None = None

    def of(self, features: pd.DataFrame) -> np.ndarray:
        """(n, columns), or (n, 1) of a signature."""
        given = features[list(self.names)].to_numpy(dtype=np.float64)
        z = (np.where(np.isnan(given), self.fill, given) - self.mean) / self.scale
        return z if self.coef is None else (z @ self.coef)[:, None]


@dataclass(frozen=True, eq=False)
class Steps:
    """What a fitted pipeline of selection or signatures and logistic regression does to features, as numbers."""

    parts: Sequence[Columns]
    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: float

    @classmethod
    def of(cls, fitted: Pipeline) -> Steps:
        """Of a pipeline of `tune_learners`: preparation, impute, scale and a LogisticRegression. Raises ValueError for others,
        which have no plain form."""
        if not isinstance(fitted["model"], LogisticRegression):
            raise ValueError(f"{type(fitted['model']).__name__} has no plain form; keep a logistic regression")
        preparation, scaler, model = fitted["preparation"], fitted["scale"], fitted["model"]
        fill = pd.Series(preparation["impute"].statistics_, preparation["impute"].feature_names_in_)
        if "signatures" in preparation.named_steps:
            made = preparation["signatures"]
            if list(made.get_feature_names_out()) != list(made.heads_):
                raise ValueError("features beside the signatures are not kept")
            heads = [(tuple(made.columns_[name]), head) for name, head in made.heads_.items()]
            parts = [Columns(own, fill[list(own)].to_numpy(), h.mean_, h.scale_, h.coef_) for own, h in heads]
        else:
            scaled, names = preparation["scale"], list(preparation.get_feature_names_out())
            place = pd.Index(scaled.feature_names_in_).get_indexer(names)
            parts = [Columns(tuple(names), fill[names].to_numpy(), scaled.mean_[place], scaled.scale_[place])]
        return cls(parts, scaler.mean_, scaler.scale_, model.coef_[0], float(model.intercept_[0]))

    def probability(self, features: pd.DataFrame) -> np.ndarray:
        """(n,) of class 1, to `SCORE_DIGITS` as learners give it."""
        columns = np.hstack([part.of(features) for part in self.parts])
        return expit((columns - self.mean) / self.scale @ self.coef + self.intercept).round(SCORE_DIGITS)


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """steps: on the features of handcrafted and deep. joint: an equation of clinical variables and `SIGNATURE`, the logit of
    the steps' probability less that of prevalence, the share of positives that they were fitted to."""

    steps: Steps
    handcrafted: Handcrafted | None = None
    deep: Deep | None = None
    joint: Equation | None = None
    prevalence: float = 0.5
    file = "parameters.pt"

    def save(self, path: Path) -> None:
        """Write parameters.pt, read without running code (torch.load with weights_only=True)."""
        tensors = {name: torch.tensor(getattr(self.steps, name)) for name in ("mean", "scale", "coef")}
        parts = [
            {
                name: value if name == "names" else torch.tensor(value)
                for name, value in vars(part).items()
                if value is not None
            }
            for part in self.steps.parts
        ]
        content = {"parts": parts, "then": tensors, "intercept": self.steps.intercept, "prevalence": self.prevalence}
        content["handcrafted"] = None if self.handcrafted is None else asdict(self.handcrafted)
        content["deep"] = None if self.deep is None else asdict(self.deep)
        content["joint"] = None if self.joint is None else self.joint.to_json()
        stream = io.BytesIO()  # torch names the archive in a file after the file, which is temporary
        torch.save(content, stream)
        with atomic_path(path) as temporary:
            temporary.write_bytes(stream.getvalue())

    @classmethod
    def read(cls, path: Path) -> FeatureModel:
        """Raises InputError for a file that holds no such model."""
        remedy = "run the stage that makes it again"
        given = read_tensors(path, remedy)
        try:
            plain = [{name: v if name == "names" else v.numpy() for name, v in part.items()} for part in given["parts"]]
            then = {name: value.numpy() for name, value in given["then"].items()}
            steps = Steps([Columns(**part) for part in plain], **then, intercept=given["intercept"])
            # A file that does not say the grid is of a time when there was none but the image's.
            handcrafted = given["handcrafted"] and Handcrafted(**{"grid": "image"} | given["handcrafted"])
            deep = given["deep"]
            deep = None if deep is None else Deep(CropSpec(**deep["box"]), FrozenSpec(**deep["frozen"]))
            joint = None if given["joint"] is None else Equation.of_json(given["joint"])
            return cls(steps, handcrafted, deep, joint, given["prevalence"])
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise InputError(f"{path} holds no model of features ({error!r}); {remedy}") from error

    @property
    def equation(self) -> Equation | None:
        """Of the clinical variables: the joint equation as if without the signature, for what is asked of the cohort."""
        if self.joint is None:
            return None
        own = {name: variable for name, variable in self.joint.variables.items() if name != SIGNATURE}
        return Equation(self.joint.terms, own)

    def _needs(self) -> list[tuple[str, str, str]]:
        needs = [] if self.handcrafted is None else self.handcrafted.needs()
        for channel in () if self.deep is None else self.deep.box.read_channels():
            sequences = (channel.sequence, channel.subtract) if channel.subtract else (channel.sequence,)
            needs += [("MRI", channel.timepoint or "pre", sequence) for sequence in sequences]
        return list(dict.fromkeys(needs))

    def asks_for(self) -> list[str]:
        """Images by modality, timepoint and sequence or view, and clinical variables."""
        images = [f"{modality} {name} at timepoint {visit}" for modality, visit, name in self._needs()]
        return [*images, *([] if self.equation is None else self.equation.asks_for())]

    def about(self) -> dict[str, Any]:
        """How features are measured, and how many the model reads."""
        about = {"features": sum(len(part.names) for part in self.steps.parts)}
        about["handcrafted"] = None if self.handcrafted is None else asdict(self.handcrafted)
        return about | {"deep": None if self.deep is None else asdict(self.deep)}

    def check(self, cohort: Cohort) -> None:
        """Raise InputError for images of a kind that nobody has, and for clinical variables as `Equation.check`."""
        offered = set(self._kinds(cohort.images))
        missing = [" ".join(need) for need in self._needs() if need not in offered]
        if missing:
            raise InputError(
                f"nobody in the cohort has {', '.join(missing)}, which the model asks for; name modality, timepoint and "
                "sequence_or_view in images.csv as the model does"
            )
        if self.equation is not None:
            self.equation.check(cohort)

    def lacking(self, cohort: Cohort) -> dict[str, str]:
        """Patients without one of the images, or without a mask where features are measured on the lesion alone."""
        measured = cohort.images if self.handcrafted is None else self.handcrafted.rows(cohort.images)
        kinds = {False: self._by_patient(cohort.images), True: self._by_patient(measured)}
        on_mask = set() if self.handcrafted is None else set(self.handcrafted.needs())
        lacks: dict[str, str] = {}
        for patient in cohort.patients["patient_id"]:
            for need in self._needs():
                if need not in kinds[False].get(patient, set()):
                    lacks.setdefault(patient, f"no {' '.join(need)}")
                elif need in on_mask and need not in kinds[True].get(patient, set()):
                    lacks.setdefault(patient, f"no mask on {' '.join(need)}")
        return lacks

    @staticmethod
    def _kinds(images: pd.DataFrame) -> list[tuple[str, str, str]]:
        visit = images["timepoint"].fillna("pre")
        return list(zip(images["modality"], visit, images["sequence_or_view"], strict=True))

    def _by_patient(self, images: pd.DataFrame) -> dict[str, set[tuple[str, str, str]]]:
        kinds = pd.Series(self._kinds(images), images.index, dtype=object)
        return kinds.groupby(images["patient_id"]).agg(set).to_dict()

    def score(self, cohort: Cohort, patient_ids: Sequence[str], known: Sequence[bool], device: str) -> pd.DataFrame:
        """patient_id, unit_id and y_score; known and device have no part in it. Raises InputError for a patient with two
        images of a kind, and one that cannot be read."""
        sets = [each.measured(cohort, patient_ids) for each in (self.handcrafted, self.deep) if each is not None]
        features = pd.concat(sets, axis="columns")
        used = {name for part in self.steps.parts for name in part.names}
        never = sorted(used - set(features.columns))  # nobody's could be extracted
        probability = self.steps.probability(features.assign(**dict.fromkeys(never, np.nan)))
        if self.joint is None:
            return scored(patient_ids, probability)
        patients = cohort.patients.set_index("patient_id").loc[list(patient_ids)]
        signed = patients.assign(**{SIGNATURE: signature(probability, self.prevalence)})
        return scored(patient_ids, expit(self.joint.logits(signed)))

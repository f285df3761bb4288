"""The tabular pipelines of the studies with the tables that they are fitted on, for repeating them: twins, resplits, curves.

A pipeline holds its selection, scaling and imputation. How it is repeated lives in `alneval.resplit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from alnlib.cohorts.schema import Cohort
from alnlib.models.clinical import clinical_pipeline, design_columns
from alnlib.models.fusion import ScoreFusion, score_table
from alnlib.models.learners import learner_table
from alnlib.radiomics.select import selection_pipeline
from alnlib.studies import general_study

FEATURES = {"guo": "mammography_mri", "li_nat": "longitudinal_mri"}
FEATURES |= {"feature-table": "feature_table", "feature-table-apcr": "feature_table_response"}
FEATURES = {study: f"features/{name}.parquet" for study, name in FEATURES.items()}
"""Files of a run that hold the features of the studies on radiomics, and those that came with the cohort."""


@dataclass(frozen=True, eq=False)
class TabularPipeline:
    """pipeline: not fitted; X, y: development patients, one row each; n_parameters: candidates, those that selection drops
    included."""

    pipeline: BaseEstimator
    X: pd.DataFrame
    y: np.ndarray
    n_parameters: int


def tabular_pipelines(
    cohort: Cohort,
    patients: pd.DataFrame,
    endpoint: str,
    predictions: pd.DataFrame,
    features: Mapping[str, pd.DataFrame],
    endpoints: Mapping[str, str],
    *,
    seed: int,
    n_folds: int,
) -> dict[str, TabularPipeline]:
    """{"study: pipeline": pipeline and table} of the clinical model, the fusion and radiomics, as far as there are data.

    patients: those whose `endpoint` is known; predictions: of which the fusion takes out-of-fold scores; features: {study:
    one row per patient_id}; endpoints: {study: what it predicts}; n_folds: of the cross-validation inside the selection.
    """
    home = cohort.patients.loc[~cohort.patients["center"].isin(cohort.external_centers), "patient_id"]
    development = patients[patients["patient_id"].isin(home)].reset_index(drop=True)
    clinical, pipelines = list(cohort.clinical), {}
    general = general_study(predictions["study"].unique())
    n_clinical = len(design_columns(cohort.clinical)) if clinical else 0
    if clinical:
        y = development[endpoint].to_numpy(int)
        pipelines[f"{general}: clinical"] = TabularPipeline(
            clinical_pipeline(cohort.clinical), development[clinical], y, n_clinical
        )
    of_general = predictions[predictions["study"] == general]
    crossed = set(of_general.loc[of_general["split"] == "cross_validation", "model"])
    if crossed >= {"DL_US", "DL_MRI"}:
        names = ["DL_US", "DL_MRI"]
        scores = score_table(of_general, names, "cross_validation")
        joined = development.merge(scores, left_on="patient_id", right_index=True)
        fusion = ScoreFusion(names, cohort.clinical or None, missing_scores="mean")
        columns, y = joined[[*names, *clinical]], joined[endpoint].to_numpy(int)
        pipelines[f"{general}: fusion"] = TabularPipeline(fusion, columns, y, n_clinical + len(names))
    for study, table in features.items():
        outcomes = cohort.patients.set_index("patient_id")[endpoints[study]].dropna()
        frame = table.set_index("patient_id")
        frame = frame.loc[[patient for patient in home if patient in frame.index and patient in outcomes.index]]
        if len(frame) and frame.shape[1]:  # a cohort without images has a table without features
            selected = Pipeline([("selection", radiomics_selector(seed, n_folds)), *radiomics_learner(seed).steps])
            y = outcomes[frame.index].to_numpy(int)
            pipelines[f"{study}: radiomics"] = TabularPipeline(selected, frame, y, frame.shape[1])
    return pipelines


def radiomics_selector(seed: int, n_folds: int) -> BaseEstimator:
    """The selection of the studies on radiomics."""
    return selection_pipeline(seed, n_folds=n_folds)


def radiomics_learner(seed: int) -> Pipeline:
    """Logistic regression as the studies on radiomics fit it to selected features."""
    return learner_table(seed)["logistic regression"].pipeline

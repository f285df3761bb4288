"""Audits that a leaking pipeline fails: each looks for one way of fooling oneself and says what it found.

An audit that passes has not found that leak; it proves nothing else. How images are compared lives in
`alnlib.imaging.duplicates`, how pipelines are repeated in `alneval.resplit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from alneval.bootstrap import percentile_limits, resample_weights, weighted_auc
from alneval.inputs import as_labels, as_scores
from alneval.intervals import format_interval, format_p
from alneval.resplit import CrossValidated, Memory, PermutedTwin, Scorer, auc_within_folds, permuted_label_twin
from alneval.roc import auc, clustered_delong_auc, clustered_delong_test, delong_auc, delong_test
from alneval.thresholds import youden_threshold
from alnlib.cohorts.schema import GIVEN_SPLITS
from alnlib.errors import InputError

CONFIDENCE = 0.99
"""Of the intervals that decide. An audit fails where an interval lies wholly on the wrong side, so that one that rests on a
single comparison raises a false alarm in about 1 of 200 clean pipelines (the tests count them over seeds)."""

LABEL_CODED_AUC = 0.60
"""AUC that center or acquisition alone may reach before they count as a code of the label. Case mix differs between real
hospitals, and a significant AUC of 0.55 is no leak; the value is our choice."""

AUDIT_COLUMNS = ("audit", "subject", "result", "finding")


@dataclass(frozen=True, eq=False)
class Audit:
    """What one audit found.

    name: the leak it looks for; subject: the pipeline, table or images looked at; passed: None where it does not apply;
    finding: one sentence; evidence: rows that show it.
    """

    name: str
    subject: str
    passed: bool | None
    finding: str
    evidence: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def result(self) -> str:
        """ "passed", "failed" or "not applicable"."""
        return "not applicable" if self.passed is None else "passed" if self.passed else "failed"

    def require(self) -> Audit:
        """The audit itself; raises InputError with the finding if it failed."""
        if self.passed is False:
            raise InputError(f"{self.name}, {self.subject}: {self.finding}")
        return self

    def __str__(self) -> str:
        return f"{self.result}: {self.name}, {self.subject}: {self.finding}"


@dataclass(frozen=True)
class ThresholdOptimism:
    """Youden's index (sensitivity + specificity - 1) on test data at the locked and at the best threshold of the test data.

    locked: the threshold that validation data gave; best: the one with the largest index on the test data themselves;
    optimism: index_best - index_locked, never negative, what choosing on the test data would have claimed for nothing.
    """

    locked: float
    best: float
    index_locked: float
    index_best: float
    optimism: float


def audit_table(audits: Iterable[Audit]) -> pd.DataFrame:
    """One row per audit: AUDIT_COLUMNS."""
    rows = [(audit.name, audit.subject, audit.result, audit.finding) for audit in audits]
    return pd.DataFrame(rows, columns=list(AUDIT_COLUMNS))


def audit_patient_overlap(
    rows: pd.DataFrame, subject: str = "table", *, splits: pd.DataFrame | None = None, split: str = "split"
) -> Audit:
    """Fails if a patient is in two splits, or in another one than `splits` says.

    rows: patient_id and a column `split`, any number per patient; rows of cross_validation are not looked at, their patients
    being development patients by design. splits: the frozen assignment, patient_id and split. A certain finding, not a test.
    """
    name = "patient overlap between splits"
    given = rows[rows[split].isin(GIVEN_SPLITS)][["patient_id", split]].drop_duplicates()
    if given.empty:
        return Audit(name, subject, None, "no row has a split")
    found = given.rename(columns={split: "split"}).groupby("patient_id")["split"].agg(lambda part: sorted(set(part)))
    shared = found[found.map(len) > 1]
    evidence = pd.DataFrame({"patient_id": shared.index, "splits": shared.map(" and ".join).to_numpy()})
    if len(shared):
        shown = f"{len(shared)} of {len(found)} patients are in two splits ({_listed(evidence['patient_id'])})"
        return Audit(name, subject, False, f"{shown}; split by patient", evidence)
    if splits is not None:
        frozen = splits.set_index("patient_id")["split"].reindex(found.index)
        moved = found.index[frozen.notna() & (frozen != found.str[0])]
        if len(moved):
            evidence = pd.DataFrame(
                {"patient_id": moved, "splits": found[moved].str[0], "frozen": frozen[moved]}
            ).reset_index(drop=True)
            shown = f"{len(moved)} of {len(found)} patients are not in the split that was frozen ({_listed(moved)})"
            return Audit(name, subject, False, f"{shown}; use the frozen splits", evidence)
    return Audit(name, subject, True, f"{len(found)} patients, each in one split", evidence)


def audit_duplicate_images(pairs: pd.DataFrame, images: pd.DataFrame, subject: str = "images") -> Audit:
    """Fails if the same picture belongs to patients of different splits.

    pairs: of `alnlib.imaging.duplicates.find_duplicates`, whose first and second count rows of `images`; images: patient_id,
    split and, if there is one, image_id. Pairs of different patients within one split are told, not failed: a patient
    enrolled twice, which counts twice but leaks nothing between splits. False alarms: see MIN_CORRELATION there.
    """
    name = "duplicate images between splits"
    if images.empty:
        return Audit(name, subject, None, "no images")
    names = images["image_id"] if "image_id" in images else images["patient_id"]
    columns = {"image": names, "patient_id": images["patient_id"], "split": images["split"]}
    evidence = pairs.reset_index(drop=True).drop(columns=["first", "second"])
    for end in ("first", "second"):
        for column, values in columns.items():
            evidence[f"{column}_{end}"] = values.to_numpy()[pairs[end].to_numpy(dtype=int)]
    evidence = evidence[evidence["patient_id_first"] != evidence["patient_id_second"]]
    across = evidence["split_first"] != evidence["split_second"]
    counted = f"{len(images)} images compared"
    if across.any():
        worst = evidence[across].iloc[0]
        example = (
            f"{worst['image_first']} ({worst['split_first']}) and {worst['image_second']} ({worst['split_second']})"
        )
        finding = f"{int(across.sum())} pairs of one picture in two splits, such as {example}; keep one of each pair"
        return Audit(name, subject, False, f"{counted}: {finding}", evidence[across].reset_index(drop=True))
    rest = f", {len(evidence)} within a split" if len(evidence) else ""
    return Audit(name, subject, True, f"{counted}, no picture in two splits{rest}", evidence.reset_index(drop=True))


def audit_repeated_features(
    X: pd.DataFrame, patient_ids: ArrayLike, split: ArrayLike, subject: str = "features", *, digits: int = 6
) -> Audit:
    """Fails if patients of different splits have the same row of features to `digits` significant digits.

    X: (n, features) numbers, at least 5 columns; two patients measured apart do not agree in all of many decimals.
    """
    name = "duplicate features between splits"
    values = X.to_numpy(dtype=float)
    if values.shape[1] < 5:
        return Audit(name, subject, None, "fewer than 5 features tell nobody apart")
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.abs(values))))
        rounded = np.where((values == 0) | np.isnan(values), values, np.rint(values * scale) / scale)
    key = pd.util.hash_pandas_object(pd.DataFrame(rounded), index=False).to_numpy()
    frame = pd.DataFrame({"key": key, "patient_id": np.asarray(patient_ids, dtype=str), "split": np.asarray(split)})
    frame = frame.drop_duplicates()
    groups = frame.groupby("key").filter(lambda part: part["patient_id"].nunique() > 1)
    across = groups.groupby("key").filter(lambda part: part["split"].nunique() > 1)
    evidence = across.sort_values(["key", "patient_id"]).drop(columns="key").reset_index(drop=True)
    if len(across):
        finding = f"{len(across)} patients of different splits have equal features ({_listed(evidence['patient_id'])})"
        return Audit(name, subject, False, f"{finding}; keep one of each", evidence)
    return Audit(name, subject, True, f"{len(frame)} patients, no two with equal features in two splits", evidence)


def audit_permuted_labels(twin: PermutedTwin, subject: str = "pipeline") -> Audit:
    """Fails if a pipeline finds something in permuted labels: the twin's interval lies above AUC 0.5.

    Selection, tuning, scaling or resampling outside the fold shows here, whatever it is called. Without such a leak the mean
    AUC within folds is exactly 0.5, and the false-alarm rate is half of one minus the twin's confidence. An interval below
    0.5 is no leak; it is said.
    """
    name = "selection outside the fold (permuted labels)"
    evidence = pd.DataFrame({"permutation": np.arange(len(twin.aucs)), "auc": twin.aucs})
    shown = f"mean AUC on {len(twin.aucs)} permuted labelings {format_interval(twin.mean, twin.low, twin.high)}"
    if twin.claims_too_much:
        return Audit(name, subject, False, f"{shown} lies above 0.5; put every fitted step inside the fold", evidence)
    covers = "covers 0.5" if twin.covers_chance else "lies below 0.5, which is no leak"
    return Audit(name, subject, True, f"{shown} {covers}", evidence)


def audit_selection(
    scorer: Scorer,
    X: object,
    y: ArrayLike,
    rng: np.random.Generator,
    subject: str = "pipeline",
    *,
    n_permutations: int = 20,
    n_confirm: int = 0,
    patient_ids: Sequence[str] | None = None,
    confidence: float = CONFIDENCE,
    n_jobs: int = 1,
    memory: Memory | None = None,
) -> Audit:
    """`audit_permuted_labels` of a pipeline that is run on permuted labels here (`permuted_label_twin`)."""
    twin = permuted_label_twin(
        scorer,
        X,
        y,
        rng,
        n_permutations=n_permutations,
        n_confirm=n_confirm,
        patient_ids=patient_ids,
        confidence=confidence,
        n_jobs=n_jobs,
        memory=memory,
    )
    return audit_permuted_labels(twin, subject)


def accuracy_threshold(y_true: ArrayLike, score: ArrayLike) -> float:
    """The threshold with the best accuracy; among equals the one closest to Youden's. y_true: (n,) 0/1; score: (n,)."""
    positive, scores = as_labels(y_true, both_classes=True), as_scores(score, np.size(score))
    ordered = np.unique(scores)
    cuts = np.concatenate([ordered[:1], (ordered[1:] + ordered[:-1]) / 2, [np.nextafter(ordered[-1], np.inf)]])
    right = ((scores[None] >= cuts[:, None]) == positive[None]).sum(axis=1)
    best = cuts[right == right.max()]
    return float(best[np.argmin(np.abs(best - youden_threshold(positive, scores)))])


THRESHOLD_RULES = {"Youden": youden_threshold, "accuracy": accuracy_threshold}
"""Ways in which a threshold may have been chosen: {name: function of labels and scores}."""


def threshold_optimism(
    y_chosen: ArrayLike, score_chosen: ArrayLike, y_test: ArrayLike, score_test: ArrayLike
) -> ThresholdOptimism:
    """What choosing Youden's threshold on the test data would claim beyond the one locked on the validation data.

    y_chosen, score_chosen: (m,) the data that the threshold may be chosen on; y_test, score_test: (n,).
    """
    positive, scores = as_labels(y_test, both_classes=True), as_scores(score_test, np.size(y_test))
    locked, best = youden_threshold(y_chosen, score_chosen), youden_threshold(positive, scores)
    at_locked, at_best = (
        float((scores[positive] >= cut).mean() + (scores[~positive] < cut).mean() - 1) for cut in (locked, best)
    )
    return ThresholdOptimism(locked, best, at_locked, at_best, at_best - at_locked)


def audit_threshold(
    y_chosen: ArrayLike,
    score_chosen: ArrayLike,
    y_test: ArrayLike,
    score_test: ArrayLike,
    threshold: float,
    subject: str = "model",
) -> Audit:
    """Fails if the reported threshold is the best one of the test data and not that of the data it should come from.

    y_chosen, score_chosen: (m,) validation (or training, or out-of-fold) data; threshold: as reported. It counts as "the same"
    as a rule's threshold if no score of that data lies between them, for the reported one is often rounded. Rules:
    THRESHOLD_RULES. A threshold from elsewhere (0.5, a guideline) matches neither and passes; it fails by chance only if it
    falls between two adjacent test scores round the optimum, in about 1 of n clean cases and rule (counted in the tests).
    """
    name = "threshold chosen on test data"
    optimism = threshold_optimism(y_chosen, score_chosen, y_test, score_test)
    rows = []
    for rule, choose in THRESHOLD_RULES.items():
        for where, y, score in (("validation", y_chosen, score_chosen), ("test", y_test, score_test)):
            optimum = choose(y, score)
            rows.append((rule, where, optimum, _same_calls(np.asarray(score, dtype=float), threshold, optimum)))
    evidence = pd.DataFrame(rows, columns=["rule", "chosen_on", "threshold", "is_reported"])
    matched = evidence[evidence["is_reported"]].groupby("chosen_on")["rule"].agg(" and ".join)
    gain = f"Youden's index on test {optimism.index_best:.3f} at its own optimum, {optimism.index_locked:.3f} locked"
    # a threshold that is also the validation data's may be optimal on test by luck
    if "validation" in matched.index:
        return Audit(name, subject, True, f"{threshold:.4g} is the one of the validation data; {gain}", evidence)
    if "test" in matched.index:
        finding = f"{threshold:.4g} is the optimum of the test data ({matched['test']}) and not of the validation data"
        return Audit(name, subject, False, f"{finding}; lock it before testing; {gain}", evidence)
    return Audit(name, subject, True, f"{threshold:.4g} is optimal on neither; {gain}", evidence)


def metadata_model(metadata: pd.DataFrame) -> Pipeline:
    """Logistic regression on acquisition metadata: text and numbers of at most ten values by level, others standardized."""
    by_level = [
        column
        for column in metadata
        if not pd.api.types.is_numeric_dtype(metadata[column]) or metadata[column].nunique() <= 10
    ]
    measured = [column for column in metadata if column not in by_level]
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", min_frequency=3), by_level),
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), measured),
    )
    return make_pipeline(encoder, LogisticRegression(max_iter=1000))


def audit_metadata(
    y: ArrayLike,
    metadata: pd.DataFrame,
    rng: np.random.Generator,
    subject: str = "center and acquisition",
    *,
    allowed: float = LABEL_CODED_AUC,
    n_permutations: int = 999,
    n_folds: int = 5,
) -> Audit:
    """Fails if center, scanner or other metadata alone predict the label: then a network need not look at the disease.

    y: (n,) 0/1, a row per patient; metadata: (n, columns), nothing of the patient or the lesion. `metadata_model` is
    cross-validated; it fails if its AUC within folds is at least `allowed` and above that of all but 1 % of permutations of the
    labels within folds, its scores held fixed.
    """
    name = "label coded by center or acquisition"
    told = metadata[[column for column in metadata if metadata[column].nunique(dropna=False) > 1]].reset_index(
        drop=True
    )
    if told.shape[1] == 0:
        return Audit(name, subject, None, "all patients have the same metadata")
    labels = as_labels(y, both_classes=True).astype(int)
    patients = np.arange(len(labels)).astype(str)
    # levels are text to the encoder, missing ones included
    told = told.apply(
        lambda column: column if pd.api.types.is_numeric_dtype(column) else column.astype(str).astype(object)
    )
    root = int(rng.integers(2**63))
    rows = []
    for columns in [list(told), *([column] for column in told if told.shape[1] > 1)]:
        part = told[columns]
        scorer = CrossValidated(metadata_model(part), n_folds)
        score, fold = scorer(part, labels, patients, np.random.default_rng(root))
        found = auc_within_folds(labels, score, fold)
        chance = _permuted_within_folds(labels, score, fold, rng, n_permutations)
        p = (1 + int((chance >= found - 1e-12).sum())) / (1 + n_permutations)
        rows.append((", ".join(map(str, columns)), found, p))
    evidence = pd.DataFrame(rows, columns=["metadata", "auc", "p"])
    shown, found, p = rows[0]
    shown = f"AUC of {shown} alone {found:.3f} ({format_p(p)} by permutation)"
    if found >= allowed and p <= 0.01:
        return Audit(name, subject, False, f"{shown}; match or stratify, and report within centers", evidence)
    return Audit(name, subject, True, f"{shown}, below {allowed:g} or not told from chance", evidence)


def audit_center_score(
    y: ArrayLike,
    score: ArrayLike,
    center: ArrayLike,
    rng: np.random.Generator,
    subject: str = "model",
    *,
    patient_ids: ArrayLike | None = None,
    n_bootstrap: int = 2000,
    confidence: float = CONFIDENCE,
) -> Audit:
    """Fails if more than half of what a model discriminates is between centers and not within them.

    y, score, center: (n,). Within-center AUC compares patients of one center only; a model that reads the center (or anything
    that differs by center) loses there what it gained by it. Fails if pooled minus within-center AUC is above 0 with
    `confidence` (bootstrap of patients within center and class) and more than half of pooled minus 0.5; also if no center has
    both classes, when label and center cannot be told apart.
    """
    name = "score explained by center"
    positive, scores, where = as_labels(y), as_scores(score, np.size(y)), np.asarray(center).astype(str)
    counts = pd.DataFrame({"center": where, "y": positive}).groupby("center")["y"].agg(["size", "sum"])
    both = counts.index[(counts["sum"] > 0) & (counts["sum"] < counts["size"])]
    evidence = counts.rename(columns={"size": "n", "sum": "n_positive"}).rename_axis("center").reset_index()
    if len(counts) < 2 or positive.all() or not positive.any():
        return Audit(name, subject, None, "one center, or one class", evidence)
    if not len(both):
        return Audit(name, subject, False, "every center has one class: label and center are the same", evidence)
    evidence["auc"] = [
        auc(positive[where == c], scores[where == c]) if c in both else np.nan for c in evidence["center"]
    ]
    weights = np.concatenate(
        list(
            resample_weights(
                positive.size,
                n_bootstrap,
                rng,
                strata=np.char.add(where, positive.astype(str)),
                cluster=None if patient_ids is None else np.asarray(patient_ids),
            )
        )
    )
    differences = weighted_auc(positive, scores, weights) - _within(positive, scores, where, both, weights)
    pooled = auc(positive, scores)
    within = float(_within(positive, scores, where, both, np.ones((1, positive.size)))[0])
    low, high = percentile_limits(differences[np.isfinite(differences)], confidence)
    shown = (
        f"AUC {pooled:.3f} pooled, {within:.3f} within centers, difference "
        f"{format_interval(pooled - within, float(low), float(high))}"
    )
    if low > 0 and pooled - within > (pooled - 0.5) / 2:
        return Audit(name, subject, False, f"{shown}: most of it is which center", evidence)
    return Audit(name, subject, True, f"{shown}", evidence)


def audit_attainable(
    y: ArrayLike,
    score: ArrayLike,
    subject: str = "model",
    *,
    oracle: ArrayLike | None = None,
    attainable: float | None = None,
    patient_ids: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Audit:
    """Fails if a model is better than can be: it was trained on its test patients, or saw the label.

    y, score: (n,) of test patients. oracle: (n,) the generative model's own probabilities of simulated patients, compared in
    pairs (DeLong, or Obuchowski where patient_ids repeat); or attainable: the best possible AUC, against the interval of the
    model's. Neither: not applicable.
    """
    name = "better than attainable"
    if oracle is None and attainable is None:
        return Audit(name, subject, None, "the best possible AUC of real patients is not known")
    if oracle is not None:
        clustered = patient_ids is not None and pd.Series(np.asarray(patient_ids)).duplicated().any()
        found = (
            clustered_delong_test(y, score, oracle, patient_ids, confidence=confidence)
            if clustered
            else delong_test(y, score, oracle, confidence=confidence)
        )
        evidence = pd.DataFrame([{"auc": found.auc_a, "oracle_auc": found.auc_b, "p": found.p}])
        shown = f"AUC minus that of the oracle {format_interval(found.delta, found.low, found.high)}"
        above = found.low > 0
    else:
        estimate = _estimate(y, score, patient_ids, confidence)
        evidence = pd.DataFrame([{"auc": estimate.auc, "low": estimate.low, "attainable_auc": attainable}])
        shown = f"AUC {format_interval(estimate.auc, estimate.low, estimate.high)}, attainable {attainable:.3f}"
        above = estimate.low > attainable
    if above:
        return Audit(name, subject, False, f"{shown}; look for test patients among those trained on", evidence)
    return Audit(name, subject, True, shown, evidence)


def audit_trained_on_test(
    y_other: ArrayLike,
    score_other: ArrayLike,
    y_test: ArrayLike,
    score_test: ArrayLike,
    subject: str = "model",
    *,
    patients_other: ArrayLike | None = None,
    patients_test: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Audit:
    """Fails if test patients are scored better than other held-out ones, on whom the model was even chosen.

    y_other, score_other: (m,) of validation or out-of-fold patients of the same hospital (an external one is harder for
    honest reasons). Validation flatters, so a test AUC significantly above it wants an explanation: usually, test patients
    were trained on. Unpaired, DeLong; Obuchowski's by patient where ids are given. Small sets have little power.
    """
    sets = (y_test, score_test, patients_test), (y_other, score_other, patients_other)
    return _too_good("trained on test patients", subject, sets, ("test", "other held-out"), confidence)


def audit_out_of_fold(
    y_out_of_fold: ArrayLike,
    score_out_of_fold: ArrayLike,
    y_test: ArrayLike,
    score_test: ArrayLike,
    subject: str = "model",
    *,
    score_in_sample: ArrayLike | None = None,
    patients_out_of_fold: ArrayLike | None = None,
    patients_test: ArrayLike | None = None,
    confidence: float = CONFIDENCE,
) -> Audit:
    """Fails if "out-of-fold" scores are those of patients the model had learned from.

    Either they are better than test scores (unpaired DeLong), or, where `score_in_sample` (m,) gives the final model's scores
    of the same patients, they are in the same order (Spearman above 0.999), which refits without them never give.
    """
    name = "out-of-fold scores that are in-sample"
    if score_in_sample is not None:
        rho = float(stats.spearmanr(score_out_of_fold, score_in_sample).statistic)
        if rho > 0.999:
            evidence = pd.DataFrame([{"spearman": rho}])
            return Audit(name, subject, False, "they are the in-sample scores; refit without each fold", evidence)
    sets = (y_out_of_fold, score_out_of_fold, patients_out_of_fold), (y_test, score_test, patients_test)
    return _too_good(name, subject, sets, ("out-of-fold", "test"), confidence)


def audit_predictions(
    predictions: pd.DataFrame,
    splits: pd.DataFrame | None = None,
    thresholds: Mapping[tuple[str, str], float] | None = None,
) -> list[Audit]:
    """Every audit that needs predictions alone, for each study and model: overlap, threshold, test and out-of-fold scores.

    predictions: frame of the predictions contract. splits: frozen patient_id and split. thresholds: reported ones, {(study,
    model): threshold}; without, thresholds are not audited.
    """
    audits = []
    for (study, model), rows in predictions.groupby(["study", "model"], sort=False):
        subject = f"{study}: {model}"
        audits.append(audit_patient_overlap(rows, subject, splits=splits))
        part = {split: of_split for split, of_split in rows.groupby("split") if of_split["y_true"].nunique() == 2}
        test = part.get("test")
        if test is None:
            continue
        chosen = part.get("validation", part.get("cross_validation", part.get("train")))
        reported = (thresholds or {}).get((study, model))
        if reported is not None and np.isfinite(reported) and chosen is not None:
            audits.append(
                audit_threshold(chosen["y_true"], chosen["y_score"], test["y_true"], test["y_score"], reported, subject)
            )
        for split, audit in (("validation", audit_trained_on_test), ("cross_validation", audit_out_of_fold)):
            if split in part:
                held, compared = part[split], [test["y_true"], test["y_score"]]
                whose = [held["patient_id"].to_numpy(), test["patient_id"].to_numpy()]
                audits.append(_of_sets(audit, held, compared, whose, subject))
    return audits


def _of_sets(audit, held: pd.DataFrame, compared: list, whose: list[np.ndarray], subject: str) -> Audit:
    names = (
        ("patients_other", "patients_test")
        if audit is audit_trained_on_test
        else ("patients_out_of_fold", "patients_test")
    )
    return audit(held["y_true"], held["y_score"], *compared, subject, **dict(zip(names, whose, strict=True)))


def _too_good(name: str, subject: str, sets: tuple, called: tuple[str, str], confidence: float) -> Audit:
    estimates = [_estimate(*one, confidence) for one in sets]
    delta = estimates[0].auc - estimates[1].auc
    error = float(np.hypot(estimates[0].standard_error, estimates[1].standard_error))
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * error
    evidence = pd.DataFrame(
        [{"set": said, "n": len(one[0]), "auc": e.auc} for said, one, e in zip(called, sets, estimates, strict=True)]
    )
    shown = f"AUC {called[0]} minus {called[1]} {format_interval(delta, delta - reach, delta + reach)}"
    if delta - reach > 0:
        return Audit(
            name, subject, False, f"{shown}, above 0; look for scored patients among those trained on", evidence
        )
    return Audit(name, subject, True, shown, evidence)


def _estimate(y: ArrayLike, score: ArrayLike, patient_ids: ArrayLike | None, confidence: float):
    if patient_ids is not None and pd.Series(np.asarray(patient_ids)).duplicated().any():
        return clustered_delong_auc(y, score, patient_ids, confidence=confidence)
    return delong_auc(y, score, confidence=confidence)


def _within(
    positive: np.ndarray, scores: np.ndarray, where: np.ndarray, centers: Iterable[str], weights: np.ndarray
) -> np.ndarray:
    """Within-center AUC of every resample (rows of weights); centers count by their pairs."""
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for center in centers:
        members = where == center
        part = weights[:, members]
        of_center = part[:, positive[members]].sum(axis=1) * part[:, ~positive[members]].sum(axis=1)
        wins += of_center * np.nan_to_num(weighted_auc(positive[members], scores[members], part))
        pairs += of_center
    return wins / np.where(pairs > 0, pairs, np.nan)


def _permuted_within_folds(
    labels: np.ndarray, score: np.ndarray, fold: np.ndarray, rng: np.random.Generator, n: int
) -> np.ndarray:
    """(n,) AUCs within folds of fixed scores after shuffling the labels of each fold."""
    wins, pairs = np.zeros(n), 0
    for k in np.unique(fold):
        members = fold == k
        n_positive, size = int(labels[members].sum()), int(members.sum())
        ranks = stats.rankdata(score[members])
        drawn = rng.permuted(np.tile(ranks, (n, 1)), axis=1)[:, :n_positive].sum(axis=1)
        wins += drawn - n_positive * (n_positive + 1) / 2
        pairs += n_positive * (size - n_positive)
    return wins / pairs


def _same_calls(scores: np.ndarray, a: float, b: float) -> bool:
    """Whether two thresholds call the same of these scores positive."""
    return bool(((scores >= a) == (scores >= b)).all())


def _listed(names: Iterable[object], most: int = 3) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")

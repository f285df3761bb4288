"""Audits that a leaking pipeline fails: each looks for one way of fooling oneself and says what it found.

An audit that passes has not found that leak; it proves nothing else. How images are compared lives in
`alnlib.imaging.duplicates`, how pipelines are repeated in `alneval.resplit`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from alneval.curves import auc_within, weighted_auc
from alneval.delong import auc_difference, auc_interval
from alneval.estimate import Estimate, format_interval, format_p, interval, once
from alneval.folds import GIVEN_SPLITS
from alneval.resplit import CrossValidated, PermutedTwin, auc_within_folds
from alneval.seeds import models_only
from alneval.tables import THRESHOLD_SOURCES
from alneval.thresholds import youden_threshold
from alneval.units import Units

CONFIDENCE = 0.99
"""Of the intervals that decide. An audit fails where an interval lies wholly on the wrong side, so that one that rests on a
single comparison raises a false alarm in about 1 of 200 clean pipelines (the tests count them over seeds)."""

LABEL_CODED_AUC = 0.60
"""AUC that center or acquisition alone may reach before they count as a code of the label. Case mix differs between real
hospitals, and a significant AUC of 0.55 is no leak; the value is our choice."""

LEAST_GAIN = 0.1
"""In AUC. An audit that compares AUCs passes only where its interval rules out that a leak gains this much; where it does not,
it has not enough power to tell. Our choice: a third of what models of this field have beyond chance."""

OUTCOME_CODED_AUC = 0.9
"""AUC with CONFIDENCE of a single predictor that says: this is the outcome, or was measured after it. Single clinical
variables of this field reach 0.8 at most (palpable nodes, a radiologist's read); the value is our choice."""

CHANCE_COPIES, CHANCE_NEAR_COPIES, TIMES_CHANCE = 1e-3, 1e-9, 10
"""Expected number of other rows that match a row by chance, columns taken as independent, below which it may be a copy: of
rows equal in all columns, and in all but one. Columns of patients depend on one another, so copies must also be TIMES_CHANCE
as many as chance makes. In 922 real and 2,842 simulated patients none is equal to another, and matches in all but one column
have at least 1e-6."""

METADATA_FOLDS, METADATA_PERMUTATIONS = 5, 999

AUDIT_COLUMNS = ("audit", "subject", "result", "finding")


@dataclass(frozen=True, eq=False)
class Audit:
    """What one audit found.

    name: the leak it looks for; subject: the pipeline, table or images looked at; passed: None where it does not apply or,
    powerless, where too little is there to tell; finding: one sentence; evidence: rows that show it.
    """

    name: str
    subject: str
    passed: bool | None
    finding: str
    evidence: pd.DataFrame = field(default_factory=pd.DataFrame)
    powerless: bool = False

    @property
    def result(self) -> str:
        """ "passed", "failed", "not enough power to tell" or "not applicable"."""
        if self.passed is None:
            return "not enough power to tell" if self.powerless else "not applicable"
        return "passed" if self.passed else "failed"

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


def _unless_blind(name: str, subject: str, finding: str, evidence: pd.DataFrame, *, blind: bool) -> Audit:
    """Passed, unless the data could not have shown the leak."""
    return Audit(name, subject, None if blind else True, finding, evidence, powerless=blind)


def audit_table(audits: Iterable[Audit]) -> pd.DataFrame:
    """One row per audit: AUDIT_COLUMNS."""
    rows = [(audit.name, audit.subject, audit.result, audit.finding) for audit in audits]
    return pd.DataFrame(rows, columns=list(AUDIT_COLUMNS))


def audit_patient_overlap(rows: pd.DataFrame, subject: str = "table", *, splits: pd.DataFrame | None = None) -> Audit:
    """Fails if a patient is in two splits, or in another one than `splits` says.

    rows: patient_id, `split` and perhaps `model`, any number per patient. Rows of cross_validation count as a split of
    development patients where a model has test rows and none of training and validation; else they are of an analysis of its
    own, which may cross all patients. splits: the frozen assignment, patient_id and split. A certain finding, not a test.
    """
    name = "patient overlap between splits"
    if not rows["split"].isin(GIVEN_SPLITS).any():
        return Audit(name, subject, None, "no row has a split")
    developed = rows["split"].isin(["train", "validation"])
    model = rows["model"] if "model" in rows else pd.Series("", index=rows.index)
    tested = rows["split"].isin(["test", "external"])
    apart = tested.groupby(model).transform("any") & ~developed.groupby(model).transform("any")
    crossed = (rows["split"] == "cross_validation") & apart
    # other models of the table may have the same patients in training
    known = rows["patient_id"].isin(rows.loc[developed, "patient_id"])
    placed = rows.loc[rows["split"].isin(GIVEN_SPLITS) | (crossed & ~known), ["patient_id", "split"]]
    of_patient = placed.groupby("patient_id")["split"].agg(lambda splits: sorted(set(splits)))
    shared = of_patient[of_patient.map(len) > 1]
    if len(shared):
        evidence = pd.DataFrame({"patient_id": shared.index, "splits": shared.map(" and ".join).to_numpy()})
        count = f"{len(shared)} of {len(of_patient)} patients are in two splits ({_listed(shared.index)})"
        return Audit(name, subject, False, f"{count}; split by patient", evidence)
    here = of_patient.str[0]
    frozen = here if splits is None else splits.set_index("patient_id")["split"].reindex(here.index)
    kept = (frozen == here) | ((here == "cross_validation") & frozen.isin(["train", "validation"]))
    moved = here.index[frozen.notna() & ~kept]
    if len(moved):
        evidence = pd.DataFrame({"splits": here[moved], "frozen": frozen[moved]}).reset_index()
        count = f"{len(moved)} of {len(here)} patients are not in the split that was frozen ({_listed(moved)})"
        return Audit(name, subject, False, f"{count}; use the frozen splits", evidence)
    return Audit(name, subject, True, f"{len(here)} patients, each in one split")


def audit_duplicate_rows(
    table: pd.DataFrame, columns: Sequence[str], subject: str = "table", outcome: str = ""
) -> Audit:
    """Fails if rows of different patients in different splits are copies: one patient under two ids.

    table: one row per patient: patient_id, split and the columns compared, numbers and text, an empty value being a value;
    outcome: a column of it, not compared, by which copies with opposite outcomes are counted. A match counts if chance
    would hardly make it (CHANCE_COPIES; in all but one column CHANCE_NEAR_COPIES); rows of few coarse columns match by
    chance, and nothing can be told of them. Evidence: row names of each pair, patient_id, split, differs_in, chance.
    Copies whose every number was changed a little are not found.
    """
    name = "duplicate rows between splits"
    if len(table) < 2 or not len(columns):
        return Audit(name, subject, None, "fewer than two rows, or no columns")
    pairs, chance, told_apart = _copied_rows(table[list(columns)])
    pairs = pairs.sort_values(["first", "second"])
    evidence = pairs.drop(columns=["first", "second"])
    told = ["patient_id", "split", *([outcome] if outcome else [])]
    for end in ("first", "second"):
        for column in told:
            evidence[f"{column}_{end}"] = table[column].to_numpy()[pairs[end].to_numpy(dtype=int)]
    evidence = evidence[evidence["patient_id_first"] != evidence["patient_id_second"]].reset_index(drop=True)
    few = (evidence["differs_in"] == "").sum() <= TIMES_CHANCE * chance
    evidence = evidence[(evidence["differs_in"] != "") | (not few)]
    across = evidence[evidence["split_first"] != evidence["split_second"]]
    counted = f"{len(table)} rows, {len(columns)} columns"
    opposed, within = 0, len(evidence) - len(across)
    if outcome:
        labels = evidence[[f"{outcome}_first", f"{outcome}_second"]].dropna()
        opposed = int((labels.iloc[:, 0] != labels.iloc[:, 1]).sum())
    more = (f", {within} within a split" if within else "") + (f", {opposed} with opposite outcomes" if opposed else "")
    if len(across):
        names = [f"{row.patient_id_first} and {row.patient_id_second}" for row in across.itertuples()]
        finding = f"{len(across)} pairs of one row in two splits ({_listed(names)}){more}; keep one of each"
        return Audit(name, subject, False, f"{counted}: {finding}", evidence)
    blind = told_apart < 0.5
    finding = f"{1 - told_apart:.0%} of the rows match others by chance" if blind else "no row is in two splits"
    return _unless_blind(name, subject, f"{counted}: {finding}{more}", evidence, blind=blind)


def _copied_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, float, float]:
    """Pairs of rows that chance hardly makes: first, second (positions), differs_in, chance (expected matches of that row);
    how many pairs, equal in all columns, chance makes of rows that rare; and the share of rows that are."""
    n, names = len(table), [str(name) for name in table]
    text = table.astype(object).where(table.notna(), "").astype(str)
    shares = np.stack([column.map(column.value_counts()).to_numpy(float) / n for _, column in text.items()], axis=1)
    salted = [pd.util.hash_array((f"{at} " + column).to_numpy(object)) for at, (_, column) in enumerate(text.items())]
    hashed = np.stack(salted, axis=1)  # a row is the sum of its columns, from which one can be taken off
    whole, rarity = hashed.sum(axis=1, dtype=np.uint64), np.log(shares)
    equal = np.log(n - 1) + rarity.sum(axis=1)
    rare = equal < np.log(CHANCE_COPIES)
    chance = float(np.exp(equal[rare]).sum() / 2)
    found = [(*pair, "", np.exp(equal[pair[0]])) for pair in _equal_pairs(whole) if rare[pair[0]]]
    near = equal[:, None] - rarity + np.log(len(names))
    for at, name in enumerate(names):
        unlikely = near[:, at] < np.log(CHANCE_NEAR_COPIES)
        pairs = _equal_pairs(np.where(unlikely, whole - hashed[:, at], np.arange(n, dtype=np.uint64)))
        found += [(*pair, name, np.exp(near[pair[0], at])) for pair in pairs if whole[pair[0]] != whole[pair[1]]]
    return pd.DataFrame(found, columns=["first", "second", "differs_in", "chance"]), chance, float(rare.mean())


def _equal_pairs(keys: np.ndarray) -> list[tuple[int, int]]:
    """Positions of every two equal keys, (n,)."""
    order = np.argsort(keys, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(keys[order])) + 1)
    return [pair for group in groups if len(group) > 1 for pair in combinations(group.tolist(), 2)]


def audit_duplicate_images(pairs: pd.DataFrame, images: pd.DataFrame, subject: str = "images") -> Audit:
    """Fails if the same picture belongs to patients of different splits, or of opposite outcomes.

    pairs: of `alnlib.imaging.duplicates.find_duplicates`, whose first and second count rows of `images`; images: patient_id,
    split and, where there are, image_id, path and outcome. Pairs of different patients within one split and outcome are
    told, not failed: a patient enrolled twice, who counts twice but leaks nothing between splits. Evidence: all of these
    columns of either picture. False alarms: see MIN_CORRELATION there.
    """
    name = "duplicate images between splits"
    if images.empty:
        return Audit(name, subject, None, "no images")
    evidence = pairs.reset_index(drop=True).drop(columns=["first", "second"])
    for end in ("first", "second"):
        for column in images.columns.intersection(["image_id", "patient_id", "split", "path", "outcome"]):
            evidence[f"{column}_{end}"] = images[column].to_numpy()[pairs[end].to_numpy(dtype=int)]
    evidence = evidence[evidence["patient_id_first"] != evidence["patient_id_second"]].reset_index(drop=True)
    across = evidence["split_first"] != evidence["split_second"]
    opposed = pd.Series(False, index=evidence.index)
    if "outcome" in images:
        known = evidence[["outcome_first", "outcome_second"]].notna().all(axis=1)
        opposed = known & (evidence["outcome_first"] != evidence["outcome_second"]).fillna(False).astype(bool)
    counted, called = f"{len(images)} images compared", "image_id" if "image_id" in images else "patient_id"
    what = [
        (across, "in two splits", lambda row, end: f"{row[f'{called}_{end}']} ({row[f'split_{end}']})"),
        (opposed, "with opposite outcomes", lambda row, end: str(row.get(f"path_{end}", row[f"{called}_{end}"]))),
    ]
    findings = []
    for which, where, shown in what:
        if which.any():
            example = " and ".join(shown(evidence[which].iloc[0], end) for end in ("first", "second"))
            findings.append(f"{int(which.sum())} pairs of one picture {where}, such as {example}")
    if findings:
        return Audit(name, subject, False, f"{counted}: {'; '.join(findings)}; keep one of each pair", evidence)
    rest = f", {len(evidence)} within a split" if len(evidence) else ""
    return Audit(name, subject, True, f"{counted}, no picture in two splits{rest}", evidence)


def audit_permuted_labels(twin: PermutedTwin, subject: str = "pipeline") -> Audit:
    """Fails if a pipeline finds something in permuted labels: the twin's interval lies above AUC 0.5.

    Selection, tuning, scaling or resampling outside the fold shows here, whatever it is called. Without such a leak the mean
    AUC within folds is exactly 0.5, and the false-alarm rate is half of one minus the twin's confidence. An interval below
    0.5 is no leak; it is said. Too few permutations leave room for LEAST_GAIN, and the audit cannot tell.
    """
    name = "selection outside the fold (permuted labels)"
    evidence = pd.DataFrame({"permutation": np.arange(len(twin.aucs)), "auc": twin.aucs})
    shown = f"mean AUC on {len(twin.aucs)} permuted labelings {twin.mean}"
    if twin.claims_too_much:
        return Audit(name, subject, False, f"{shown} lies above 0.5; put every fitted step inside the fold", evidence)
    covers = "covers 0.5" if twin.mean.high >= 0.5 else "lies below 0.5, which is no leak"
    blind = not twin.mean.high < 0.5 + LEAST_GAIN
    more = f" and {0.5 + LEAST_GAIN:g}: draw more permutations" if blind else ""
    return _unless_blind(name, subject, f"{shown} {covers}{more}", evidence, blind=blind)


def accuracy_threshold(units: Units) -> float:
    """The threshold with the best accuracy of the first score; among equals the one closest to Youden's."""
    scores, ordered = units.score, np.unique(units.score)
    cuts = np.concatenate([ordered[:1], (ordered[1:] + ordered[:-1]) / 2, [np.nextafter(ordered[-1], np.inf)]])
    right = ((scores[None] >= cuts[:, None]) == units.positive[None]).sum(axis=1)
    best = cuts[right == right.max()]
    return float(best[np.argmin(np.abs(best - youden_threshold(units)))])


THRESHOLD_RULES = {
    "Youden": youden_threshold,
    "accuracy": accuracy_threshold,
}
"""Ways in which a threshold may have been chosen: {name: function of units}."""


def threshold_optimism(held: Units, test: Units) -> ThresholdOptimism:
    """What choosing Youden's threshold on the test data would claim beyond the one locked on the `held` data."""
    positive, scores = test.positive, test.score
    locked, best = youden_threshold(held), youden_threshold(test)
    at_locked, at_best = (
        float((scores[positive] >= cut).mean() + (scores[~positive] < cut).mean() - 1) for cut in (locked, best)
    )
    return ThresholdOptimism(locked, best, at_locked, at_best, at_best - at_locked)


def threshold_optimism_table(predictions: pd.DataFrame) -> pd.DataFrame:
    """`threshold_optimism` of every study, model and tested split: columns study, model, split, chosen_on, and its fields.

    chosen_on: validation rows, else cross-validated, else training rows; without two classes there, no row. Single fits
    have none.
    """
    optimism = []
    for (study, model), rows in models_only(predictions).groupby(["study", "model"], sort=False):
        units = _units_by_split(rows)
        chosen_on = _chosen_on(units)
        for split in [split for split in ("test", "external") if split in units and chosen_on]:
            row = {"study": study, "model": model, "split": split, "chosen_on": chosen_on}
            optimism.append(row | vars(threshold_optimism(units[chosen_on], units[split])))
    return pd.DataFrame(optimism)


def audit_threshold(held: Units, test: Units, threshold: float, subject: str = "model") -> Audit:
    """Fails if the reported threshold is the best one of the test data and not that of the data it should come from.

    held: validation (or training, or out-of-fold) data; threshold: as reported. It counts as "the same" as a rule's
    threshold if no score of that data lies between them, for the reported one is often rounded. Rules: THRESHOLD_RULES. A
    threshold from elsewhere (0.5, a guideline) matches neither and passes; it fails by chance only if it falls between two
    adjacent test scores round the optimum, in about 1 of n clean cases and rule (counted in the tests).
    """
    name = "threshold chosen on test data"
    optimism = threshold_optimism(held, test)
    matches = []
    for rule, choose in THRESHOLD_RULES.items():
        for where, units in (("validation", held), ("test", test)):
            optimum = choose(units)
            same_calls = bool(((units.scores >= threshold) == (units.scores >= optimum)).all())
            matches.append((rule, where, optimum, same_calls))
    evidence = pd.DataFrame(matches, columns=["rule", "chosen_on", "threshold", "is_reported"])
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


def audit_predictors(
    y: ArrayLike, predictors: pd.DataFrame, rng: np.random.Generator, subject: str = "predictors"
) -> Audit:
    """Fails if a single predictor tells the outcome nearly alone: it is the outcome, or was measured after it.

    y: (n,) 0/1, a row per patient; predictors: (n, columns), missing ones as they are, for a variable that is known of
    positives alone tells as much. Each is scored by `metadata_model`, cross-validated, and fails if the interval of its AUC
    lies above OUTCOME_CODED_AUC with CONFIDENCE (DeLong); one that reaches it leaves the audit without an answer.
    """
    name = "predictor that is the outcome"
    told, labels = _told(predictors), Units.of(y).positive.astype(int)
    if told.shape[1] == 0 or np.bincount(labels, minlength=2).min() < METADATA_FOLDS:
        return Audit(name, subject, None, "no predictor varies, or a class is too small to look", powerless=True)
    root, found = int(rng.integers(2**63)), []
    for column in told:
        score, _ = _score_alone(told[[column]], labels, root)
        found.append((column, auc_interval(Units.of(labels, score), confidence=CONFIDENCE)))
    evidence = pd.DataFrame([{"predictor": column} | area.named("auc") for column, area in found])
    coded = [f"{column} ({area})" for column, area in found if area.low > OUTCOME_CODED_AUC]
    if coded:
        shown = f"{_listed(coded)} alone has an AUC above {OUTCOME_CODED_AUC:g}"
        return Audit(name, subject, False, f"{shown}; take out what is known only with the outcome", evidence)
    column, area = max(found, key=lambda each: each[1].value)
    blind = any(area.high >= OUTCOME_CODED_AUC for _, area in found)
    return _unless_blind(name, subject, f"the best of {len(found)}: {column}, AUC {area}", evidence, blind=blind)


def _told(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns that vary; levels are text to the encoder, missing ones included."""
    varies = frame[[column for column in frame if frame[column].nunique(dropna=False) > 1]].reset_index(drop=True)
    numeric = pd.api.types.is_numeric_dtype
    return varies.apply(lambda column: column.astype(float) if numeric(column) else column.astype(str).astype(object))


def _score_alone(columns: pd.DataFrame, labels: np.ndarray, root: int) -> tuple[np.ndarray, np.ndarray]:
    """Cross-validated scores of `metadata_model` on these columns, and the fold of each, (n,)."""
    scorer = CrossValidated(metadata_model(columns), METADATA_FOLDS)
    return scorer(columns, labels, np.arange(len(labels)).astype(str), np.random.default_rng(root))


def audit_metadata(
    y: ArrayLike, metadata: pd.DataFrame, rng: np.random.Generator, subject: str = "center and acquisition"
) -> Audit:
    """Fails if center, scanner or other metadata alone predict the label: then a network need not look at the disease.

    y: (n,) 0/1, a row per patient; metadata: (n, columns), nothing of the patient or the lesion. `metadata_model` is
    cross-validated; it fails if its AUC within folds is at least LABEL_CODED_AUC and above that of all but 1 % of
    permutations of the labels within folds, its scores held fixed. It cannot tell where more than 1 % of these reach
    LABEL_CODED_AUC.
    """
    name = "label coded by center or acquisition"
    told, labels = _told(metadata), Units.of(y).positive.astype(int)
    if told.shape[1] == 0:
        return Audit(name, subject, None, "all patients have the same metadata")
    if np.bincount(labels, minlength=2).min() < METADATA_FOLDS:
        return Audit(name, subject, None, f"a class has fewer than {METADATA_FOLDS} patients", powerless=True)
    root = int(rng.integers(2**63))
    predicted, chances = [], []
    for columns in [list(told), *([column] for column in told if told.shape[1] > 1)]:
        score, fold = _score_alone(told[columns], labels, root)
        area = auc_within_folds(Units.of(labels, score), fold)
        chance = _permuted_within_folds(labels, score, fold, rng, METADATA_PERMUTATIONS)
        p = (1 + int((chance >= area - 1e-12).sum())) / (1 + METADATA_PERMUTATIONS)
        predicted.append((", ".join(map(str, columns)), area, p))
        chances.append(chance)
    evidence = pd.DataFrame(predicted, columns=["metadata", "auc", "p"])
    columns, area, p = predicted[0]
    shown = f"AUC of {columns} alone {area:.3f} ({format_p(p)} by permutation)"
    if area >= LABEL_CODED_AUC and p <= 0.01:
        return Audit(name, subject, False, f"{shown}; match or stratify, and report within centers", evidence)
    blind = bool(np.quantile(chances[0], 0.99) > LABEL_CODED_AUC)
    finding = f"{shown}, below {LABEL_CODED_AUC:g} or not told from chance"
    return _unless_blind(name, subject, finding, evidence, blind=blind)


def audit_center_score(
    units: Units, center: ArrayLike, rng: np.random.Generator, subject: str = "model", *, n_bootstrap: int = 2000
) -> Audit:
    """Fails if more than half of what a model discriminates is between centers and not within them.

    center: (n,). Within-center AUC compares patients of one center only; a model that reads the center (or anything that
    differs by center) loses there what it gained by it. Fails if pooled minus within-center AUC is above 0 with CONFIDENCE
    (bootstrap of patients within center and class) and more than half of pooled minus 0.5; also if no center has both
    classes, when label and center cannot be told apart. It cannot tell where that interval reaches more than half of pooled
    minus 0.5, and LEAST_GAIN.
    """
    name = "score explained by center"
    where = np.asarray(center).astype(str)
    counts = pd.DataFrame({"center": where, "y": units.positive}).groupby("center")["y"].agg(["size", "sum"])
    evidence = counts.rename(columns={"size": "n", "sum": "n_positive"}).rename_axis("center").reset_index()
    if len(counts) < 2 or not units.has_both_classes:
        return Audit(name, subject, None, "one center, or one class", evidence)
    evidence["auc"] = [once(weighted_auc, units.where(where == at)) for at in evidence["center"]]
    if evidence["auc"].isna().all():
        return Audit(name, subject, False, "every center has one class: label and center are the same", evidence)
    within = auc_within(where)

    def between(units: Units, weights: np.ndarray) -> np.ndarray:
        return weighted_auc(units, weights) - within(units, weights)

    strata = np.char.add(where, units.positive.astype(str))
    difference = interval(between, units, rng, n=n_bootstrap, strata=strata, confidence=CONFIDENCE)
    pooled = once(weighted_auc, units)
    shown = f"AUC {pooled:.3f} pooled, {once(within, units):.3f} within centers, difference {difference}"
    if difference.low > 0 and difference.value > (pooled - 0.5) / 2:
        return Audit(name, subject, False, f"{shown}: most of it is which center", evidence)
    blind = difference.high > max((pooled - 0.5) / 2, LEAST_GAIN)
    return _unless_blind(name, subject, shown, evidence, blind=blind)


def audit_attainable(units: Units, subject: str = "model") -> Audit:
    """Fails if a model is better than can be: it was trained on its test patients, or saw the label.

    units: test patients, scored by the model and by the oracle, the generative model's own probabilities of simulated
    patients. The two are compared in pairs (DeLong, by patient Obuchowski).
    """
    name = "better than attainable"
    compared = auc_difference(units, confidence=CONFIDENCE)
    evidence = pd.DataFrame([[*compared.values, compared.p]], columns=["auc", "oracle_auc", "p"])
    shown = f"AUC minus that of the oracle {format_interval(compared.value, compared.low, compared.high)}"
    if compared.low > 0:
        return Audit(name, subject, False, f"{shown}; look for test patients among those trained on", evidence)
    return _unless_blind(name, subject, shown, evidence, blind=not compared.high < LEAST_GAIN)


def audit_trained_on_test(held: Units, test: Units, subject: str = "model") -> Audit:
    """Fails if test patients are scored better than other held-out ones, on whom the model was even chosen.

    held: validation patients of the same hospital (an external one is harder for honest reasons), or development patients
    scored out of fold. Validation flatters, so a test AUC significantly above it wants an explanation: usually, test patients
    were trained on. Unpaired, by patient (DeLong, Obuchowski). Small sets have little power.
    """
    return _too_good("trained on test patients", subject, {"test": test, "other held-out": held})


def audit_out_of_fold(held: Units, test: Units, subject: str = "model") -> Audit:
    """Fails if "out-of-fold" scores are better than test scores: then they are of patients the model had learned from.

    held: out-of-fold scores. Unpaired, by patient (DeLong, Obuchowski).
    """
    return _too_good("out-of-fold scores that are in-sample", subject, {"out-of-fold": held, "test": test})


def audit_predictions(
    predictions: pd.DataFrame, thresholds: Mapping[tuple[str, str], float] | None = None
) -> list[Audit]:
    """Every audit that needs predictions alone, for each study and model: overlap, threshold, test and out-of-fold scores.

    predictions: frame of the predictions contract; of single fits only their main model is audited. thresholds: reported
    ones, {(study, model): threshold}; without, thresholds are not audited.
    """
    audits = []
    for (study, model), rows in models_only(predictions).groupby(["study", "model"], sort=False):
        subject = f"{study}: {model}"
        audits.append(audit_patient_overlap(rows, subject))
        units = _units_by_split(rows)
        if "test" not in units:
            continue
        chosen_on = _chosen_on(units)
        reported = (thresholds or {}).get((study, model), np.nan)
        if np.isfinite(reported) and chosen_on is not None:
            audits.append(audit_threshold(units[chosen_on], units["test"], reported, subject))
        held = next((units[split] for split in ("validation", "cross_validation") if split in units), None)
        if held is not None:
            audits.append(audit_trained_on_test(held, units["test"], subject))
        if "cross_validation" in units:
            audits.append(audit_out_of_fold(units["cross_validation"], units["test"], subject))
    return audits


def _units_by_split(rows: pd.DataFrame) -> dict[str, Units]:
    """{split: units} of one model, of the splits with both classes."""
    units = {split: Units.of_rows(of_split) for split, of_split in rows.groupby("split")}
    return {split: of_split for split, of_split in units.items() if of_split.has_both_classes}


def _chosen_on(units: Mapping[str, Units]) -> str | None:
    """The split on which a threshold may be chosen."""
    return next((split for split in THRESHOLD_SOURCES if split in units), None)


def _too_good(name: str, subject: str, sets: Mapping[str, Units]) -> Audit:
    """Fails if the AUC of the first of two sets is above that of the second; cannot tell if it may be by LEAST_GAIN."""
    first, second = (auc_interval(units, confidence=CONFIDENCE) for units in sets.values())
    reach = float(stats.norm.ppf((1 + CONFIDENCE) / 2)) * float(np.hypot(first.standard_error, second.standard_error))
    delta = first.value - second.value
    evidence = pd.DataFrame({"set": list(sets), "n": [first.n, second.n], "auc": [first.value, second.value]})
    shown = f"AUC {' minus '.join(sets)} {Estimate(delta, delta - reach, delta + reach)}"
    if delta - reach > 0:
        return Audit(
            name, subject, False, f"{shown}, above 0; look for scored patients among those trained on", evidence
        )
    return _unless_blind(name, subject, shown, evidence, blind=not delta + reach < LEAST_GAIN)


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


def _listed(names: Iterable[object], most: int = 3) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")

"""The clinical models: encoding of clinical variables, odds-ratio tables, selection and logistic regression as one pipeline.

The nomogram lives in `alnlib.models.nomogram`; AUCs and intervals in `alneval`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, stats
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from statsmodels.discrete.discrete_model import Logit
from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning

from alneval.folds import patient_level_folds, possible_folds
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError, Problem

Z_95 = float(stats.norm.ppf(0.975))
_NUMERICALLY_CERTAIN = 1e-6
_CATEGORICAL = ("ordinal", "nominal")
LARGEST_LOG_ODDS = 30.0
"""An interval of a log odds ratio that reaches further than this says nothing; its row is left empty with a note."""

INTERCEPT = "(Intercept)"
"""Row of a risk equation that is no variable."""

TABLE_COLUMNS = ("variable", "level", "n", "events", "odds_ratio", "low", "high")
TABLE_COLUMNS += ("p_wald", "p_likelihood_ratio", "note")


def design_columns(clinical: Mapping[str, ClinicalVariable]) -> pd.DataFrame:
    """The columns that `ClinicalEncoder` makes: feature, column (of patients), variable (label), level.

    A continuous variable keeps one column named by its label; another has one 0/1 column per level after the first, its
    reference, named "label: level". Raises ValueError for doubled labels.
    """
    labels = [variable.label for variable in clinical.values()]
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if doubled:
        raise ValueError(f"clinical variables share a label: {', '.join(doubled)}")
    rows = []
    for column, variable in clinical.items():
        if variable.kind == "continuous":
            unit = f"per unit ({variable.unit})" if variable.unit else "per unit"
            rows.append((variable.label, column, variable.label, unit))
        elif variable.kind in _CATEGORICAL:
            rows += [(f"{variable.label}: {level}", column, variable.label, level) for level in variable.levels[1:]]
        else:
            raise ValueError(f"{column}: unknown kind {variable.kind!r}")
    return pd.DataFrame(rows, columns=["feature", "column", "variable", "level"])


@dataclass(eq=False, repr=False)
class ClinicalEncoder(TransformerMixin, BaseEstimator):
    """Clinical variables as numbers: frame in, frame out, fitted on the training fold only.

    clinical: {column: ClinicalVariable}. Continuous values stay in their unit, so that odds ratios are per unit; a missing
    one becomes the training median. Ordinal and nominal variables get one 0/1 column per level after the reference; ordinal
    ones too, because equal steps of the logit from T1 to T4 would be an assumption.
    A missing one of these gets the most frequent training level and no column of its own: whether a test was done depends on
    the patient's path (surgery first or not), so a "missing" column would learn local workflow, which does not travel to
    another hospital.

    Raises InputError for an absent column, text among numbers, or a level that the cohort does not declare.
    """

    clinical: Mapping[str, ClinicalVariable]

    def fit(self, X: pd.DataFrame, y: object = None) -> ClinicalEncoder:
        """Learn medians, most frequent levels and observed ranges. X: patients, with a column per clinical variable."""
        self.design_ = design_columns(self.clinical)
        checked = _check_clinical(X, self.clinical)
        self.fill_: dict[str, float | str] = {}
        self.ranges_: dict[str, tuple[float, float]] = {}
        for column, variable in self.clinical.items():
            known = checked[column].dropna()
            if known.empty:
                raise InputError(
                    f"{variable.label} ({column}) is missing in every training patient; leave this variable out."
                )
            if variable.kind == "continuous":
                self.fill_[column] = float(known.median())
                self.ranges_[column] = (float(known.min()), float(known.max()))
            else:
                counts = known.value_counts()
                # Ties go to the level declared first, not to the order of rows.
                self.fill_[column] = max(variable.levels, key=lambda level: counts.get(level, 0))
        self.feature_names_in_ = np.asarray(list(self.clinical), dtype=object)
        self.n_features_in_ = len(self.clinical)
        return self

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Encoded variables (n, features) float64 with the index of X and the names of `get_feature_names_out`."""
        check_is_fitted(self, "fill_")
        checked = _check_clinical(X, self.clinical)
        encoded = {}
        for feature, column, _, level in self.design_.itertuples(index=False):
            variable, values = self.clinical[column], checked[column]
            if variable.kind == "continuous":
                encoded[feature] = values.fillna(self.fill_[column])
            else:
                encoded[feature] = (values.astype(object).fillna(self.fill_[column]) == level).astype(float)
        return pd.DataFrame(encoded, index=X.index, dtype=float)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Names of the encoded columns, such as "Age" and "ER: positive"."""
        check_is_fitted(self, "design_")
        return self.design_["feature"].to_numpy(dtype=object)


@dataclass(eq=False, repr=False)
class UnivariableThenMultivariableLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression on the variables that pass a univariable test, selected anew in every fit.

    p_enter: a variable (all its columns together) enters if its univariable likelihood-ratio p is below this. always: scores
    that are in the model whatever their p, such as the signature of a joint model, with a positive coefficient or not at all
    (Breiman 1996, Mach Learn 24:49: a score turned round is noise). groups: {feature: variable}; every column its own
    variable if not given. Where separation leaves no maximum of the likelihood
    (seven patients of a rare level and no event suffice), the chosen variables are fitted by Firth's penalized likelihood.

    Fitted: `selected_variables_` (tuple), `univariable_` (variable, p_likelihood_ratio, note), `odds_ratios_` (variable,
    feature, odds_ratio, low, high, p_wald), `intercept_`, `coef_` (Series by feature, 0 where not selected),
    `note_` (empty, or what was unusual: no variable passed, separation). This is the habit of the field; its p-values and
    intervals after selection are too optimistic (Heinze et al. 2018, Biom J 60:431), its cross-validated scores are not.
    """

    p_enter: float = 0.05
    groups: Mapping[str, str] | None = None
    always: Sequence[str] = ()

    def fit(self, X: pd.DataFrame, y: object) -> UnivariableThenMultivariableLogistic:
        """X: (n, features) numbers without missing values; y: (n,) 0/1.

        Raises ValueError if a class is missing, or for a variable in always that X does not have.
        """
        if not isinstance(X, pd.DataFrame):
            raise TypeError("X must be a DataFrame, whose column names say what was selected")
        y = _check_binary(y, len(X))
        if X.isna().any(axis=None):
            raise ValueError("X has missing values; put ClinicalEncoder before this step")
        self.classes_ = np.array([0, 1])
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]
        variables: dict[str, list[str]] = {}
        for feature in X.columns:
            variables.setdefault((self.groups or {}).get(feature, feature), []).append(feature)
        unknown = sorted(set(self.always) - set(variables))
        if unknown:
            raise ValueError(f"always names {unknown}, which is no variable of X; there are {', '.join(variables)}")

        rows = []
        for variable, features in variables.items():
            fit = _fit_logit(X[features], y)
            p = _likelihood_ratio_p(fit.log_likelihood - _null_log_likelihood(y), len(fit.kept))
            rows.append((variable, p, fit.note))
        self.univariable_ = pd.DataFrame(rows, columns=["variable", "p_likelihood_ratio", "note"])
        passed = (self.univariable_["p_likelihood_ratio"] < self.p_enter) | self.univariable_["variable"].isin(
            self.always
        )
        selected = list(self.univariable_.loc[passed, "variable"])

        fit = _fit_logit(X[[feature for variable in selected for feature in variables[variable]]], y)
        turned = [name for name in self.always if (fit.coefficients.reindex(variables[name]) < 0).any()]
        if turned:
            selected = [variable for variable in selected if variable not in turned]
            fit = _fit_logit(X[[feature for variable in selected for feature in variables[variable]]], y)
        self.selected_variables_ = tuple(selected)
        notes = [] if selected else ["no variable passed selection: intercept only"]
        notes += [f"{', '.join(turned)} left out, whose coefficient would be negative"] if turned else []
        notes += [fit.note] if fit.note else []
        intercept, coefficients, errors = fit.intercept, fit.coefficients, fit.standard_errors
        if fit.separated:
            intercept, coefficients, errors = _firth(X[list(fit.kept)], y)
            notes.append("odds ratios and Wald intervals from Firth's penalized likelihood")
        self.note_ = "; ".join(notes)
        self.intercept_ = intercept
        self.coef_ = coefficients.reindex(X.columns, fill_value=0.0)
        owner = {feature: variable for variable in selected for feature in variables[variable]}
        b, error = coefficients.to_numpy(), errors.to_numpy()
        odds = {"odds_ratio": np.exp(b), "low": np.exp(b - Z_95 * error), "high": np.exp(b + Z_95 * error)}
        names = {"variable": [owner[feature] for feature in fit.kept], "feature": list(fit.kept)}
        self.odds_ratios_ = pd.DataFrame(names | odds | {"p_wald": _wald_p(b, error)})
        return self

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        """Linear predictor (n,), in logits."""
        check_is_fitted(self, "coef_")
        return X[list(self.coef_.index)].to_numpy(float) @ self.coef_.to_numpy() + self.intercept_

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, 2) of classes 0 and 1."""
        positive = 1 / (1 + np.exp(-self.decision_function(X)))
        return np.column_stack([1 - positive, positive])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Classes (n,) at probability 0.5."""
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def clinical_pipeline(
    clinical: Mapping[str, ClinicalVariable], p_enter: float = 0.05, always: Sequence[str] = ()
) -> Pipeline:
    """Encoder, then univariable and multivariable logistic regression; X is the patients frame. Steps: encode, model.

    always: labels of variables that enter whatever their p.
    """
    design = design_columns(clinical)
    groups = dict(zip(design["feature"], design["variable"], strict=True))
    model = UnivariableThenMultivariableLogistic(p_enter=p_enter, groups=groups, always=always)
    return Pipeline([("encode", ClinicalEncoder(clinical)), ("model", model)])


def penalized_clinical_pipeline(clinical: Mapping[str, ClinicalVariable], n_folds: int = 5, seed: int = 0) -> Pipeline:
    """Comparator without selection: ridge logistic regression on all variables, penalty by inner log loss.

    Steps: encode, scale, model. X is the patients frame; the inner folds are drawn from `seed`.
    """
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    model = LogisticRegressionCV(
        Cs=np.logspace(-3, 2, 11),
        cv=folds,
        l1_ratios=(0.0,),
        scoring=_negative_log_loss,
        solver="newton-cholesky",
        max_iter=1000,
        use_legacy_attributes=False,
    )
    return Pipeline([("encode", ClinicalEncoder(clinical)), ("scale", StandardScaler()), ("model", model)])


def _negative_log_loss(model: LogisticRegression, X: np.ndarray, y: np.ndarray) -> float:
    """scikit-learn's neg_log_loss of a binary model, from its logits: the checks of every call took longer than the fits."""
    logits = model.decision_function(X)
    return -float(np.mean(np.logaddexp(0, logits) - y * logits))


def risk_equation(fitted: Pipeline) -> pd.DataFrame:
    """Terms of a fitted `clinical_pipeline` or `penalized_clinical_pipeline`, from which anybody's risk can be computed.

    variable, feature, coefficient, missing_as, odds_ratio; without ridge also low, high, p_wald. Risk = 1 / (1 + exp(-s)), s
    the sum of coefficient x value: 1 for INTERCEPT, the first row, a continuous variable in its unit, 1 or 0 for a level,
    `missing_as` where the patient's value is missing. Means and scales of the training patients are in the coefficients. Odds
    ratios of ridge are pulled towards 1 by the penalty, hence without intervals: the usual ones do not hold.
    """
    encoder, model = fitted["encode"], fitted["model"]
    if isinstance(model, UnivariableThenMultivariableLogistic):
        terms, per_unit, intercept = model.odds_ratios_, model.coef_, model.intercept_
    else:
        per_unit = pd.Series(model.coef_[0] / fitted["scale"].scale_, encoder.design_["feature"])
        terms = encoder.design_[["variable", "feature"]].assign(odds_ratio=np.exp(per_unit.to_numpy()))
        intercept = float(model.intercept_[0] - per_unit @ fitted["scale"].mean_)
    unknown = pd.DataFrame([dict.fromkeys(encoder.clinical)], dtype=object)
    terms = terms.assign(
        coefficient=terms["feature"].map(per_unit), missing_as=terms["feature"].map(encoder.transform(unknown).iloc[0])
    )
    first = pd.DataFrame({"variable": [INTERCEPT], "feature": [INTERCEPT], "coefficient": [intercept]})
    columns = ["variable", "feature", "coefficient", "missing_as", *terms.columns[2:-2]]
    return pd.concat([first, terms]).reset_index(drop=True)[columns]


def univariable_table(patients: pd.DataFrame, clinical: Mapping[str, ClinicalVariable], endpoint: str) -> pd.DataFrame:
    """One logistic model per variable: `TABLE_COLUMNS`, a row per level (reference first) or per unit.

    Complete cases per variable; n and events count the patients of that row's level (all known, for a continuous variable).
    odds_ratio with its 95 % Wald interval; p_wald per row; p_likelihood_ratio per variable, on its first row. Where the
    maximum likelihood does not exist, the odds ratio is empty and `note` says why; the likelihood-ratio p still holds.
    R: glm(family = binomial), confint.default, anova(test = "Chisq").
    """
    known = _known_endpoint(patients, endpoint)
    checked = _check_clinical(known, clinical)
    tables = []
    for column, variable in clinical.items():
        complete = checked[column].notna()
        y = known.loc[complete, endpoint].to_numpy(int)
        single = {column: variable}
        tables.append(_odds_ratio_rows(checked.loc[complete], y, single, [column]))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(TABLE_COLUMNS))


def multivariable_table(
    patients: pd.DataFrame, clinical: Mapping[str, ClinicalVariable], endpoint: str
) -> pd.DataFrame:
    """One logistic model with all of `clinical`: `TABLE_COLUMNS` as in `univariable_table`.

    Complete cases over all variables. p_likelihood_ratio compares with the model without that variable. R: glm, drop1.
    """
    known = _known_endpoint(patients, endpoint)
    checked = _check_clinical(known, clinical)
    complete = checked[list(clinical)].notna().all(axis=1)
    y = known.loc[complete, endpoint].to_numpy(int)
    return _odds_ratio_rows(checked.loc[complete], y, clinical, list(clinical))


def cross_validated_scores(
    pipeline: BaseEstimator,
    X: pd.DataFrame,
    y: object,
    rng: np.random.Generator,
    n_folds: int = 5,
    n_repeats: int = 10,
    patient_ids: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Scores of patients by models that never saw them: patient_id, repeat, fold, y_score; n x n_repeats rows.

    Every fold fits a clone of `pipeline` on the other folds, so encoding, imputation and selection happen inside. Folds are by
    patient (X["patient_id"] unless patient_ids are given) and stratified by y, fewer than n_folds where a class has fewer
    patients. Same rng state, same scores.
    """
    y = _check_binary(y, len(X))
    patients = np.asarray(X["patient_id"] if patient_ids is None else patient_ids).astype(str)
    results = []
    for repeat in range(n_repeats):
        fold = patient_level_folds(y, patients, possible_folds(y, patients, n_folds), rng)
        score = out_of_fold_probabilities(pipeline, X, y, fold)
        results.append(pd.DataFrame({"patient_id": patients, "repeat": repeat, "fold": fold, "y_score": score}))
    return pd.concat(results, ignore_index=True)


def out_of_fold_probabilities(model: BaseEstimator, X: pd.DataFrame, y: object, fold: np.ndarray) -> np.ndarray:
    """Probability (n,) of class 1 for each row, by a clone of `model` fitted without the row's fold.

    fold: (n,) integers, by patient (`patient_level_folds`). Selection, weights and imputation are made anew in every fold.
    """
    return out_of_fold_by_view(model, X, y, fold, {"all": X})["all"].to_numpy()


def out_of_fold_by_view(
    model: BaseEstimator, X: pd.DataFrame, y: object, fold: np.ndarray, views: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """`out_of_fold_probabilities` where held-out patients are shown as in each of `views`: a column per view, index of X.

    Every fold is fitted once, on X as it is. views: {name: frame}, such as X with a modality withheld.
    """
    y, fold = np.asarray(y), np.asarray(fold)
    if any(not view.index.equals(X.index) for view in views.values()):
        raise ValueError("a view must hold the patients of X in the same order")
    score = pd.DataFrame(np.nan, index=X.index, columns=list(views))
    for k in np.unique(fold):
        held_out = fold == k
        fitted = clone(model).fit(X.loc[~held_out], y[~held_out])
        for name, view in views.items():
            score.loc[held_out, name] = fitted.predict_proba(view.loc[held_out])[:, 1]
    return score


@dataclass(frozen=True)
class _LogitFit:
    """A logistic fit. kept: features with a coefficient; coefficients and standard_errors: Series by kept feature."""

    kept: tuple[str, ...]
    intercept: float
    coefficients: pd.Series
    standard_errors: pd.Series
    log_likelihood: float
    separated: frozenset[str]
    note: str


def _fit_logit(X: pd.DataFrame, y: np.ndarray) -> _LogitFit:
    """Maximum likelihood by Newton's method; features that are constant or sums of earlier ones are left out, and said."""
    kept, dropped = _independent_features(X)
    design = np.column_stack([np.ones(len(X)), X[kept].to_numpy(float)])
    notes = [f"no separate effect (constant, or fixed by the others): {', '.join(dropped)}"] if dropped else []
    # Standardized columns: Newton's steps, and the test for runaway estimates, then do not depend on units.
    center, scale = design[:, 1:].mean(axis=0), design[:, 1:].std(axis=0)
    standardized = np.column_stack([design[:, :1], (design[:, 1:] - center) / scale])
    result = None
    with warnings.catch_warnings():
        # All three conditions are looked for below and reported in the note.
        for category in (PerfectSeparationWarning, ConvergenceWarning, HessianInversionWarning):
            warnings.simplefilter("ignore", category)
        # A singular information matrix is what a separated fit can end in.
        with contextlib.suppress(np.linalg.LinAlgError):
            result = Logit(y, standardized).fit(disp=0, method="newton", maxiter=50, tol=1e-10)
    suspicious = (
        result is None
        or not result.mle_retvals["converged"]
        or not np.isfinite(result.bse).all()
        or not _NUMERICALLY_CERTAIN < result.predict().min() <= result.predict().max() < 1 - _NUMERICALLY_CERTAIN
    )
    separated = _separated_columns(standardized, y) if suspicious else np.zeros(standardized.shape[1], bool)
    names = frozenset(feature for feature, runs_away in zip(kept, separated[1:], strict=True) if runs_away)
    if separated.any():
        what = f" by {', '.join(sorted(names))}" if names else ""
        notes.append(f"separation{what}: maximum likelihood does not exist")
    elif suspicious and (result is None or not result.mle_retvals["converged"]):
        notes.append("maximum likelihood did not converge")
    if result is None:
        coefficients, errors = np.full(len(kept), np.nan), np.full(len(kept), np.nan)
        intercept, log_likelihood = np.nan, _supremum_log_likelihood(standardized, y)
    else:
        coefficients, errors = result.params[1:] / scale, result.bse[1:] / scale
        intercept, log_likelihood = float(result.params[0] - coefficients @ center), float(result.llf)
    return _LogitFit(
        tuple(kept),
        intercept,
        pd.Series(coefficients, index=kept, dtype=float),
        pd.Series(errors, index=kept, dtype=float),
        log_likelihood,
        names if names else (frozenset(kept) if separated.any() else frozenset()),
        "; ".join(notes),
    )


def _independent_features(X: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Features in order, less those that the intercept and earlier ones determine (as R's glm drops them)."""
    basis = [np.full(len(X), 1 / np.sqrt(len(X)))]
    kept, dropped = [], []
    for feature in X.columns:
        values = X[feature].to_numpy(float)
        size = np.linalg.norm(values)
        rest = values.copy()
        for _ in range(2):  # twice is enough for orthogonality in floating point
            for direction in basis:
                rest = rest - direction * (direction @ rest)
        left = np.linalg.norm(rest)
        if size == 0 or left <= 1e-7 * size:
            dropped.append(feature)
        else:
            kept.append(feature)
            basis.append(rest / left)
    return kept, dropped


def _separated_columns(design: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which coefficients (design's columns) run away to infinity: Konis 2007 (thesis, Oxford), linear program for separation.

    A direction b with (2y - 1) x'b >= 0 for all patients and > 0 for some raises the likelihood for ever.
    """
    signed = design * (2 * y[:, None] - 1)
    program = optimize.linprog(
        -signed.sum(axis=0), A_ub=-signed, b_ub=np.zeros(len(y)), bounds=[(-1, 1)] * design.shape[1], method="highs"
    )
    if not program.success or -program.fun < 1e-6:
        return np.zeros(design.shape[1], bool)
    return np.abs(program.x) > 1e-6


def _supremum_log_likelihood(design: np.ndarray, y: np.ndarray) -> float:
    """Log likelihood at the limit of a separated fit, from a ridge so weak that it costs less than 0.001."""
    fitted = LogisticRegression(C=1e5, max_iter=10_000, fit_intercept=False).fit(design, y)
    probability = np.clip(fitted.predict_proba(design)[:, 1], 1e-15, 1 - 1e-15)
    return float(np.sum(np.where(y == 1, np.log(probability), np.log1p(-probability))))


def _firth(X: pd.DataFrame, y: np.ndarray, max_iterations: int = 200) -> tuple[float, pd.Series, pd.Series]:
    """Intercept, coefficients and standard errors by Firth's penalized likelihood, which exists under separation too.

    Firth 1993, Biometrika 80:27; Heinze & Schemper 2002, Stat Med 21:2409. Scoring with the penalized likelihood
    checked at every step.
    """
    values = X.to_numpy(float)
    center, scale = values.mean(axis=0), values.std(axis=0)
    design = np.column_stack([np.ones(len(y)), (values - center) / scale])

    def state(beta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        linear = design @ beta
        probability = 1 / (1 + np.exp(-linear))
        information = design.T @ (design * (probability * (1 - probability))[:, None])
        penalized = np.sum(y * linear - np.logaddexp(0, linear)) + 0.5 * np.linalg.slogdet(information)[1]
        return penalized, probability, information

    beta = np.zeros(design.shape[1])
    penalized, probability, information = state(beta)
    for _ in range(max_iterations):
        covariance = np.linalg.inv(information)
        leverage = np.einsum("ij,jk,ik->i", design, covariance, design) * probability * (1 - probability)
        step = covariance @ (design.T @ (y - probability + leverage * (0.5 - probability)))
        step /= max(1.0, np.abs(step).max() / 2)
        # Half steps while the penalized likelihood falls.
        for _ in range(30):
            candidate = state(beta + step)
            if candidate[0] >= penalized - 1e-12:
                break
            step = step / 2
        beta, (penalized, probability, information) = beta + step, candidate
        if np.abs(step).max() < 1e-9:
            break
    errors = np.sqrt(np.diag(np.linalg.inv(information)))[1:] / scale
    coefficients = beta[1:] / scale
    return (
        float(beta[0] - coefficients @ center),
        pd.Series(coefficients, index=X.columns, dtype=float),
        pd.Series(errors, index=X.columns, dtype=float),
    )


def _null_log_likelihood(y: np.ndarray) -> float:
    prevalence = y.mean()
    return float(len(y) * (prevalence * np.log(prevalence) + (1 - prevalence) * np.log1p(-prevalence)))


def _likelihood_ratio_p(gain: float, degrees: int) -> float:
    """p of twice the gain in log likelihood; 1 where nothing was added."""
    return float(stats.chi2.sf(max(0.0, 2 * gain), degrees)) if degrees > 0 else 1.0


def _wald_p(coefficients: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return 2 * stats.norm.sf(np.abs(coefficients / errors))


def _odds_ratio_rows(
    checked: pd.DataFrame, y: np.ndarray, clinical: Mapping[str, ClinicalVariable], columns: list[str]
) -> pd.DataFrame:
    """Rows of `TABLE_COLUMNS` for one model of `columns` on complete cases."""
    design = design_columns(clinical)
    if len(np.unique(y)) < 2:
        labels = ", ".join(clinical[column].label for column in columns)
        raise InputError(f"{labels}: among the {len(y)} complete cases only one outcome occurs; leave a variable out.")
    X = ClinicalEncoder(clinical).fit_transform(checked)
    fit = _fit_logit(X, y)
    rows = []
    for column in columns:
        variable = clinical[column]
        own = design.loc[design["column"] == column]
        others = [feature for feature in X.columns if feature not in set(own["feature"])]
        if others:
            smaller = _fit_logit(X[others], y)
            reference, degrees = smaller.log_likelihood, len(fit.kept) - len(smaller.kept)
        else:
            reference, degrees = _null_log_likelihood(y), len(fit.kept)
        p = _likelihood_ratio_p(fit.log_likelihood - reference, degrees) if degrees else np.nan
        values = checked[column]
        if variable.kind != "continuous":
            at = (values == variable.levels[0]).to_numpy()
            counts = int(at.sum()), int(y[at].sum())
            rows.append((variable.label, variable.levels[0], *counts, 1.0, *(np.nan,) * 3, p, "reference"))
        for feature, level in own[["feature", "level"]].itertuples(index=False):
            at = np.ones(len(y), bool) if variable.kind == "continuous" else (values == level).to_numpy()
            n, events = int(at.sum()), int(y[at].sum())
            note, numbers = "", (np.nan,) * 4
            if feature not in fit.kept:
                note = "no patient at this level" if n == 0 else "no separate effect: constant, or fixed by the others"
            elif feature in fit.separated:
                note = f"separation: odds ratio not estimable ({events} of {n} with the event)"
            elif abs(fit.coefficients[feature]) + Z_95 * fit.standard_errors[feature] > LARGEST_LOG_ODDS:
                note = f"no information: odds ratio not estimable ({events} of {n} with the event)"
            else:
                b, error = fit.coefficients[feature], fit.standard_errors[feature]
                numbers = (np.exp(b), np.exp(b - Z_95 * error), np.exp(b + Z_95 * error), float(_wald_p(b, error)))
                if "converge" in fit.note:
                    note = "maximum likelihood did not converge"
            rows.append(
                (variable.label, level, n, events, *numbers, p if variable.kind == "continuous" else np.nan, note)
            )
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


def _known_endpoint(patients: pd.DataFrame, endpoint: str) -> pd.DataFrame:
    if endpoint not in patients:
        raise InputError(f"patients have no column {endpoint!r}; choose one of the cohort's endpoints.")
    return patients.loc[patients[endpoint].notna()]


def _check_clinical(X: pd.DataFrame, clinical: Mapping[str, ClinicalVariable]) -> pd.DataFrame:
    """The clinical columns of X as float64 or str; every value that cannot be used is one Problem of an InputError."""
    if not isinstance(X, pd.DataFrame):
        raise TypeError("X must be a DataFrame with one column per clinical variable")
    problems: list[Problem] = []
    checked = {}
    for column, variable in clinical.items():
        if column not in X:
            absent = f"{variable.label} is not there", "add the column or leave it out"
            problems.append(Problem.of("patients.csv", *absent, column=column))
            continue
        values = X[column]
        if variable.kind == "continuous":
            numbers = pd.to_numeric(values, errors="coerce").astype(float)
            bad = values.notna() & ~np.isfinite(numbers.to_numpy())
            expected, remedy = f"a number{f' in {variable.unit}' if variable.unit else ''}", "correct it"
            checked[column] = numbers
        else:
            bad = values.notna() & ~values.isin(variable.levels)
            expected = f"one of {', '.join(map(str, variable.levels))}"
            remedy = "correct the value, or declare the level in cohort.yaml"
            checked[column] = values
        for position in np.flatnonzero(bad.to_numpy()):
            who = f"patient {X['patient_id'].iloc[position]}: " if "patient_id" in X else ""
            message = f"{who}{variable.label} is not {expected}"
            problems.append(Problem.of("patients.csv", message, remedy, column=column, value=values.iloc[position]))
    if problems:
        raise InputError("Clinical variables cannot be used:", problems)
    return pd.DataFrame(checked, index=X.index)


def _check_binary(y: object, n: int) -> np.ndarray:
    values = np.asarray(y)
    if values.shape != (n,) or not np.isin(values, (0, 1)).all():
        raise ValueError(f"y must be {n} labels, each 0 or 1")
    if len(np.unique(values)) < 2:
        raise ValueError("y holds one class only")
    return values.astype(int)


def odds_ratio_rows(table: pd.DataFrame, clinical: Mapping[str, ClinicalVariable]) -> pd.DataFrame:
    """The rows of `univariable_table` for a forest plot, named "T stage: T2 vs T1" or "Age (per year)", without references."""
    rows = table[table["odds_ratio"].ne(1.0) | table["low"].notna()].copy()
    by_label = {variable.label: variable for variable in clinical.values()}
    rows["name"] = [_odds_ratio_name(by_label[row.variable], row.level) for row in rows.itertuples()]
    return rows.reset_index(drop=True)


def _odds_ratio_name(variable: ClinicalVariable, level: object) -> str:
    if variable.kind == "continuous":
        return f"{variable.label} (per {variable.unit.removesuffix('s')})" if variable.unit else variable.label
    return f"{variable.label}: {level} vs {variable.levels[0]}"

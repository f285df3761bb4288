"""The clinical models: encoding of clinical variables, odds-ratio tables, selection and logistic regression as one pipeline.

Draws of missing values are made in `alnlib.models.imputation`, the nomogram lives in `alnlib.models.nomogram`; AUCs, intervals
and Rubin's rules in `alneval`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from statsmodels.discrete.discrete_model import Logit
from statsmodels.tools.sm_exceptions import ConvergenceWarning, HessianInversionWarning, PerfectSeparationWarning

from alneval.folds import patient_level_folds, possible_folds
from alneval.imputed import imputed_auc, pool, pooled_chi_square_p, pooled_likelihood_ratio_p
from alneval.units import Units
from alnlib.cohorts.schema import ClinicalVariable
from alnlib.errors import InputError, Problem
from alnlib.models.imputation import IMPUTATIONS, ChainedEquations, fit_logistic, log_likelihoods

Z_95 = float(stats.norm.ppf(0.975))
_NUMERICALLY_CERTAIN = 1e-6
_CATEGORICAL = ("ordinal", "nominal")
_BY_FIRTH = "odds ratios and Wald intervals from Firth's penalized likelihood"
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
    another hospital. A variable that no training patient has, as can happen in a fold, is a constant, which no model uses.

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
            if variable.kind == "continuous":
                known = known if len(known) else pd.Series([0.0])
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
class ImputingEncoder(ClinicalEncoder):
    """`ClinicalEncoder` that draws missing values n_imputations times (`imputation.ChainedEquations`), fitted on the training
    fold only.

    Gives (n, m x features) with columns (imputation, feature); m = 1 where nothing is missing. `fit_transform` completes
    training patients, with the outcome as a predictor; `transform` completes others, whose outcome is not known. The single
    values of `ClinicalEncoder` stay in `fill_`.
    """

    n_imputations: int = IMPUTATIONS
    seed: int = 0

    def fit(self, X: pd.DataFrame, y: object) -> ImputingEncoder:
        """X: patients, with a column per clinical variable; y: (n,) 0/1."""
        self.fit_transform(X, y)
        return self

    def fit_transform(self, X: pd.DataFrame, y: object) -> pd.DataFrame:
        """`fit`, and the training patients completed."""
        super().fit(X)
        self.equations_ = ChainedEquations(self.clinical, self.n_imputations, self.seed)
        return self._encoded(self.equations_.fit(self._codes(X), _check_binary(y, len(X))), X.index)

    def transform(self, X: pd.DataFrame) -> pd.DataFrame:
        """Other patients completed; the draws of each depend on what is known of that patient and on the fit."""
        check_is_fitted(self, "equations_")
        return self._encoded(self.equations_.draw(self._codes(X)), X.index)

    def _codes(self, X: pd.DataFrame) -> np.ndarray:
        """(n, v): numbers, or the place of the level; NaN where missing."""
        checked = _check_clinical(X, self.clinical)
        places = {
            column: {level: float(place) for place, level in enumerate(variable.levels)}
            for column, variable in self.clinical.items()
            if variable.kind != "continuous"
        }
        coded = [checked[name].map(places[name]) if name in places else checked[name] for name in self.clinical]
        return np.column_stack([values.to_numpy(float) for values in coded])

    def _encoded(self, codes: np.ndarray, index: pd.Index) -> pd.DataFrame:
        position = {column: place for place, column in enumerate(self.clinical)}
        features = []
        for _, column, _, level in self.design_.itertuples(index=False):
            variable, values = self.clinical[column], codes[..., position[column]]
            continuous = variable.kind == "continuous"
            features.append(values if continuous else (values == variable.levels.index(level)).astype(float))
        table = np.stack(features, axis=-1).transpose(1, 0, 2).reshape(len(index), len(codes) * len(features))
        names = [range(len(codes)), self.design_["feature"]]
        return pd.DataFrame(table, index, pd.MultiIndex.from_product(names, names=["imputation", "feature"]))


@dataclass(eq=False, repr=False)
class UnivariableThenMultivariableLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression on the variables that pass a univariable test, selected anew in every fit.

    p_enter: a variable (all its columns together) enters if its univariable likelihood-ratio p is below this. always: scores
    that are in the model whatever their p, such as the signature of a joint model, with a positive coefficient or not at all
    (Breiman 1996, Mach Learn 24:49: a score turned round is noise). groups: {feature: variable}; every column its own
    variable if not given. Where separation leaves no maximum of the likelihood
    (seven patients of a rare level and no event suffice), the chosen variables are fitted by Firth's penalized likelihood.

    Of several imputations (`ImputingEncoder`) the univariable test is D3 of Meng and Rubin, or D2 of Li and colleagues where an
    imputation is separated; coefficients, odds ratios and intervals are pooled by Rubin's rules; a probability is the mean over
    imputations of those that the one pooled equation gives (Wood et al. 2015, Biom J 57:614). Variables without a missing value
    are tested and fitted once.

    Fitted: `selected_variables_` (tuple), `univariable_` (variable, p_likelihood_ratio, note), `odds_ratios_` (variable,
    feature, odds_ratio, low, high, p_wald; pooled ones with missing_information, a fraction), `intercept_`, `coef_` (Series by
    feature, 0 where not selected),
    `note_` (empty, or what was unusual: no variable passed, separation). This is the habit of the field; its p-values and
    intervals after selection are too optimistic (Heinze et al. 2018, Biom J 60:431), its cross-validated scores are not.
    """

    p_enter: float = 0.05
    groups: Mapping[str, str] | None = None
    always: Sequence[str] = ()

    def fit(self, X: pd.DataFrame, y: object) -> UnivariableThenMultivariableLogistic:
        """X: (n, features) numbers without missing values, or (n, m x features) of m imputations; y: (n,) 0/1.

        Raises ValueError if a class is missing, or for a variable in always that X does not have.
        """
        if not isinstance(X, pd.DataFrame):
            raise TypeError("X must be a DataFrame, whose column names say what was selected")
        y = _check_binary(y, len(X))
        if X.isna().any(axis=None):
            raise ValueError("X has missing values; put ClinicalEncoder before this step")
        self.classes_ = np.array([0, 1])
        imputed = _Imputed.of(X)
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = X.shape[1]
        variables: dict[str, list[str]] = {}
        for feature in imputed.features:
            variables.setdefault((self.groups or {}).get(feature, feature), []).append(feature)
        unknown = sorted(set(self.always) - set(variables))
        if unknown:
            raise ValueError(f"always names {unknown}, which is no variable of X; there are {', '.join(variables)}")

        rows = [(variable, *_univariable_test(imputed.only(own), y)) for variable, own in variables.items()]
        self.univariable_ = pd.DataFrame(rows, columns=["variable", "p_likelihood_ratio", "note"])
        passed = (self.univariable_["p_likelihood_ratio"] < self.p_enter) | self.univariable_["variable"].isin(
            self.always
        )
        selected = list(self.univariable_.loc[passed, "variable"])

        def fitted() -> _LogitFit:
            return _estimate(imputed.only([feature for variable in selected for feature in variables[variable]]), y)

        fit = fitted()
        turned = [name for name in self.always if (fit.unpenalized.reindex(variables[name]) < 0).any()]
        if turned:
            selected = [variable for variable in selected if variable not in turned]
            fit = fitted()
        self.selected_variables_ = tuple(selected)
        notes = [] if selected else ["no variable passed selection: intercept only"]
        notes += [f"{', '.join(turned)} left out, whose coefficient would be negative"] if turned else []
        self.note_ = "; ".join([*notes, fit.note] if fit.note else notes)
        self.intercept_ = fit.intercept
        self.coef_ = fit.coefficients.reindex(list(imputed.features), fill_value=0.0)
        owner = {feature: variable for variable in selected for feature in variables[variable]}
        b, error, reach = fit.coefficients.to_numpy(), fit.standard_errors.to_numpy(), Z_95
        if fit.degrees is not None:
            reach = stats.t.ppf(0.975, fit.degrees)
        odds = {"odds_ratio": np.exp(b), "low": np.exp(b - reach * error), "high": np.exp(b + reach * error)}
        names = {"variable": [owner[feature] for feature in fit.kept], "feature": list(fit.kept)}
        self.odds_ratios_ = pd.DataFrame(names | odds | {"p_wald": _wald_p(b, error, fit.degrees)})
        if fit.missing_information is not None:
            self.odds_ratios_["missing_information"] = fit.missing_information
        return self

    def linear_predictors(self, X: pd.DataFrame) -> np.ndarray:
        """Linear predictor in each imputation (n, m), in logits; m = 1 of X without imputations."""
        check_is_fitted(self, "coef_")
        values = _Imputed.of(X).only(list(self.coef_.index)).values
        return np.column_stack([table @ self.coef_.to_numpy() + self.intercept_ for table in values])

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        """Linear predictor (n,), in logits; of several imputations the logit of the mean probability."""
        each = self.linear_predictors(X)
        return each[:, 0] if each.shape[1] == 1 else logit(_probability(each).mean(axis=1))

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities (n, 2) of classes 0 and 1."""
        positive = _probability(self.linear_predictors(X)).mean(axis=1)
        return np.column_stack([1 - positive, positive])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Classes (n,) at probability 0.5."""
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def clinical_pipeline(
    clinical: Mapping[str, ClinicalVariable],
    p_enter: float = 0.05,
    always: Sequence[str] = (),
    n_imputations: int = 1,
    seed: int = 0,
) -> Pipeline:
    """Encoder, then univariable and multivariable logistic regression; X is the patients frame. Steps: encode, model.

    always: labels of variables that enter whatever their p. n_imputations: draws of each missing value, from `seed`
    (`ImputingEncoder`); 1 puts one fixed value, the median or most frequent level.
    """
    design = design_columns(clinical)
    groups = dict(zip(design["feature"], design["variable"], strict=True))
    model = UnivariableThenMultivariableLogistic(p_enter=p_enter, groups=groups, always=always)
    drawn = n_imputations > 1
    encoder = ImputingEncoder(clinical, n_imputations, seed) if drawn else ClinicalEncoder(clinical)
    return Pipeline([("encode", encoder), ("model", model)])


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
    ratios of ridge are pulled towards 1 by the penalty, hence without intervals: the usual ones do not hold. Of several
    imputations this is the pooled equation, with missing_information; the pipeline's own risk of a patient with a missing value
    is then a mean over draws instead.
    """
    encoder, model = fitted["encode"], fitted["model"]
    if isinstance(model, UnivariableThenMultivariableLogistic):
        terms, per_unit, intercept = model.odds_ratios_, model.coef_, model.intercept_
    else:
        per_unit = pd.Series(model.coef_[0] / fitted["scale"].scale_, encoder.design_["feature"])
        terms = encoder.design_[["variable", "feature"]].assign(odds_ratio=np.exp(per_unit.to_numpy()))
        intercept = float(model.intercept_[0] - per_unit @ fitted["scale"].mean_)
    unknown = pd.DataFrame([dict.fromkeys(encoder.clinical)], dtype=object)
    typical = ClinicalEncoder.transform(encoder, unknown).iloc[0]
    terms = terms.assign(coefficient=terms["feature"].map(per_unit), missing_as=terms["feature"].map(typical))
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
    if any(not view.index.equals(X.index) for view in views.values()):
        raise ValueError("a view must hold the patients of X in the same order")
    score = pd.DataFrame(np.nan, index=X.index, columns=list(views))
    for held_out, fitted in _without_each_fold(model, X, y, fold):
        for name, view in views.items():
            score.loc[held_out, name] = fitted.predict_proba(view.loc[held_out])[:, 1]
    return score


def _without_each_fold(
    model: BaseEstimator, X: pd.DataFrame, y: object, fold: np.ndarray
) -> Iterator[tuple[np.ndarray, BaseEstimator]]:
    """Who is held out (n,), and a clone of `model` fitted to the others, fold by fold."""
    y, fold = np.asarray(y), np.asarray(fold)
    for k in np.unique(fold):
        held_out = fold == k
        yield held_out, clone(model).fit(X.loc[~held_out], y[~held_out])


def scores_by_imputation(fitted: Pipeline, X: pd.DataFrame) -> np.ndarray:
    """Probability of class 1 in each imputation (n, m), by a fitted `clinical_pipeline`; m = 1 where nothing is missing."""
    return _probability(fitted["model"].linear_predictors(fitted["encode"].transform(X)))


def out_of_fold_by_imputation(pipeline: Pipeline, X: pd.DataFrame, y: object, fold: np.ndarray) -> np.ndarray:
    """`scores_by_imputation` (n, m) of each row, by a clone of `pipeline` fitted without the row's fold."""
    scores = np.full((len(X), getattr(pipeline["encode"], "n_imputations", 1)), np.nan)
    for held_out, fitted in _without_each_fold(pipeline, X, y, fold):
        scores[held_out] = scores_by_imputation(fitted, X.loc[held_out])
    return scores


def imputation_table(split: object, y: object, scores: np.ndarray) -> pd.DataFrame:
    """What missing values cost: split, n, n_positive, m, auc with its interval, missing_information (a fraction of 1).

    split, y: (n,); scores: (n, m), a column per imputation. The AUC is pooled over imputations (`alneval.imputed`), a row per
    split that has both classes.
    """
    split, y, rows = np.asarray(split), np.asarray(y), []
    for name in pd.unique(split):
        units = Units.of(y[split == name], scores[split == name])
        if units.has_both_classes:
            auc, missing = imputed_auc(units)
            row = {"split": name, "n": auc.n, "n_positive": auc.n_positive, "m": scores.shape[1]}
            rows.append(row | auc.named("auc") | {"missing_information": missing})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _LogitFit:
    """A logistic fit. kept: features with a coefficient; coefficients and standard_errors: Series by kept feature.

    degrees, missing_information: (k,) of coefficients pooled over imputations, else None. unpenalized: the coefficients before
    Firth's likelihood took their place.
    """

    kept: tuple[str, ...]
    intercept: float
    coefficients: pd.Series
    standard_errors: pd.Series
    log_likelihood: float
    separated: frozenset[str]
    note: str
    degrees: np.ndarray | None = None
    missing_information: np.ndarray | None = None
    unpenalized: pd.Series | None = None


class _Imputed(NamedTuple):
    """Features of the same patients in each imputation: values (m, n, p), m = 1 where there is nothing to impute."""

    values: np.ndarray
    features: tuple[str, ...]

    @classmethod
    def of(cls, X: pd.DataFrame) -> _Imputed:
        """From columns feature, or (imputation, feature)."""
        features = X.columns if X.columns.nlevels == 1 else X.columns.unique(1)
        m = X.shape[1] // max(len(features), 1) or 1
        return cls(X.to_numpy(float).reshape(len(X), m, len(features)).transpose(1, 0, 2), tuple(features))

    def only(self, features: Sequence[str]) -> _Imputed:
        """These features; the first imputation alone, where all are alike in them."""
        values = self.values[..., [self.features.index(name) for name in features]]
        return _Imputed(values[:1] if (values == values[0]).all() else values, tuple(features))

    def frames(self) -> list[pd.DataFrame]:
        """A frame (n, p) of each imputation."""
        return [pd.DataFrame(table, columns=list(self.features)) for table in self.values]


def _probability(linear: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-linear))


def _univariable_test(imputed: _Imputed, y: np.ndarray) -> tuple[float, str]:
    """Likelihood-ratio p of the columns together, and what was unusual."""
    null = _null_log_likelihood(y)
    if len(imputed.values) == 1:
        fit = _fit_logit(imputed.frames()[0], y)
        return _likelihood_ratio_p(fit.log_likelihood - null, len(fit.kept)), fit.note
    shared, note = _shared_features(imputed)
    if not shared.features:
        return 1.0, note
    fits = fit_logistic(shared.values, y)
    ratios = np.maximum(2 * (fits.log_likelihoods - null), 0.0)
    if fits.certain.any():
        notes = [note, "separation in an imputation: pooled by D2"]
        return pooled_chi_square_p(ratios, len(shared.features)), "; ".join(filter(None, notes))
    pooled = log_likelihoods(shared.values, y, fits.intercepts.mean(), fits.coefficients.mean(axis=0))
    return pooled_likelihood_ratio_p(ratios, float(2 * (pooled.mean() - null)), len(shared.features)), note


def _estimate(imputed: _Imputed, y: np.ndarray) -> _LogitFit:
    """The model of all columns, pooled over imputations by Rubin's rules; Firth's likelihood where separation leaves no maximum
    in any of them."""
    if len(imputed.values) == 1:
        fit = _fit_logit(imputed.frames()[0], y)
        if not fit.separated:
            return replace(fit, unpenalized=fit.coefficients)
        intercept, coefficients, errors = _firth(imputed.frames()[0][list(fit.kept)], y)
        changed = {"intercept": intercept, "coefficients": coefficients, "standard_errors": errors}
        return replace(fit, **changed, note=f"{fit.note}; {_BY_FIRTH}", unpenalized=fit.coefficients)
    shared, note = _shared_features(imputed)
    kept, fits = list(shared.features), fit_logistic(shared.values, y)
    intercepts, coefficients, errors = fits.intercepts, fits.coefficients, fits.standard_errors
    unpenalized = pd.Series(coefficients.mean(axis=0), index=kept, dtype=float)
    separated = np.zeros(len(kept) + 1, bool)
    for table in shared.values[fits.certain]:
        standardized = (table - table.mean(axis=0)) / table.std(axis=0)
        separated |= _separated_columns(np.column_stack([np.ones(len(y)), standardized]), y)
    names = [name for name, runs_away in zip(kept, separated[1:], strict=True) if runs_away]
    notes = [note] if note else []
    if separated.any():
        intercepts, coefficients, errors = map(
            np.stack, zip(*(_firth(frame, y) for frame in shared.frames()), strict=True)
        )
        notes += [f"separation by {', '.join(names)} in an imputation: maximum likelihood does not exist", _BY_FIRTH]
    pooled = pool(coefficients, errors**2, max(len(y) - len(kept) - 1, 1))
    return _LogitFit(
        tuple(kept),
        float(intercepts.mean()),
        pd.Series(pooled.value, index=kept, dtype=float),
        pd.Series(pooled.standard_error, index=kept, dtype=float),
        float(fits.log_likelihoods.mean()),
        frozenset(names),
        "; ".join(notes),
        pooled.degrees_of_freedom,
        pooled.missing_information,
        unpenalized,
    )


def _shared_features(imputed: _Imputed) -> tuple[_Imputed, str]:
    """The features with an effect of their own in every imputation and among patients without a missing value; a note of the
    others. Drawn values break what fixes a feature in truth, as receptors fix the subtype; if there are enough patients, those
    who miss nothing show it."""
    centered = imputed.values - imputed.values.mean(axis=1, keepdims=True)
    centered /= np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), 1e-300)
    least = np.linalg.eigvalsh(centered.transpose(0, 2, 1) @ centered)[:, 0]
    frames = imputed.frames()
    # where the correlations are far from singular, all features are independent
    suspicious = [frame for frame, eigenvalue in zip(frames, least, strict=True) if eigenvalue < 1e-6]
    dropped = {name for frame in suspicious for name in _independent_features(frame)[1]}
    complete = frames[0][(imputed.values == imputed.values[0]).all(axis=(0, 2))]
    if len(complete) >= 2 * complete.shape[1]:
        varies = complete.columns[complete.nunique() > 1]
        dropped |= set(_independent_features(complete[varies])[1])
    kept = [place for place, name in enumerate(imputed.features) if name not in dropped]
    shared = _Imputed(imputed.values[..., kept], tuple(imputed.features[place] for place in kept))
    return shared, _without_effect([name for name in imputed.features if name in dropped])


def _without_effect(features: list[str]) -> str:
    return f"no separate effect (constant, or fixed by the others): {', '.join(features)}" if features else ""


def _fit_logit(X: pd.DataFrame, y: np.ndarray) -> _LogitFit:
    """Maximum likelihood by Newton's method; features that are constant or sums of earlier ones are left out, and said."""
    kept, dropped = _independent_features(X)
    design = np.column_stack([np.ones(len(X)), X[kept].to_numpy(float)])
    notes = [_without_effect(dropped)] if dropped else []
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


def _wald_p(coefficients: np.ndarray, errors: np.ndarray, degrees: np.ndarray | None = None) -> np.ndarray:
    ratio = np.abs(coefficients / errors)
    return 2 * (stats.norm.sf(ratio) if degrees is None else stats.t.sf(ratio, degrees))


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


NARROW, UNITS = 1.3, 10
"""An interval of one unit of a continuous variable that spans less than this factor is drawn for so many units."""


def odds_ratio_rows(table: pd.DataFrame, clinical: Mapping[str, ClinicalVariable]) -> pd.DataFrame:
    """The rows of `univariable_table` for a forest plot, named "T stage: T2 vs T1" or "Age (per 10 years)", without references.

    A continuous variable whose interval per unit is too NARROW to be seen is given for ten units: odds ratio and ends to
    the tenth power.
    """
    rows = table[table["odds_ratio"].ne(1.0) | table["low"].notna()].copy()
    by_label = {variable.label: variable for variable in clinical.values()}
    continuous = rows["variable"].map(lambda label: by_label[label].kind == "continuous").astype(bool)
    steps = np.where(continuous & (rows["high"] / rows["low"] < NARROW), UNITS, 1)
    for name in ("odds_ratio", "low", "high"):
        rows[name] = rows[name].astype(float) ** steps
    named = zip(rows["variable"].map(by_label), rows["level"], steps, strict=True)
    return rows.assign(name=[_odds_ratio_name(*each) for each in named]).reset_index(drop=True)


def _odds_ratio_name(variable: ClinicalVariable, level: object, step: int) -> str:
    if variable.kind == "continuous":
        unit = variable.unit or "units"
        per = unit.removesuffix("s") if step == 1 else f"{step} {unit}"
        return f"{variable.label} (per {per})" if variable.unit or step > 1 else variable.label
    return f"{variable.label}: {level} vs {variable.levels[0]}"

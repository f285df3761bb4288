"""Anybody's predictions through run_all.py evaluate. Truth: the table functions, tested elsewhere, and planted faults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest

from alneval.calibration import calibration_summary
from alneval.decision_curve import decision_curve, net_benefit
from alneval.delong import auc_difference, auc_interval
from alneval.estimate import once
from alneval.folder import default_folder, file_names, fixed_thresholds, write_evaluation
from alneval.models import (
    TABLES,
    Evaluation,
    calibration_row,
    curve_bands,
    decision_curves,
    evaluate_predictions,
    net_benefit_table,
    old_models,
    paired_table,
    prevalence_tables,
    recalibration_table,
)
from alneval.panels import roc_figure
from alneval.prevalence import prior_shift
from alneval.recalibration import PlattRecalibration
from alneval.rows import judged_rows, main_rows
from alneval.tables import (
    PREDICTION_COLUMNS,
    call_comparison_table,
    comparison_table,
    curve_table,
    discrimination_table,
    locked_thresholds,
    read_predictions,
    reclassification_comparisons,
)
from alneval.units import Units
from alnlib.errors import InputError
from alnlib.paths import repository_root
from alnlib.pipeline.cli import main

FEW = 40  # resamples: enough for every column to be there, few enough to be quick


def predictions_of(
    models: int,
    splits: tuple[str, ...],
    n: int,
    rows_per_patient: int = 1,
    study: str = "mine",
    prevalence: float = 0.4,
) -> pd.DataFrame:
    """n patients per split with an outcome per row; model k tells it apart better than model k - 1."""
    rng = np.random.default_rng(7)
    tables = []
    for split in splits:
        patients = np.repeat([f"{split[0]}{i:04d}" for i in range(n)], rows_per_patient)
        units = [f"{patient}-{i % rows_per_patient}" for i, patient in enumerate(patients)]
        y = (rng.random(patients.size) < prevalence).astype(int)
        alike = np.repeat(rng.normal(size=n), rows_per_patient)
        for k in range(models):
            score = 1 / (1 + np.exp(-(0.5 + 0.7 * k) * (y - 0.5) - 0.5 * alike - rng.normal(size=y.size)))
            rows = (study, f"model {k}", "main", split, patients, units, y, score.round(5))
            tables.append(pd.DataFrame(dict(zip(PREDICTION_COLUMNS, rows, strict=True))))
    return pd.concat(tables, ignore_index=True)


def run_all(*arguments: object, folder: Path) -> subprocess.CompletedProcess:
    """python run_all.py ARGUMENTS in a working directory of its own."""
    command = [sys.executable, str(repository_root() / "run_all.py"), *map(str, arguments)]
    environment = os.environ | {"MPLBACKEND": "no such backend"}  # must not matter
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(table: pd.DataFrame, expected: pd.DataFrame, provenance: str) -> None:
    """A table read back from its eight digits equals the one that was computed, and says whose patients it shows."""
    assert list(table) == [*expected, "provenance"]
    assert set(table["provenance"]) == {provenance}
    pd.testing.assert_frame_equal(
        table.drop(columns="provenance"), expected.reset_index(drop=True), check_dtype=False, rtol=1e-7, atol=1e-12
    )


@pytest.fixture(scope="module")
def mine() -> pd.DataFrame:
    return predictions_of(3, ("validation", "test", "external"), 200)


@pytest.fixture(scope="module")
def few() -> pd.DataFrame:
    """Where only files count, as drawing takes longer with every model and split."""
    return predictions_of(2, ("validation", "test"), 60)


@pytest.fixture(scope="module")
def written(mine, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """The working directory after `evaluate mine.csv`, into the default folder."""
    place = tmp_path_factory.mktemp("stranger")
    mine.to_csv(place / "mine.csv", index=False)
    return place, run_all("evaluate", "mine.csv", "--n-bootstrap", 80, "--seed", 3, folder=place)


def test_tables_are_those_of_the_table_functions(mine, written):
    place, done = written
    assert done.returncode == 0, done.stdout + done.stderr
    folder = place / "evaluation-of-mine"
    table = {path.stem: pd.read_csv(path, keep_default_na=False, na_values=[""]) for path in folder.glob("*.csv")}
    assert set(table) == set(TABLES)
    tested = mine[mine["split"].isin(("test", "external"))]
    parts = list(tested.groupby(["study", "model", "split"], sort=False))
    assert len(parts) == 6

    discrimination = discrimination_table(mine, rng=np.random.default_rng(3), n_bootstrap=80)
    assert set(table["comparisons"]["method"]) == {"DeLong, paired, Student's t"}
    assert set(discrimination["auc_method"]) == {"DeLong, log odds, Student's t"}
    same(table["discrimination"], discrimination.replace("", np.nan).astype({"n_seeds": float}), "not stated")
    called = call_comparison_table(tested, locked_thresholds(mine))
    paired = comparison_table(tested).merge(called, on=["study", "split", "model_a", "model_b"], validate="one_to_one")
    same(table["comparisons"], paired, "not stated")
    same(table["curves"], curve_table(tested, rng=np.random.default_rng(3), n_bootstrap=80), "not stated")
    moved = reclassification_comparisons(tested, {"mine": "model 0"}, rng=np.random.default_rng(3), n_bootstrap=80)
    same(table["reclassification"], moved, "not stated")
    rows = [
        calibration_row(*key, calibration_summary(Units.of_rows(p), np.random.default_rng(3), n_bootstrap=20))
        for key, p in parts
    ]
    same(table["calibration"], pd.DataFrame(rows), "not stated")
    (_, _, split), part = parts[-1]
    curve = decision_curve(Units.of_rows(part), intervals=True)
    last = table["net_benefit"].tail(99).reset_index(drop=True)
    assert set(last["split"]) == {split}
    same(last.drop(columns=["study", "model", "split"]), curve.drop(columns="treat_none"), "not stated")


def test_figures_and_summary_are_there(written):
    place, done = written
    folder = place / "evaluation-of-mine"
    figures = {path.name for path in (folder / "figures").iterdir()}
    of_study = ("roc", "precision_recall", "calibration", "decision_curves")
    drawn = [*(f"{name}_mine" for name in of_study), "auc_by_model"]
    assert figures == {f"{name}{suffix}" for name in drawn for suffix in (".png", ".svg")}
    assert all((folder / "figures" / name).stat().st_size > 5000 for name in figures)
    summary = (folder / "summary.md").read_text()
    assert "| mine | internal test | 3 | 200 | 200 |" in summary
    assert "| validation |" in summary
    assert "**not stated**" in summary
    assert "DeLong 1988 (Biometrics 44:837)" in summary
    assert "same rows (model 0, model 1, model 2)" in summary
    assert "evaluation-of-mine: 1 study, 3 models, 1800 predictions; 27 files" in done.stdout
    record = json.loads((folder / "evaluation.json").read_text())
    assert set(record["files"]) == set(contents(folder)) - {"evaluation.json"}


def test_two_runs_give_the_same_bytes(written):
    place, _ = written
    again = run_all("evaluate", "mine.csv", "--n-bootstrap", 80, "--seed", 3, "--out", "again", folder=place)
    assert again.returncode == 0, again.stderr
    assert contents(place / "again") == contents(place / "evaluation-of-mine")


def test_an_existing_folder_is_refused_and_left_alone(written):
    place, _ = written
    before = contents(place)
    done = run_all("evaluate", "mine.csv", "--seed", 4, folder=place)
    assert done.returncode == 2
    assert "evaluation-of-mine exists and is not empty" in done.stderr
    assert "--force" in done.stderr
    assert contents(place) == before


def test_force_replaces_an_earlier_evaluation_and_keeps_what_is_not_its_own(few, tmp_path):
    few.assign(study="old").to_csv(tmp_path / "p.csv", index=False)
    write_evaluation([tmp_path / "p.csv"], tmp_path / "out", n_bootstrap=FEW)
    (tmp_path / "out/notes.txt").write_text("mine")
    (tmp_path / "out/figures/calibration_old.png").write_bytes(b"painted over by hand")
    few.assign(study="new").to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError, match="not empty"):
        write_evaluation([tmp_path / "p.csv"], tmp_path / "out", n_bootstrap=FEW)
    write_evaluation([tmp_path / "p.csv"], tmp_path / "out", n_bootstrap=FEW, force=True)
    kept = set(contents(tmp_path / "out"))
    assert {"notes.txt", "figures/calibration_old.png", "figures/roc_new.png"} <= kept
    assert "figures/roc_old.png" not in kept
    assert set(pd.read_csv(tmp_path / "out/discrimination.csv")["study"]) == {"new"}


def test_a_record_that_points_outside_the_folder_removes_nothing(few, tmp_path):
    """A tampered evaluation.json: the digest is right, the file is another's."""
    from alnlib.files import sha256_file

    few.to_csv(tmp_path / "p.csv", index=False)
    (tmp_path / "out").mkdir()
    record = {"files": {name: sha256_file(tmp_path / "p.csv") for name in ("../p.csv", str(tmp_path / "p.csv"))}}
    (tmp_path / "out/evaluation.json").write_text(json.dumps(record))
    write_evaluation([tmp_path / "p.csv"], tmp_path / "out", n_bootstrap=FEW, force=True)
    assert (tmp_path / "p.csv").exists()


def test_the_input_is_never_overwritten(few, tmp_path):
    few.to_csv(tmp_path / "calibration.csv", index=False)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="overwritten by its own evaluation"):
        write_evaluation([tmp_path / "calibration.csv"], tmp_path, n_bootstrap=FEW, force=True)
    assert contents(tmp_path) == before


def test_every_problem_of_every_file_at_once_with_status_2(mine, tmp_path):
    spoiled = mine.astype({"y_score": object})
    spoiled.loc[4, "y_score"] = "0.2x"  # row 6 of the file
    moved = mine["patient_id"].eq("t0000") & mine["model"].eq("model 0")
    twice = mine[moved].assign(split="external")
    pd.concat([spoiled, twice]).to_csv(tmp_path / "a.csv", index=False)
    mine.drop(columns=["y_true", "patient_id"]).to_csv(tmp_path / "b.csv", index=False)
    done = run_all("evaluate", "a.csv", "b.csv", "none.csv", folder=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "a.csv, row 6, column y_score: not a finite number (found '0.2x')" in done.stderr
    assert f"a.csv, row {len(mine) + 2}, column patient_id: the patient is in two splits" in done.stderr
    assert "t0000: test and external" in done.stderr
    for column in ("y_true", "patient_id"):
        assert f"b.csv, row 1, column {column}: the column is missing" in done.stderr
    assert "none.csv: the file does not exist" in done.stderr
    assert not list(tmp_path.glob("evaluation-of-*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--provenance", "imagined"), "choose one of real, simulated"),
        (("--n-bootstrap", "5"), "--n-bootstrap"),
        (("--out", "mine.csv"), "mine.csv is a file"),
    ],
)
def test_a_wrong_option_is_one_message_with_status_2(options, words, mine, tmp_path, monkeypatch, capsys):
    mine.to_csv(tmp_path / "mine.csv", index=False)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "mine.csv", *options]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]


def test_provenance_goes_into_every_table_and_the_summary(few, tmp_path):
    few.to_csv(tmp_path / "p.csv", index=False)
    write_evaluation([tmp_path / "p.csv"], tmp_path / "o", n_bootstrap=FEW, provenance="simulated")
    for path in (tmp_path / "o").glob("*.csv"):
        assert set(pd.read_csv(path)["provenance"]) == {"simulated"}, path
    assert "**simulated**" in (tmp_path / "o/summary.md").read_text()


# --- several rows of a patient, several studies, odd files ----------------------------------------------------------


def evaluated(predictions: pd.DataFrame) -> Evaluation:
    return evaluate_predictions(predictions, n_bootstrap=FEW)


def warned(evaluation: Evaluation, *words: str) -> bool:
    return any(all(word in warning for word in words) for warning in evaluation.warnings)


def test_rows_that_share_a_patient_have_intervals_by_patient():
    """Obuchowski's variance, called directly; DeLong's, which does not know the patients, must differ."""
    nodes = predictions_of(2, ("validation", "test"), 60, rows_per_patient=3)
    result = evaluated(nodes)
    a, b = (nodes.query("split == 'test' and model == @name").reset_index() for name in ("model 0", "model 1"))
    row = result.discrimination.query("split == 'test' and model == 'model 1'").iloc[0]
    area = auc_interval(Units.of_rows(b))
    assert (row["auc_low"], row["auc_high"]) == pytest.approx((area.low, area.high), rel=1e-12)
    assert abs(auc_interval(Units.of(b["y_true"], b["y_score"])).low - row["auc_low"]) > 1e-4
    pair = result.comparisons.iloc[0]
    assert pair["p"] == pytest.approx(auc_difference(Units.of_rows(a, b)).p)
    calibrated = calibration_summary(Units.of_rows(b), np.random.default_rng(2026), n_bootstrap=FEW // 4)
    known = result.calibration.query("model == 'model 1'").iloc[0]
    assert (known["brier_low"], known["brier_high"]) == (calibrated.brier.low, calibrated.brier.high)
    assert warned(result, "internal test", "180 rows of 60 patients", "by patient")


def test_studies_models_and_splits_of_several_files(tmp_path):
    """One file per study; a study with one row per patient beside one with three."""
    first = predictions_of(2, ("validation", "test"), 80, study="A/b")
    second = predictions_of(1, ("train", "cross_validation", "external"), 40, rows_per_patient=2, study="a b")
    first.to_csv(tmp_path / "one.csv", index=False)
    second.to_csv(tmp_path / "two.csv", index=False)
    paths = [tmp_path / "one.csv", tmp_path / "two.csv"]
    assert default_folder(paths) == Path("evaluation-of-one-and-1-more")
    result, files = write_evaluation(paths, tmp_path / "o", n_bootstrap=FEW)
    assert {"figures/roc_A_b.png", "figures/roc_a_b_2.png"} <= set(files)
    assert len(result.discrimination) == 2 * 2 + 3
    assert list(result.discrimination.merge(result.judged[["study", "split"]].drop_duplicates())["split"]) == [
        *["test"] * 2,
        "cross_validation",
        "external",
    ]
    alone = evaluated(read_predictions(tmp_path / "one.csv"))
    both = result.discrimination[result.discrimination["study"] == "A/b"]
    pd.testing.assert_frame_equal(both, alone.discrimination)  # another study changes nothing


def test_cross_validated_rows_have_no_operating_point_and_a_shared_patient_is_told():
    pooled = predictions_of(1, ("cross_validation",), 150)
    result = evaluated(pd.concat([pooled, pooled.assign(split="test")], ignore_index=True))
    table = result.discrimination.set_index("split")
    assert pd.isna(table.loc["cross_validation", "threshold"])
    assert pd.isna(table.loc["cross_validation", "sensitivity"])
    assert table.loc["cross_validation", "auc"] > 0.5
    assert table.loc["test", "threshold_from"] == "cross_validation"
    assert warned(result, "internal test", "cross-validated rows that hold the same patients")
    others = evaluated(predictions_of(1, ("cross_validation", "test"), 150))
    assert not warned(others, "same patients")


def test_warnings_name_what_was_planted_and_nothing_else():
    good = predictions_of(2, ("validation", "test"), 400)
    assert [w for w in evaluated(good).warnings if "same rows" not in w] == []

    few = good[(good["split"] == "validation") | good["patient_id"].isin([f"t{i:04d}" for i in range(50)])]
    assert warned(evaluated(few), "few events", "internal test")
    ill = good[(good["split"] == "validation") | (good["y_true"] == 1)]
    assert warned(evaluated(ill), "one class only", "model 0, model 1")
    swapped = good.assign(y_score=1 - good["y_score"])
    assert warned(evaluated(swapped), "below one half", "model 1")
    flat = evaluated(good.assign(y_score=0.3))
    assert warned(flat, "model 1 has one score for all") and not warned(flat, "separates")
    told = evaluated(good.assign(y_score=0.1 + 0.8 * good["y_true"]))
    assert warned(told, "model 1 separates the classes entirely") and not warned(told, "one score for all")
    unequal = good.drop(good.query("split == 'test' and model == 'model 1'").index[:9])
    assert warned(evaluated(unequal), "did not score the same rows", "model 1 391")
    certain = good.assign(y_score=good["y_score"].where(good.index != good.index[-1], 0.0))
    assert warned(evaluated(certain), "1 probabilities of model 1 are 0 or 1")
    called = evaluated(good.assign(y_score=(good["y_score"] > 0.5).astype(float)))
    assert warned(called, "model 1 predicts 0 or 1 for all", "not estimable") and not warned(called, "moved off")
    assert called.calibration[["intercept", "slope"]].isna().all(axis=None)
    assert called.recalibration.query("method == 'Platt'")["brier"].notna().all()
    untuned = good[good["split"] == "test"]
    assert warned(evaluated(untuned), "no threshold", "model 0, model 1")
    untested = good[good["split"] == "validation"]
    assert warned(evaluated(untested), "judged on validation")
    assert set(judged_rows(untested)["split"]) == {"validation"}
    assert set(judged_rows(untested.assign(split="population"))["split"]) == {"population"}


def test_one_class_is_no_accident_of_the_program(tmp_path):
    """Only patients with the outcome, of whom two share everything: no figure of a study, but every table."""
    rows = predictions_of(1, ("test",), 6, prevalence=1.1).assign(y_score=0.0)
    rows.to_csv(tmp_path / "p.csv", index=False)
    result, files = write_evaluation([tmp_path / "p.csv"], tmp_path / "o", n_bootstrap=FEW)
    assert [name for name in files if name.startswith("figures/")] == [
        "figures/auc_by_model.png",
        "figures/auc_by_model.svg",
    ]
    assert result.discrimination["auc"].isna().all()
    assert "one class only" in (tmp_path / "o/summary.md").read_text()


def test_names_that_matplotlib_or_a_file_system_would_mistake():
    rows = predictions_of(2, ("test",), 40).replace({"model 0": "_a", "model 1": r"$R_2 $cost"})
    figure = roc_figure(rows, evaluated(rows).discrimination, "50 $ study $")
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [label.strip().split(":")[0] for label in labels] == ["_a", r"\$R_2 \$cost"]
    assert file_names(["../x", "X", "a/b", "A b", "é", "y" * 99]) == ["x", "X_2", "a_b", "A_b_2", "study", "y" * 60]


def test_recalibration_is_fitted_on_validation_and_judged_elsewhere():
    """Risks doubled on the log odds and shifted: Platt's fit on validation rows must mend the test rows."""
    good = predictions_of(1, ("validation", "test"), 1500)
    p = good["y_score"].clip(1e-4, 1 - 1e-4)
    bad = good.assign(y_score=1 / (1 + np.exp(-(2 * np.log(p / (1 - p)) + 1))))
    table = recalibration_table(bad, judged_rows(bad), seed=1, n_bootstrap=200).set_index("method")
    assert list(table.index) == ["as predicted", "Platt", "isotonic"]
    assert set(table["split"]) == {"test"} and set(table["fitted_on"].iloc[1:]) == {"validation"}
    assert table["n_fitted"].iloc[1:].tolist() == [1500, 1500] and pd.isna(table.loc["as predicted", "brier_change"])
    assert table.loc["Platt", "brier_change_high"] < 0 and table.loc["isotonic", "brier_change_high"] < 0
    assert abs(table.loc["Platt", "slope"] - 1) < 0.15 < abs(table.loc["as predicted", "slope"] - 1)
    fitted, judged = (bad[bad["split"] == split] for split in ("validation", "test"))
    after = PlattRecalibration().fit(fitted["y_score"], fitted["y_true"]).predict(judged["y_score"])
    before = np.mean((judged["y_score"] - judged["y_true"]) ** 2)
    assert table.loc["Platt", "brier"] == pytest.approx(np.mean((after - judged["y_true"]) ** 2))
    assert table.loc["Platt", "brier_change"] == pytest.approx(table.loc["Platt", "brier"] - before)


def test_recalibration_needs_patients_who_are_not_judged():
    pooled = predictions_of(1, ("cross_validation",), 150)
    same_patients = pd.concat([pooled, pooled.assign(split="test")], ignore_index=True)
    assert recalibration_table(same_patients, judged_rows(same_patients), seed=1, n_bootstrap=FEW).empty
    others = predictions_of(1, ("cross_validation", "test"), 150)
    assert set(recalibration_table(others, judged_rows(others), seed=1, n_bootstrap=FEW)["fitted_on"]) == {
        "",
        "cross_validation",
    }
    untuned = predictions_of(1, ("train", "test"), 60)
    assert recalibration_table(untuned, judged_rows(untuned), seed=1, n_bootstrap=FEW).empty, "training rows flatter"


def test_cross_validated_rows_are_compared_but_not_called():
    rows = predictions_of(2, ("validation", "cross_validation", "test"), 90)
    pairs = paired_table(rows, judged_rows(rows)).set_index("split")
    assert np.isfinite(pairs.loc["cross_validation", "p"]) and pd.isna(
        pairs.loc["cross_validation", "p_mcnemar_positives"]
    )
    assert np.isfinite(pairs.loc["test", "p_mcnemar_positives"])


def test_models_are_chosen_by_role_and_never_by_name():
    """Names that an older rule took for candidates and twins, of a stranger whose file has no such column."""
    rows = predictions_of(4, ("test",), 30)
    names = dict(zip(rows["model"].unique(), ("cnn/v2", "LASSO_ridge", "ER+/HER2- model", "clinical+"), strict=True))
    strange = rows.replace({"model": names})
    assert set(main_rows(strange)["model"]) == set(names.values())
    assert old_models(strange) == {"mine": "cnn/v2"}
    roles = strange["model"].map({"cnn/v2": "candidate", "LASSO_ridge": "companion"}).fillna("main")
    assert set(main_rows(strange.assign(role=roles))["model"]) == {"LASSO_ridge", "ER+/HER2- model", "clinical+"}
    assert old_models(strange.replace({"LASSO_ridge": "clinical"})) == {"mine": "clinical"}
    assert old_models(strange[strange["model"] == "cnn/v2"]) == {}


def test_only_the_lead_model_has_a_band():
    """Several turn gray; the lead is the one that is named, else the last."""
    five = predictions_of(5, ("test",), 40)
    assert list(curve_bands(five, seed=1, n_bootstrap=FEW)) == [("mine", "model 4", "test")]
    assert list(curve_bands(five, seed=1, n_bootstrap=FEW, named=["model 3"])) == [("mine", "model 3", "test")]


def test_prevalence_tables_shift_from_the_training_rows():
    rows = predictions_of(1, ("train", "validation", "test"), 300)
    table = prevalence_tables(rows, judged_rows(rows), seed=1, prevalences=[0.1], n_bootstrap=FEW)
    train, test = (rows[rows["split"] == split] for split in ("train", "test"))
    row = table.iloc[0]
    assert row["prevalence_fitted"] == train["y_true"].mean()
    raw, benefit = Units.of_rows(test), net_benefit([0.2], prevalence=0.1)
    moved = prior_shift(raw, train["y_true"].mean(), 0.1)
    assert row["net_benefit"] == pytest.approx(once(benefit, moved)[0], abs=1e-12)
    assert row["net_benefit_uncorrected"] == pytest.approx(once(benefit, raw)[0], abs=1e-12)


def test_the_thinned_table_of_net_benefit_holds_the_thresholds_asked_for():
    curves = decision_curves(predictions_of(2, ("test",), 50))
    whole, thin = net_benefit_table(curves), net_benefit_table(curves, [0.1, 0.3])
    assert thin["threshold"].tolist() == [0.1, 0.3] * 2
    pd.testing.assert_frame_equal(thin, whole[whole["threshold"].isin([0.1, 0.3])].reset_index(drop=True))


def test_nine_models_in_one_plot_look_unlike_each_other():
    rows = predictions_of(9, ("test",), 40)
    figure = roc_figure(rows, evaluated(rows).discrimination, "many")
    lines = [line for line in figure.axes[0].lines if str(line.get_label()).startswith("model")]
    assert len({(line.get_color(), str(line.get_linestyle()), line._unscaled_dash_pattern) for line in lines}) == 9


# --- a table as strangers have it --------------------------------------------------------------------------------------


REFERENCES = Path(__file__).parent / "references" / "evaluation"
EXPECTED = json.loads((REFERENCES / "expected.json").read_text())


def wide_table(n: int = 160) -> pd.DataFrame:
    """A probability, a decision value that one patient lacks, a hospital, a reader's call and another's grade."""
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, n)
    x, z = rng.normal(size=n) + y, rng.normal(size=n) + y / 2
    table = pd.DataFrame({"patient_id": [f"{i:03d}" for i in range(n)], "y_true": y})
    table = table.assign(cnn=(1 / (1 + np.exp(-x))).round(3), svm=z.round(3), hospital=rng.choice(["A", "B"], n))
    table = table.assign(call=(x + rng.normal(size=n) > 0.3).astype(int), grade=np.clip(np.round(2.5 + z), 1, 5))
    table.loc[3, "svm"] = np.nan
    return table


def as_file(table: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".xlsx":
        table.to_excel(path, index=False)
    else:
        table.to_csv(path, index=False, sep=";" if path.suffix == ".csv" else "\t", decimal=",")
    return path


def of_file(table: pd.DataFrame, path: Path, **options: object) -> Evaluation:
    return write_evaluation([as_file(table, path)], path.with_suffix(".out"), n_bootstrap=FEW, **options)[0]


def test_pROC_forms_give_pROC_numbers(tmp_path):
    """R 4.2.2, pROC 1.18.0: ci.auc and roc.test, method "delong", on a wide file without study, split and unit."""
    table = pd.read_csv(REFERENCES / "paired.csv").rename(columns={"y": "y_true"})
    table.insert(0, "patient_id", range(len(table)))
    options = {"scores": ("a", "b", "reader"), "interval": "wald", "reference": "normal"}
    of_file(table, tmp_path / "p.xlsx", **options)
    found = pd.read_csv(tmp_path / "p.out" / "discrimination.csv").set_index("model")
    assert set(found["auc_method"]) == {"DeLong, Wald, normal"} and set(found["split"]) == {"test"}
    for name in options["scores"]:
        reference = EXPECTED[f"paired_{name}"]
        shown = found.loc[name, ["auc", "auc_low", "auc_high"]].tolist()
        assert shown == pytest.approx([reference[key] for key in ("auc", "low", "high")], abs=1e-6)
    pair = pd.read_csv(tmp_path / "p.out" / "comparisons.csv").query("model_a == 'a' and model_b == 'b'").iloc[0]
    assert (pair["method"], pd.isna(pair["degrees_of_freedom"])) == ("DeLong, paired, normal", True)
    shown = pair[["statistic", "p", "delta_low", "delta_high"]].tolist()
    assert shown == pytest.approx([EXPECTED["paired_test"][k] for k in ("statistic", "p", "low", "high")], abs=1e-6)
    summary = (tmp_path / "p.out" / "summary.md").read_text()
    assert "pROC::ci.auc" in summary and "pROC::roc.test" in summary


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.xlsx"])
def test_a_wide_file_is_the_long_one(name, tmp_path):
    """With decimal commas between semicolons and tabs, or from Excel; a model that did not score a patient lacks the row."""
    table = wide_table()
    table.loc[5, "cnn"] = 1  # a number without decimals among others
    read = read_predictions(as_file(table, tmp_path / name), any_scale=True, scores=("cnn", "svm"))
    assert list(read["model"].value_counts(sort=False).items()) == [("cnn", 160), ("svm", 159)]
    assert read["unit_id"].equals(read["patient_id"]) and read["patient_id"].iloc[7] == "007"
    assert set(read["split"]) == {"test"} and set(read["study"]) == {"study"}
    np.testing.assert_array_equal(read.query("model == 'cnn'")["y_score"], table["cnn"])
    np.testing.assert_array_equal(read.query("model == 'svm'")["y_score"], table["svm"].dropna())


def test_columns_are_scores_where_nothing_else_can_be_meant(tmp_path):
    table = wide_table().drop(columns=["svm", "call", "grade"]).assign(resnet=0.5)
    assert set(read_predictions(as_file(table, tmp_path / "p.csv"))["model"]) == {"cnn", "resnet"}
    alone = table.rename(columns={"cnn": "y_score"}).drop(columns="resnet")
    assert set(read_predictions(as_file(alone, tmp_path / "my model.csv"))["model"]) == {"my model"}
    with pytest.raises(InputError, match="a score or not") as caught:
        of_file(table.assign(age=60), tmp_path / "q.csv")
    assert "column age" in str(caught.value) and "--score" in str(caught.value)
    with pytest.raises(InputError, match="row 1, column resnet: no score in it"):
        of_file(table.assign(resnet=""), tmp_path / "s.csv", scores=("cnn", "resnet"))
    with pytest.raises(InputError, match="column y_score: the column is missing"):
        of_file(table[["patient_id", "y_true", "hospital"]], tmp_path / "r.csv")


def test_alike_problems_are_told_once_each_and_then_counted(tmp_path):
    """A wide file of three models with words for labels: not one problem per model and row."""
    table = wide_table()[["patient_id", "y_true", "cnn"]].assign(a=0.5, b="high")
    table.assign(y_true="yes").to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError) as caught:
        read_predictions(tmp_path / "p.csv", scores=("cnn", "a", "b"))
    messages = [str(problem).split("p.csv", 1)[1] for problem in caught.value.problems]
    assert len(messages) == 12 and messages[0].startswith(", row 2, column y_true: not 0 or 1 (found 'yes')")
    for column, message in (("y_true", "not 0 or 1"), ("b", "not a finite number")):
        assert any(f", column {column}: 155 more rows of the same: {message}" in text for text in messages)


def test_a_workbook_of_two_sheets_or_none_is_refused(tmp_path):
    with pd.ExcelWriter(tmp_path / "two.xlsx") as book:
        wide_table().to_excel(book, sheet_name="2024", index=False)
        wide_table().to_excel(book, sheet_name="2025", index=False)
    pd.DataFrame().to_excel(tmp_path / "empty.xlsx")
    (tmp_path / "text.xlsx").write_text("patient_id,y_true\n")
    (tmp_path / "old.xls").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        read_predictions(sorted(tmp_path.iterdir()))
    for words in ("2024, 2025", "no predictions in it", "no Excel workbook", "save it as .xlsx or as CSV"):
        assert words in str(caught.value)


def test_excels_own_hint_of_the_delimiter_and_a_quoted_line_break(tmp_path):
    rows = 'sep=;\npatient_id;y_true;"score\nA"\n1;0;0,25\n2;1;0,5\n'
    (tmp_path / "p.csv").write_text(rows)
    assert read_predictions(tmp_path / "p.csv")["y_score"].tolist() == [0.25, 0.5]
    (tmp_path / "q.csv").write_text(rows.replace("2;1;0,5", "2;1"))
    with pytest.raises(InputError, match="row 5: 2 fields under a header of 3"):
        read_predictions(tmp_path / "q.csv")


def test_scores_that_are_no_probabilities_have_all_that_ranks_allow(tmp_path):
    """The logit of a probability ranks alike: the same AUC, curves, comparisons, operating points, predictive values."""
    good = predictions_of(2, ("validation", "test"), 120).assign(
        y_score=lambda rows: rows["y_score"].clip(0.001, 0.999)
    )
    p = good["y_score"]
    logits = good.assign(y_score=np.log(p / (1 - p)))
    logits.to_csv(tmp_path / "p.csv", index=False)
    found, files = write_evaluation([tmp_path / "p.csv"], tmp_path / "o", n_bootstrap=FEW)
    usual = evaluated(good)
    ranks = ["auc", "auc_low", "auc_high", "sensitivity", "specificity", "ppv", "npv"]
    pd.testing.assert_frame_equal(found.discrimination[ranks], usual.discrimination[ranks])
    pd.testing.assert_frame_equal(found.comparisons, usual.comparisons)
    pd.testing.assert_frame_equal(found.curves, usual.curves)
    pd.testing.assert_frame_equal(found.prevalence[["ppv", "npv_low"]], usual.prevalence[["ppv", "npv_low"]])
    assert found.prevalence["net_benefit"].isna().all() and found.discrimination["brier"].isna().all()
    assert all(
        getattr(found, name).empty for name in ("calibration", "recalibration", "net_benefit", "reclassification")
    )
    assert warned(found, "model 0: ", "model 1: ", "no probabilities", "net benefit")
    last_of_validation = good.query("split == 'validation'").index[-1]
    strayed = evaluated(good.assign(y_score=p.where(good.index != last_of_validation, 1.2)))
    assert warned(strayed, "(model 1: 1 of 240, ", "to 1.2)") and set(strayed.calibration["model"]) == {"model 0"}
    assert set(strayed.prevalence.dropna(subset="net_benefit")["model"]) == {"model 0"}
    assert not any("calibration" in name or "decision" in name for name in files if name.startswith("figures/"))
    assert "| mine | model 1 | internal test | 120 |" in (tmp_path / "o" / "summary.md").read_text()
    both = evaluated(pd.concat([good[good["model"] == "model 0"], logits[logits["model"] == "model 1"]]))
    assert set(both.calibration["model"]) == set(both.net_benefit["model"]) == {"model 0"}
    assert len(both.comparisons) == 1 and both.reclassification.empty


def test_thresholds_fixed_beforehand_or_chosen_to_reach_a_goal(tmp_path):
    rows = predictions_of(2, ("validation", "cross_validation", "test"), 120)
    rows.to_csv(tmp_path / "p.csv", index=False)

    def table(**options: object) -> pd.DataFrame:
        found = write_evaluation([tmp_path / "p.csv"], tmp_path / "o", n_bootstrap=FEW, force=True, **options)[0]
        return found.discrimination.set_index(["model", "split"])

    fixed = table(thresholds=["0.3", "model 1=0.6"])
    assert fixed.loc["model 0", "threshold"].eq(0.3).all() and fixed.loc["model 1", "threshold"].eq(0.6).all()
    assert fixed["threshold_from"].eq("given").all() and fixed["sensitivity"].notna().all()
    chosen = table(sensitivity=0.9)
    of_model = rows[(rows["model"] == "model 0") & (rows["split"] == "validation")]
    cases, cut = of_model.loc[of_model["y_true"] == 1, "y_score"], chosen.loc[("model 0", "test"), "threshold"]
    assert (cases >= cut).mean() >= 0.9 > (cases > cases[cases >= cut].min()).mean()
    member = rows.assign(model="model 0/seed 0", role="member")[rows["model"] == "model 0"]
    assert set(fixed_thresholds(["0.3"], pd.concat([rows, member]))) == {("mine", "model 0"), ("mine", "model 1")}
    assert table(specificity=0.8).loc[("model 1", "validation"), "specificity"] >= 0.8
    for options, words in (
        ({"thresholds": ["cnn=0.3", "high"]}, "no model 'cnn'.*\n.*no finite number"),
        ({"thresholds": ["0.3"], "specificity": 0.9}, "one origin"),
        ({"interval": "exact"}, "--interval 'exact'"),
        ({"reference": "z"}, "--reference 'z'"),
        ({"scores": ["x"], "readers": ["x"]}, "given twice"),
    ):
        with pytest.raises(InputError, match=words):
            table(**options)


def test_subgroups_and_readers_stand_in_the_same_file(tmp_path):
    table = wide_table()
    options = {"scores": ("cnn",), "subgroups": ("hospital",), "readers": ("call", "grade"), "interval": "wald"}
    found = of_file(table, tmp_path / "p.csv", **options)
    of_a = table[table["hospital"] == "A"]
    shown = found.subgroups.query("level == 'A'").iloc[0]
    area = auc_interval(Units.of(of_a["y_true"], of_a["cnn"]), interval="wald")
    assert (shown["n"], shown["auc"], shown["auc_low"]) == (len(of_a), area.value, area.low)
    assert found.readers["reader"].tolist() == ["call"] and warned(found, "reads of grade")
    sensitivity = table.loc[table["y_true"] == 1, "call"].mean()
    assert found.readers["sensitivity"].iloc[0] == pytest.approx(sensitivity)
    assert found.models_against_readers[["n_readers", "n"]].to_numpy().tolist() == [[2, 160]]
    names = {path.name for path in (tmp_path / "p.out").iterdir()}
    assert {"subgroups.csv", "readers.csv", "models_against_readers.csv"} <= names
    for column, words in (
        ({"subgroups": ("svm",)}, "different values"),
        ({"readers": ("hospital",)}, "no numbers: 'A', 'B'"),
    ):
        with pytest.raises(InputError, match=words):
            of_file(table, tmp_path / "q.csv", scores=("cnn",), **column)
    twice = pd.concat([table, table.assign(hospital="C", split="external", patient_id=table["patient_id"])])
    with pytest.raises(InputError, match="hospital: the patient has another value elsewhere"):
        of_file(twice.fillna({"split": "validation"}), tmp_path / "r.csv", scores=("cnn",), subgroups=("hospital",))

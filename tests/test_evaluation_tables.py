"""Predictions files and the tables made from them. Truth: planted mistakes, and the statistics tested elsewhere."""

import itertools
import json
import re
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from alneval.curves import average_precision, partial_auc
from alneval.delong import auc_difference, auc_interval
from alneval.estimate import once
from alneval.mcnemar import clustered_mcnemar_p, mcnemar_p
from alneval.methods import Methods
from alneval.multiplicity import holm
from alneval.reclassification import reclassification
from alneval.tables import (
    CALL_COLUMNS,
    COMPARISON_COLUMNS,
    CURVE_COLUMNS,
    DISCRIMINATION_COLUMNS,
    PREDICTION_COLUMNS,
    RECLASSIFICATION_COLUMNS,
    call_comparison_table,
    comparison_table,
    curve_table,
    discrimination_table,
    locked_thresholds,
    read_predictions,
    reclassification_comparisons,
    validate_predictions,
)
from alneval.thresholds import operating_point, youden_threshold
from alneval.units import Units
from alnlib.errors import InputError

CONTRACT = (
    "study,model,split,n,n_positive,auc,auc_low,auc_high,auc_method,auc_seed_sd,n_seeds,threshold,"
    "sensitivity,sensitivity_low,sensitivity_high,specificity,specificity_low,specificity_high,ppv,ppv_low,ppv_high,npv,npv_low,npv_high,accuracy,accuracy_low,"
    "accuracy_high,brier,brier_low,brier_high,threshold_from,note"
)


def model_rows(study, model, signal, splits, nodes_per_patient=1, seed=0):
    """Predictions of one model; labels and patients depend on the study alone."""
    labels, noise = np.random.default_rng(99), np.random.default_rng(seed)
    rows = []
    for split, n in splits.items():
        for patient in range(n):
            level = noise.normal()
            for node in range(nodes_per_patient):
                y = int(labels.random() < 0.4)
                patient_id = f"{split[0]}{patient:03d}"
                unit_id = patient_id if nodes_per_patient == 1 else f"{patient_id}_{node}"
                score = 1 / (1 + np.exp(-(signal * y - 0.5 + level + 0.5 * noise.normal())))
                rows.append((study, model, "main", split, patient_id, unit_id, y, round(score, 4)))
    return pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))


@pytest.fixture(scope="module")
def predictions():
    splits = {"validation": 60, "test": 80}
    models = [model_rows("tang", name, signal, splits, seed=k) for k, (name, signal) in
              enumerate([("clinical", 0.8), ("ultrasound", 1.5), ("fusion", 2.2)])]  # fmt: skip
    nodes = [model_rows("park", name, 2.0, {"cross_validation": 40, "test": 40}, 3, seed=k)
             for k, name in enumerate(["fsc", "asc"], start=7)]  # fmt: skip
    return pd.concat([*models, *nodes], ignore_index=True)


def rows_of(frame, **values):
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def test_discrimination_has_the_contract_columns_and_locked_thresholds(predictions):
    table = discrimination_table(predictions, rng=np.random.default_rng(0), n_bootstrap=200)
    assert ",".join(table.columns) == ",".join(DISCRIMINATION_COLUMNS) == CONTRACT
    assert len(table) == 3 * 2 + 2 * 2
    validation, test = (rows_of(predictions, model="fusion", split=split) for split in ("validation", "test"))
    threshold = youden_threshold(Units.of_rows(validation))
    row = rows_of(table, model="fusion", split="test").iloc[0]
    area, point = auc_interval(units := Units.of_rows(test)), operating_point(units, threshold)
    assert (row["auc"], row["auc_low"], row["auc_high"]) == (area.value, area.low, area.high)
    assert (row["threshold"], row["threshold_from"], row["note"]) == (threshold, "validation", "")
    for name in ("sensitivity", "specificity", "ppv", "npv", "accuracy"):
        share = getattr(point, name)
        assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == (share.value, share.low, share.high)
    assert row["brier"] == pytest.approx(((test["y_score"] - test["y_true"]) ** 2).mean())
    assert row["brier_low"] < row["brier"] < row["brier_high"]
    assert "chosen on these rows" in rows_of(table, model="fusion", split="validation")["note"].iloc[0]


def test_several_nodes_per_patient_are_clustered(predictions):
    table = discrimination_table(predictions, rng=np.random.default_rng(0), n_bootstrap=500)
    test = rows_of(predictions, model="fsc", split="test")
    row = rows_of(table, model="fsc", split="test").iloc[0]
    area = auc_interval(Units.of_rows(test))
    assert (row["auc_low"], row["auc_high"]) == (area.low, area.high)
    assert row["n"] == 120 and "40 patients" in row["note"] and row["threshold_from"] == "cross_validation"
    squared = (test["y_score"] - test["y_true"]) ** 2
    by_row = 2 * 1.96 * squared.std() / np.sqrt(len(test))
    assert row["brier_high"] - row["brier_low"] > 1.1 * by_row


def test_rows_depend_neither_on_other_models_nor_on_the_order_of_rows(predictions):
    whole = discrimination_table(predictions, rng=np.random.default_rng(4), n_bootstrap=100)
    part = discrimination_table(rows_of(predictions, model="asc"), rng=np.random.default_rng(4), n_bootstrap=100)
    pd.testing.assert_frame_equal(rows_of(whole, model="asc").reset_index(drop=True), part)
    mixed = predictions.sample(frac=1, random_state=1)
    shuffled = discrimination_table(mixed, rng=np.random.default_rng(4), n_bootstrap=100)
    keys = ["study", "model", "split"]
    pd.testing.assert_frame_equal(whole.set_index(keys).sort_index(), shuffled.set_index(keys).sort_index())


def test_threshold_sources_in_order_and_none_at_all():
    def table(splits, **options):
        frame = model_rows("s", "m", 1.0, splits)
        return discrimination_table(frame, rng=np.random.default_rng(0), n_bootstrap=50, **options)

    assert set(table({"train": 30, "cross_validation": 30})["threshold_from"]) == {"cross_validation"}
    assert set(table({"train": 30, "test": 30})["threshold_from"]) == {"train"}
    none = table({"test": 30, "external": 30})
    assert none["threshold"].isna().all() and none["sensitivity_low"].isna().all() and none["auc"].notna().all()
    assert none["note"].str.contains("no split to choose a threshold on").all()
    given = table({"test": 30}, methods=Methods(thresholds={("s", "m"): 0.4}))
    assert given[["threshold", "threshold_from"]].iloc[0].tolist() == [0.4, "given"]
    with pytest.raises(ValueError, match="without predictions"):
        table({"test": 30}, methods=Methods(thresholds={("s", "other"): 0.4}))


def test_one_class_and_perfect_splits_are_noted_not_fatal():
    frame = model_rows("s", "m", 1.0, {"validation": 30, "external": 6, "test": 20})
    frame.loc[frame["split"] == "external", "y_true"] = 1
    test = frame["split"] == "test"
    frame.loc[test, "y_score"] = 0.1 + 0.8 * frame.loc[test, "y_true"]
    table = discrimination_table(frame, rng=np.random.default_rng(0), n_bootstrap=50).set_index("split")
    assert isnan(table.loc["external", "auc"]) and isnan(table.loc["external", "specificity"])
    assert table.loc["external", "sensitivity"] >= 0 and "one class only" in table.loc["external", "note"]
    assert table.loc["test", "auc"] == 1 and 0.5 < table.loc["test", "auc_low"] < 1
    assert "zero DeLong variance" in table.loc["test", "note"]


def test_one_score_for_all_is_not_called_a_separation():
    frame = model_rows("s", "m", 1.0, {"validation": 30, "test": 20}).assign(y_score=0.4)
    table = discrimination_table(frame, rng=np.random.default_rng(0), n_bootstrap=50).set_index("split")
    assert table["auc"].eq(0.5).all()
    assert table["note"].str.contains("one score for all").all() and not table["note"].str.contains("DeLong").any()


def test_comparisons_are_paired_clustered_and_corrected(predictions):
    table = comparison_table(predictions)
    assert tuple(table.columns) == COMPARISON_COLUMNS
    assert len(table) == 2 * 3 + 2 * 1
    a, b = (rows_of(predictions, model=name, split="test") for name in ("clinical", "fusion"))
    row = rows_of(table, split="test", model_a="clinical", model_b="fusion").iloc[0]
    result = auc_difference(Units.of(a["y_true"], a["y_score"], b["y_score"]))
    assert (row["delta"], row["delta_low"], row["p"]) == pytest.approx((result.value, result.low, result.p))
    family = rows_of(table, study="tang", split="test")
    np.testing.assert_allclose(family["p_holm"], holm(family["p"]))
    a, b = (rows_of(predictions, model=name, split="test") for name in ("fsc", "asc"))
    row = rows_of(table, study="park", split="test").iloc[0]
    clustered = auc_difference(Units.of(a["y_true"], a["y_score"], b["y_score"], patient=a["patient_id"]))
    assert row["p"] == pytest.approx(clustered.p) == pytest.approx(row["p_holm"])
    assert "clustered" in row["method"]


def test_comparisons_use_common_units_in_any_order(predictions):
    tang = rows_of(predictions, study="tang", split="test")
    fewer = tang[~((tang["model"] == "fusion") & tang["patient_id"].isin(["t003", "t010"]))]
    shuffled = fewer.sample(frac=1, random_state=2)
    row = rows_of(comparison_table(shuffled, [("clinical", "fusion")]), split="test").iloc[0]
    kept = tang[~tang["patient_id"].isin(["t003", "t010"])]
    a, b = rows_of(kept, model="clinical"), rows_of(kept, model="fusion")
    assert row["n"] == 78
    assert row["p"] == pytest.approx(auc_difference(Units.of(a["y_true"], a["y_score"], b["y_score"])).p)


def test_what_cannot_be_compared_says_why(predictions):
    frame = pd.concat([model_rows("s", "m1", 1, {"test": 10}), model_rows("s", "m2", 1, {"test": 10}, seed=1)])
    disjoint = frame.assign(patient_id=frame["model"] + frame["patient_id"])
    row = comparison_table(disjoint).iloc[0]
    assert row["n"] == 0 and isnan(row["p"]) and isnan(row["p_holm"]) and "no unit in common" in row["method"]
    assert "one class only" in comparison_table(frame.assign(y_true=1))["method"].iloc[0]
    assert comparison_table(rows_of(frame, model="m1")).empty
    with pytest.raises(ValueError, match="without predictions"):
        comparison_table(frame, [("m1", "m9")])
    with pytest.raises(ValueError, match="disagree"):
        comparison_table(frame.assign(y_true=[0] * 10 + [1] * 10))


def test_reading_keeps_ids_as_text_and_joins_files(predictions, tmp_path):
    renamed = predictions.assign(patient_id=predictions["patient_id"].str[1:], fold=1)
    renamed["patient_id"] = renamed["split"].str[:4] + renamed["patient_id"]
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    renamed[renamed["study"] == "tang"].to_csv(first, index=False)
    second.write_text("\ufeff" + renamed[renamed["study"] == "park"].to_csv(index=False) + "\n\n", encoding="utf-8")
    table = read_predictions([first, str(second)])
    pd.testing.assert_frame_equal(table, renamed.drop(columns="fold"), check_dtype=False)
    zeros = tmp_path / "c.csv"
    zeros.write_text(
        "study,model,split,patient_id,unit_id,y_true,y_score\ns,m,test,007,007,1,0.5\ns,m,test,NA,NA,0,0\n"
    )
    assert read_predictions(zeros)["patient_id"].tolist() == ["007", "NA"]


def test_every_problem_is_named_with_its_line(tmp_path):
    path = tmp_path / "predictions.csv"
    lines = [
        "study,model,split,patient_id,unit_id,y_true,y_score",
        "s,m,test,p1,p1,1,0.5",
        "s,m,test,p2,p2,2,0.5",  # 3: label
        "s,m,test,p3,p3,,0.5",  # 4: no label
        "",
        "s,m,test,p4,p4,1,1.5",  # 6: not a probability
        "s,m,test,p5,p5,1,nan",  # 7: not finite
        "s,m,test,p6,p6,1,high",  # 8: not a number
        "s,m,tset,p7,p7,1,0.2",  # 9: unknown split
        "s,m,test,p1,p1,1,0.6",  # 10: twice
        "s,m,train,p1,p1b,1,0.6",  # 11: patient in two splits
        "s,m,cross_validation,p1,p1,1,0.6",  # fine
        "s,m2,test,p1,p1,0,0.6",  # 13: another label for the same unit
        "s,m,test,,p9,0,0.6",  # 14: no patient
        "other,m,train,p1,p1,0,0.6",  # another study may have another label and split
    ]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    places = [(problem.row, problem.column) for problem in caught.value.problems]
    assert places == [
        (3, "y_true"),
        (4, "y_true"),
        (6, "y_score"),
        (7, "y_score"),
        (8, "y_score"),
        (9, "split"),
        (10, "unit_id"),
        (11, "patient_id"),
        (13, "y_true"),
        (14, "patient_id"),
    ]
    assert all(problem.file == str(path) and problem.remedy for problem in caught.value.problems)
    text = str(caught.value)
    assert f"{path}, row 10, column unit_id" in text and f"first in {path}, row 2" in text
    assert "p1: test and train" in text


def test_problems_across_files_name_the_second_file(predictions, tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    tang = rows_of(predictions, study="tang", model="fusion", split="test")
    tang.to_csv(first, index=False)
    tang.head(2).to_csv(second, index=False)
    with pytest.raises(InputError) as caught:
        read_predictions([first, second])
    assert [(problem.file, problem.row) for problem in caught.value.problems] == [(str(second), 2), (str(second), 3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no predictions"),
        (b"study,model,split,patient_id,unit_id,y_true,y_score\n", "no predictions"),
        (b"study;model;split;patient_id;unit_id;y_score\na;b;test;1;1;0.5\n", "column y_true: the column is missing"),
        (b"study,model,split,y_true,y_score\na,b,test,0,0.5\n", "column patient_id: the column is missing"),
        (b"study,model,split,patient_id,unit_id,y_true,y_score\n\xff\xfe\x00,b,test,1,1,0,0.5\n", "UTF-8"),
        (b"study,model,split,patient_id,unit_id,y_true,y_score\na,b,test,1,1,0,0.5,7,8\n", "row 2: 9 fields"),
        (b"study,model,split,patient_id,unit_id,y_true,y_score\n\na,b,test,1,1,0\n", "row 3: 6 fields"),
        (b"study,model,split,patient_id,unit_id,y_true,y_score,y_true\na,b,test,1,1,0,0.5,0\n", "there twice"),
        (b"study,model,split,patient_id,unit_id,y_true,y_score\na,b,test,\x00,1,0,0.5\n" * 2, "NUL|not 0 or 1"),
    ],
)
def test_unreadable_files_are_the_users_mistake(tmp_path, content, message):
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_predictions(path)
    assert re.search(message, str(caught.value))


def test_missing_files_and_folders_are_named_together(tmp_path):
    with pytest.raises(InputError) as caught:
        read_predictions([tmp_path / "nowhere.csv", tmp_path])
    assert [problem.message for problem in caught.value.problems] == ["the file does not exist", "this is a folder"]
    with pytest.raises(InputError, match="no predictions file"):
        read_predictions([])


def test_frames_are_validated_like_files(predictions):
    assert validate_predictions(predictions) == []
    broken = predictions.copy()
    broken["y_score"] = broken["y_score"].where(broken.index != 5, np.inf)
    broken["patient_id"] = broken["patient_id"].where(broken.index != 8, None)
    found = validate_predictions(broken, "mine.csv")
    assert {(problem.file, problem.row, problem.column) for problem in found} >= {
        ("mine.csv", 7, "y_score"),
        ("mine.csv", 10, "patient_id"),
    }
    assert [problem.column for problem in validate_predictions(predictions.drop(columns="split"))] == ["split"]
    assert len(validate_predictions(predictions.head(0))) == 1


def test_calls_at_locked_thresholds_by_hand():
    """Validation locks 0.5 for a and 0.35 for b; ten test patients, whose calls are counted below."""
    validation = [(1, 0.6, 0.4), (1, 0.7, 0.45), (0, 0.4, 0.3), (0, 0.3, 0.2)]
    test = [(1, 0.6, 0.3)] * 3 + [(1, 0.4, 0.4)] + [(1, 0.6, 0.4)] + [(0, 0.6, 0.3)] * 4 + [(0, 0.3, 0.3)]
    rows = [
        ("s", model, "main", split, f"{split}{i}", f"{split}{i}", y, score)
        for split, patients in (("validation", validation), ("test", test))
        for i, (y, *scores) in enumerate(patients)
        for model, score in zip("ab", scores, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=list(PREDICTION_COLUMNS))
    thresholds = locked_thresholds(frame)
    assert thresholds == pytest.approx({("s", "a"): 0.5, ("s", "b"): 0.35})
    table = call_comparison_table(frame[frame["split"] == "test"], thresholds)
    assert tuple(table.columns) == CALL_COLUMNS and len(table) == 1
    row = table.iloc[0]
    assert (row["positives_a_only"], row["positives_b_only"]) == (3, 1)
    assert (row["negatives_a_only"], row["negatives_b_only"]) == (0, 4)
    assert row["p_mcnemar_positives"] == pytest.approx(2 * (1 + 4) / 16), "binomial, 1 of 4 or fewer, both ways"
    assert row["p_mcnemar_negatives"] == pytest.approx(2 / 16)
    assert call_comparison_table(frame[frame["split"] == "test"], {("s", "a"): 0.5}).empty


def test_mcnemar_agrees_with_r():
    """R 4.2.2: binom.test(2, 11); mcnemar.test(correct = TRUE) of 30 and 14."""
    expected = json.loads((Path(__file__).parent / "references/evaluation/expected.json").read_text())["mcnemar"]
    assert mcnemar_p(9, 2) == pytest.approx(expected["exact_9_2"], abs=1e-9)
    assert mcnemar_p(30, 14) == pytest.approx(expected["chi_30_14"], abs=1e-9)
    assert mcnemar_p(0, 0) == 1


def test_calls_of_units_that_share_a_patient_are_compared_by_patient():
    """Each patient's discordant nodes count once, in proportion: 6 patients of 3 nodes each are no 18 patients."""
    patients = np.repeat([f"p{i}" for i in range(12)], 3)
    units = [f"n{i}" for i in range(36)]
    a, b = np.repeat([1.0] * 6 + [0.0] * 6, 3), np.zeros(36)
    rows = {"study": "s", "split": "test", "patient_id": patients, "unit_id": units, "y_true": 1}
    frame = pd.concat([pd.DataFrame(rows | {"model": name, "y_score": score}) for name, score in (("a", a), ("b", b))])
    thresholds = {("s", "a"): 0.5, ("s", "b"): 0.5}
    row = call_comparison_table(frame, thresholds).iloc[0]
    assert row["method_mcnemar"] == "McNemar, clustered by patient" and row["positives_a_only"] == 18
    assert row["p_mcnemar_positives"] == pytest.approx(2 / 2**6), "two of the 64 ways to give six patients a sign"
    assert isnan(row["p_mcnemar_negatives"])


def test_clustered_mcnemar_is_mcnemar_with_one_unit_each_and_exact_by_enumeration():
    for a_only, b_only in ((9, 2), (3, 3), (0, 5)):
        assert clustered_mcnemar_p(np.repeat([1, -1], [a_only, b_only])) == pytest.approx(mcnemar_p(a_only, b_only))
    balances = np.array([2, -1, 3, 0, 1, 1])
    signs = np.array(list(itertools.product((-1, 1), repeat=5)))
    sums = signs @ np.array([2, 1, 3, 1, 1])
    assert clustered_mcnemar_p(balances) == pytest.approx(np.mean(np.abs(sums) >= 6))
    many = np.repeat([1, -1], [30, 14])
    assert clustered_mcnemar_p(many) == pytest.approx(stats.chi2.sf(16**2 / 44, 1))
    assert clustered_mcnemar_p(np.zeros(3)) == 1


def test_curve_table_holds_the_separate_functions_and_knows_patients(predictions):
    table = curve_table(predictions, rng=np.random.default_rng(0), n_bootstrap=60)
    assert tuple(table.columns) == CURVE_COLUMNS
    for row in table.to_dict("records"):
        part = rows_of(predictions, study=row["study"], model=row["model"], split=row["split"])
        units = Units.of_rows(part)
        if not units.has_both_classes:
            assert isnan(row["partial_auc"])
            continue
        assert row["partial_auc"] == pytest.approx(once(partial_auc(0.8, 1, standardized=True), units))
        assert row["average_precision"] == pytest.approx(once(average_precision, units))
        for name in ("partial_auc", "sensitivity_at_specificity", "average_precision"):
            assert row[f"{name}_low"] <= row[f"{name}_high"]
    shuffled = predictions.sample(frac=1, random_state=1)
    again = curve_table(shuffled, rng=np.random.default_rng(0), n_bootstrap=60)
    keys = ["study", "model", "split"]
    pd.testing.assert_frame_equal(
        table.sort_values(keys, ignore_index=True), again.sort_values(keys, ignore_index=True)
    )


def test_reclassification_is_against_the_old_model_and_on_common_units(predictions):
    moved = reclassification_comparisons(
        predictions, {"tang": "clinical"}, rng=np.random.default_rng(0), n_bootstrap=50
    )
    assert tuple(moved.columns) == RECLASSIFICATION_COLUMNS
    assert set(moved["study"]) == {"tang"} and set(moved["model_old"]) == {"clinical"}
    row = rows_of(moved, split="test", model_new="fusion").iloc[0]
    a, b = (rows_of(predictions, model=name, split="test") for name in ("clinical", "fusion"))
    joined = a.merge(b, on=["patient_id", "unit_id"])
    scored = joined["y_true_x"], joined["y_score_x"], joined["y_score_y"]
    events, _, idi = once(reclassification, Units.of(*scored))
    assert (row["nri_events"], row["idi"]) == pytest.approx((events, idi))
    assert row["idi_low"] < row["idi"] < row["idi_high"]
    assert reclassification_comparisons(predictions, {}, rng=np.random.default_rng(0), n_bootstrap=50).empty

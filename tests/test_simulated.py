"""The simulated cohort: same seed same bytes, known truth, honest imperfections, files that other programs open.

Truth comes from the generative model itself (closed forms, or a fresh Monte Carlo draw); pydicom and SimpleITK read the files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm, rankdata

from alnlib.cohorts.folder import read_cohort, validate_cohort_folder
from alnlib.cohorts.schema import parse_box
from alnlib.cohorts.simulated import SimulationSpec, attainable_auc, oracle_score, read_truth, simulate_cohort, truth
from alnlib.cohorts.simulated import patients as model
from alnlib.cohorts.simulated.ultrasound import SCANNERS, TRAITS, _look, appearance_from_traits, simulate_bmode
from alnlib.errors import InputError
from alnlib.files import sha256_file
from alnlib.imaging.read import read_image, read_mask

SMALL = SimulationSpec(n_primary=10, n_external=4, image_rows=128, image_columns=112)
TRUTH_PATIENTS = 20_000


def checksums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def auc(status: np.ndarray, score: np.ndarray) -> float:
    status = np.asarray(status) == 1
    ranks = rankdata(score)
    n_positive = status.sum()
    return float((ranks[status].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * (~status).sum()))


def population(spec: SimulationSpec, n: int, seed: int, centre: str = "primary") -> pd.DataFrame:
    drawn = truth.draw_population(n, centre, model.nodal_intercept(spec), spec, np.random.default_rng(seed))
    return pd.DataFrame({"patient_id": [str(i) for i in range(n)], "centre": centre, **drawn})


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "cohort"
    return simulate_cohort(SMALL, folder, seed=7, truth_patients=TRUTH_PATIENTS)


@pytest.fixture(scope="module")
def default_truth():
    return attainable_auc(SimulationSpec(), np.random.default_rng(1), 60_000)


def test_same_seed_gives_the_same_bytes_on_one_process_and_on_two(small, tmp_path):
    simulate_cohort(SMALL, tmp_path / "again", seed=7, n_jobs=2, truth_patients=TRUTH_PATIENTS)
    assert checksums(tmp_path / "again") == checksums(small.root)


def test_another_seed_gives_other_patients(small, tmp_path):
    other = simulate_cohort(SMALL, tmp_path / "other", seed=8, truth_patients=2_000)
    assert checksums(tmp_path / "other")["images/SIM-0001-US.dcm"] != checksums(small.root)["images/SIM-0001-US.dcm"]
    assert not other.patients["age"].equals(small.patients["age"])


def test_a_patient_does_not_depend_on_how_many_others_there_are(small, tmp_path):
    spec = SimulationSpec(n_primary=2, n_external=0, image_rows=128, image_columns=112)
    fewer = simulate_cohort(spec, tmp_path / "fewer", seed=7, truth_patients=2_000)
    assert sha256_file(fewer.root / "images/SIM-0002-US.dcm") == sha256_file(small.root / "images/SIM-0002-US.dcm")
    assert fewer.centres == ("primary",) and fewer.external_centres == ()


def test_the_folder_keeps_the_contract_and_reads_back_as_it_was_returned(small):
    assert validate_cohort_folder(small.root) == []
    back = read_cohort(small.root)
    pd.testing.assert_frame_equal(back.patients, small.patients, check_dtype=False)
    pd.testing.assert_frame_equal(
        back.images.astype(object).where(back.images.notna(), None),
        small.images.astype(object).where(small.images.notna(), None),
    )
    assert back.clinical == small.clinical and back.endpoints == small.endpoints
    assert back.is_simulated and back.external_centres == ("external",)
    assert {"latent.csv", "truth.json", "simulation.json"} <= set(checksums(small.root))
    hidden = {"invasiveness", "proliferation", "nodal_log_odds", "oracle_ultrasound"}
    assert not hidden & set(back.patients.columns)


def test_every_dicom_opens_in_pydicom_and_simpleitk_with_the_right_spacing(small):
    for row in small.images.itertuples():
        path = small.root / row.path
        dataset = pydicom.dcmread(path)
        region = dataset.SequenceOfUltrasoundRegions[0]
        spacing = float(dataset.PixelSpacing[0])
        assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.6.1" and dataset.Modality == "US"
        assert region.PhysicalDeltaX == pytest.approx(spacing / 10) and region.PhysicalUnitsXDirection == 3
        assert dataset.pixel_array.shape == (128, 112) and dataset.pixel_array.dtype == np.uint8
        volume = SimpleITK.ReadImage(str(path))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(volume).squeeze(), dataset.pixel_array)
        assert volume.GetSpacing()[:2] == pytest.approx((spacing, spacing), abs=1e-6)
        image = read_image(path)
        assert image.modality == "US" and image.spacing_mm == pytest.approx((spacing, spacing))
        scanner = SCANNERS[small.patients.set_index("patient_id").loc[row.patient_id, "centre"]]
        depths = [128 * spacing - depth for depth in (scanner.depth_mm, scanner.deep_depth_mm)]
        assert min(map(abs, depths)) < 1e-6


def test_dicom_objects_hold_what_the_ultrasound_image_object_must(small, monkeypatch):
    """DICOM PS3.3 A.6: attributes of type 1 have a value, those of type 2 are there; pydicom finds every value legal."""
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    filled = "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality SamplesPerPixel Rows Columns BitsAllocated"
    filled += " BitsStored HighBit PixelRepresentation PhotometricInterpretation PixelData ImageType"
    present = (
        "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime StudyID AccessionNumber SeriesNumber"
    )
    present += " ReferringPhysicianName Manufacturer InstanceNumber PatientOrientation"
    for row in small.images.itertuples():
        dataset = pydicom.dcmread(small.root / row.path)
        assert all(dataset[name].value not in (None, "") for name in filled.split())
        assert all(name in dataset for name in present.split())
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert len(list(dataset.iterall())) > 50  # every element is decoded, so every value is checked
        assert dataset.ImageLaterality == row.laterality


def test_nothing_in_a_file_looks_like_a_real_identity(small):
    uids = set()
    for row in small.images.itertuples():
        dataset = pydicom.dcmread(small.root / row.path)
        assert str(dataset.PatientName) == f"Simulated^{row.patient_id[4:]}"
        assert dataset.PatientID == row.patient_id and dataset.PatientID.startswith("SIM-")
        assert dataset.PatientBirthDate == "" and dataset.ReferringPhysicianName == ""
        assert dataset.StudyDate == "20000101" and "InstitutionName" not in dataset and "StationName" not in dataset
        for uid in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID):
            assert uid.is_valid and uid.startswith("2.25.")
            uids.add(str(uid))
        assert dataset.file_meta.ImplementationVersionName == "ALN_SIMULATED_1"
    assert len(uids) == 3 * len(small.images)


def test_masks_and_boxes_belong_to_the_lesions(small):
    latent = pd.read_csv(small.root / "latent.csv", dtype={"patient_id": str}).set_index("patient_id")
    diameters, shown = [], []
    for row in small.images.itertuples():
        image = read_image(small.root / row.path)
        mask = read_mask(small.root / row.mask_path, image.shape)
        row0, col0, row1, col1 = parse_box(row.box)
        assert mask[row0:row1, col0:col1].sum() == mask.sum() > 0
        assert mask[row0].any() and mask[row1 - 1].any() and mask[:, col0].any() and mask[:, col1 - 1].any()
        diameters.append(2.0 * np.sqrt(mask.sum() / np.pi) * image.spacing_mm[0])
        traits = latent.loc[row.patient_id, [f"us_{trait}" for trait in TRAITS]].to_numpy(float)
        shown.append(appearance_from_traits(traits).diameter_mm)
    assert np.corrcoef(np.log(diameters), np.log(shown))[0, 1] > 0.8


def test_lesions_are_darker_than_their_surroundings_and_shadow_as_told():
    still = {}
    for shadowing in (-2.0, 2.0):
        traits = np.array([0.0, shadowing, 0.5, 0.0, 0.0, 0.0, 0.0])
        images = [
            simulate_bmode(appearance_from_traits(traits), SCANNERS["primary"], 128, 128, np.random.default_rng(k))
            for k in range(6)
        ]
        inside = np.mean([image.pixels[image.mask].mean() for image in images])
        outside = np.mean([image.pixels[~image.mask].mean() for image in images])
        assert inside < outside
        below = []
        for image in images:
            rows, columns = np.nonzero(image.mask)
            below.append(image.pixels[rows.max() + 3 : rows.max() + 20, columns.min() + 6 : columns.max() - 6].mean())
        still[shadowing] = np.mean(below)
    assert still[2.0] < still[-2.0] - 10


def test_one_look_of_homogeneous_tissue_is_rayleigh_speckle():
    """Burckhardt 1978: mean / sd of the envelope of fully developed speckle is sqrt(pi / (4 - pi)) = 1.91."""
    size = (300, 300)
    ones, none = np.ones(size, np.float32), np.zeros(size, np.float32)
    envelope = _look(
        ones, none, none, np.zeros((2, *size), np.float32), axial=1.2, narrow=1.8, rng=np.random.default_rng(0)
    )
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)
    assert np.sqrt((envelope**2).mean()) == pytest.approx(1.0, rel=0.05)


def test_prevalence_is_as_intended():
    drawn = population(SimulationSpec(), 40_000, seed=11)
    assert drawn["aln_metastasis"].mean() == pytest.approx(model.TARGET_PREVALENCE, abs=0.01)
    assert ((drawn["positive_nodes"] > 0) == (drawn["aln_metastasis"] == 1)).all()


def test_the_written_odds_ratios_hold_in_the_patients():
    """Given everything in the model the log odds are linear: at the written values a Newton step is zero, within its error."""
    spec = SimulationSpec(missing_values=False)
    drawn = population(spec, 60_000, seed=12)
    terms = np.column_stack([*model.nodal_terms(drawn).values(), drawn["invasiveness"], np.ones(len(drawn))])
    probability = expit(drawn["nodal_log_odds"])
    score = terms.T @ (drawn["aln_metastasis"] - probability)
    information = terms.T @ (terms * (probability * (1 - probability)).to_numpy()[:, None])
    off_by = np.linalg.solve(information, score) / np.sqrt(np.diag(np.linalg.inv(information)))
    assert (np.abs(off_by) < 4).all()


def test_values_are_missing_but_not_completely_at_random():
    drawn = population(SimulationSpec(), 30_000, seed=13)
    external = population(SimulationSpec(), 30_000, seed=14, centre="external")
    small_tumours, old = drawn["size_mm"] < 15, drawn["age"] > 65
    assert drawn["grade_missing"][small_tumours].mean() > 3 * drawn["grade_missing"][drawn["size_mm"] > 30].mean()
    assert drawn["ki67_missing"][old].mean() > 1.5 * drawn["ki67_missing"][drawn["age"] < 45].mean()
    assert external["ki67_missing"].mean() > 2 * drawn["ki67_missing"].mean()
    complete = population(SimulationSpec(missing_values=False), 2_000, seed=13)
    assert not complete.filter(like="_missing").to_numpy().any()


def test_defaults_stand_near_the_published_values(default_truth):
    """PAPERS: clinical variables alone 0.65-0.75; everything fused 0.809 on external patients."""
    assert default_truth["clinical"]["primary"].auc == pytest.approx(0.69, abs=0.02)
    assert 0.76 <= default_truth["ultrasound"]["primary"].auc <= 0.80
    assert default_truth["clinical_ultrasound"]["primary"].auc == pytest.approx(0.82, abs=0.015)
    assert all(known.monte_carlo_se < 0.003 for centres in default_truth.values() for known in centres.values())


@pytest.mark.parametrize("modality", truth.MODALITIES)
@pytest.mark.parametrize("centre", ["primary", "external"])
def test_an_oracle_reaches_the_attainable_auc_on_fresh_patients(default_truth, modality, centre):
    fresh = population(SimulationSpec(), 20_000, seed=15, centre=centre)
    score = oracle_score(fresh, modality, SimulationSpec())
    known = default_truth[modality][centre]
    error = np.hypot(known.monte_carlo_se, known.monte_carlo_se * np.sqrt(3))  # 60,000 and 20,000 patients
    assert abs(auc(fresh["aln_metastasis"], score) - known.auc) < 3.5 * error
    bins = pd.qcut(score, 10, labels=False)
    for _, rows in fresh.assign(score=score).groupby(bins):
        spread = np.sqrt(rows["score"].mean() * (1 - rows["score"].mean()) / len(rows))
        assert abs(rows["aln_metastasis"].mean() - rows["score"].mean()) < 4 * spread


def test_without_signal_every_oracle_is_at_one_half():
    spec = SimulationSpec(signal_clinical=0, signal_ultrasound=0, signal_readers=0)
    found = attainable_auc(spec, np.random.default_rng(2), 20_000)
    for centres in found.values():
        for known in centres.values():
            assert known.auc == pytest.approx(0.5, abs=1e-9)


def test_ultrasound_without_signal_adds_nothing_to_clinical_variables():
    spec = SimulationSpec(signal_ultrasound=0)
    fresh = population(spec, 3_000, seed=16)
    np.testing.assert_allclose(
        oracle_score(fresh, "clinical_ultrasound", spec), oracle_score(fresh, "clinical", spec), atol=1e-9
    )
    assert np.ptp(oracle_score(fresh, "ultrasound", spec)) < 1e-9
    assert abs(np.corrcoef(fresh["us_size"], fresh["size_mm"])[0, 1]) < 0.06


def test_more_signal_is_more_attainable():
    values = [
        attainable_auc(SimulationSpec(signal_ultrasound=s), np.random.default_rng(3), 20_000)["ultrasound"][
            "primary"
        ].auc
        for s in (0.2, 0.5, 1.0)
    ]
    assert values == sorted(values) and values[-1] - values[0] > 0.1


def test_the_averaged_sigmoid_is_the_integral_it_stands_for():
    marginal = truth._MarginalSigmoid(0.4)
    for log_odds in (-3.0, 0.3, 2.0):
        scale = model.INVASIVENESS_LOG_ODDS * np.sqrt(0.4)
        expected, _ = quad(lambda z, at, by: expit(at + by * z) * norm.pdf(z), -9, 9, args=(log_odds, scale))
        assert marginal(np.array([log_odds]))[0] == pytest.approx(expected, abs=1e-5)


def test_readers_are_as_skilled_as_stated():
    spec = SimulationSpec()
    fresh = population(spec, 40_000, seed=17)
    axilla = {name: fresh[name].to_numpy() for name in ("aln_metastasis", "nodal_burden")}
    grades = model.draw_readers(axilla, spec, np.random.default_rng(18))
    for reader, skill in model.READER_SKILL.items():
        assert set(grades[reader]) == {1, 2, 3, 4, 5}
        measured = auc(fresh["aln_metastasis"], grades[reader])
        assert measured == pytest.approx(truth.graded_reader_auc(skill, spec), abs=0.01)
        assert skill - 0.03 < measured < skill + 0.005, "five grades cost a reader a little"
    assert np.corrcoef(grades["reader_a"], grades["reader_b"])[0, 1] > 0.3


def test_a_centre_mark_is_off_by_default_and_follows_the_label_when_asked(tmp_path, small):
    spec = SimulationSpec(n_primary=12, n_external=0, image_rows=96, image_columns=96, centre_mark=1.0)
    marked = simulate_cohort(spec, tmp_path / "marked", seed=3, truth_patients=2_000)
    for row, status in zip(marked.images.itertuples(), marked.patients["aln_metastasis"], strict=True):
        pixels = read_image(marked.root / row.path).pixels
        assert bool((pixels[10, 6:15] == 255).all()) == bool(status)
    assert set(marked.patients["aln_metastasis"]) == {0, 1}
    assert not pd.read_csv(small.root / "latent.csv")["centre_marked"].any()


def test_truth_is_read_back_as_a_table(small, tmp_path):
    table = read_truth(small.root)
    assert set(table["modality"]) == {*truth.MODALITIES, *model.READER_SKILL}
    assert table.groupby("modality")["centre"].agg(list).map(set).eq({"primary", "external"}).all()
    with pytest.raises(InputError, match="only a simulated cohort"):
        read_truth(tmp_path)


def test_latent_table_scores_itself(small):
    latent = pd.read_csv(small.root / "latent.csv", dtype={"patient_id": str})
    for modality in truth.MODALITIES:
        np.testing.assert_allclose(oracle_score(latent, modality, SMALL), latent[f"oracle_{modality}"], atol=1e-6)
    with pytest.raises(ValueError, match="expected one of"):
        oracle_score(latent, "mri", SMALL)


def test_a_folder_with_other_files_is_left_alone_and_an_earlier_simulation_replaced(tmp_path):
    spec = SimulationSpec(n_primary=1, n_external=0, image_rows=96, image_columns=96)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(InputError, match="not a simulated cohort"):
        simulate_cohort(spec, tmp_path / "mine", seed=1, truth_patients=1_000)
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"
    simulate_cohort(spec, tmp_path / "cohort", seed=1, truth_patients=1_000)
    (tmp_path / "cohort/stale.txt").write_text("from before")
    simulate_cohort(spec, tmp_path / "cohort", seed=2, truth_patients=1_000)
    assert not (tmp_path / "cohort/stale.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cohort", "mine"]


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("alnlib.cohorts.simulated.build.write_cohort", fail)
    spec = SimulationSpec(n_primary=1, n_external=0, image_rows=96, image_columns=96)
    with pytest.raises(OSError, match="disk full"):
        simulate_cohort(spec, tmp_path / "cohort", seed=1, truth_patients=1_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"n_primary": 0}, "at least 1"),
        ({"image_rows": 64}, "at least 96"),
        ({"signal_ultrasound": 1.5}, "from 0 to 1"),
        ({"centre_mark": -0.1}, "from 0 to 1"),
    ],
)
def test_an_impossible_recipe_says_what_to_give(change, remedy):
    with pytest.raises(InputError, match=remedy):
        SimulationSpec(**change)

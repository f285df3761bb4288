"""The simulated cohort as a folder: same seed same bytes, every modality, honest imperfections, files that other programs open.

The truth of the generative model is tested in `test_simulated_truth`, each modality's physics in a module of its own.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK
import yaml

from alnlib.cohorts.folder import read_cohort
from alnlib.cohorts.schema import ClinicalVariable, parse_box
from alnlib.errors import InputError
from alnlib.files import sha256_file
from alnlib.imaging.clips import read_clip
from alnlib.imaging.read import read_image, read_mask
from alnlib.imaging.volumes import read_volume, read_volume_mask
from alnlib.paths import repository_root
from alnsim import SimulationSpec, simulate_cohort
from alnsim.build import draw_people
from alnsim.patients import CLINICAL
from alnsim.traits import ULTRASOUND
from alnsim.truth import read_oracle
from alnsim.ultrasound import SCANNERS, _look, appearance_from_traits, simulate_bmode

SMALL = SimulationSpec(
    n_primary=10, n_external=4, n_ct=6, n_ct_nodes=14, n_neoadjuvant=3, image_rows=128, image_columns=112
)
BARE = {"n_mri": 0, "n_video_primary": 0, "n_video_external": 0, "n_ct": 0, "n_mammography": 0, "n_neoadjuvant": 0}
"""Stills alone: quick."""

TRUTH_PATIENTS = 4_000
MRI_SEQUENCES = {"T2", "DWI_b800", "ADC", "DCE_pre", "DCE_early", "DCE_late"}


def checksums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "cohort"
    return read_cohort(simulate_cohort(SMALL, folder, seed=7, truth_patients=TRUTH_PATIENTS))


@pytest.fixture(scope="module")
def latent(small):
    return pd.read_csv(small.root / "latent.csv", dtype={"patient_id": str}).set_index("patient_id")


def dicom_rows(cohort):
    return cohort.images[cohort.images["path"].str.endswith(".dcm")].itertuples()


def test_same_seed_gives_the_same_bytes_on_one_process_and_on_two(small, tmp_path):
    simulate_cohort(SMALL, tmp_path / "again", seed=7, n_jobs=2, truth_patients=TRUTH_PATIENTS)
    assert checksums(tmp_path / "again") == checksums(small.root)


def test_another_seed_gives_other_patients(small, tmp_path):
    spec = SimulationSpec(**{**SMALL.described(), "n_primary": 2, "n_external": 0, **BARE, "n_ct_nodes": 0})
    other = pd.read_csv(simulate_cohort(spec, tmp_path / "other", seed=8, truth_patients=2_000) / "patients.csv")
    assert checksums(tmp_path / "other")["images/SIM-0001-US.dcm"] != checksums(small.root)["images/SIM-0001-US.dcm"]
    assert not other["age"].equals(small.patients["age"][:2].astype(int))


def test_a_patient_does_not_depend_on_how_many_others_there_are(small, tmp_path):
    spec = SimulationSpec(
        n_primary=2, n_external=0, n_mammography=2, n_neoadjuvant=1, image_rows=128, image_columns=112
    )
    fewer = simulate_cohort(spec, tmp_path / "fewer", seed=7, truth_patients=2_000)
    for name in ("images/SIM-0002-US.dcm", "images/SIM-0002-MRI-pre-T2.nii"):
        assert sha256_file(fewer / name) == sha256_file(small.root / name)
    treated = [
        root / f"images/{number}-MRI-post-ADC.nii" for root, number in ((fewer, "SIM-0003"), (small.root, "SIM-0015"))
    ]
    assert np.array_equal(read_volume(treated[0]).values, read_volume(treated[1]).values)
    described = yaml.safe_load((fewer / "cohort.yaml").read_text())
    assert described["centers"] == ["primary"] and described["external_centers"] == []


def test_a_population_is_added_and_changes_no_patient_of_the_study(small, tmp_path):
    """Its patients have everything, no reads, the split `population`; the study's files keep their bytes."""
    spec = SimulationSpec(**{**SMALL.described(), "n_population": 2})
    root = simulate_cohort(spec, tmp_path / "more", seed=7, truth_patients=TRUTH_PATIENTS)
    more, before, after = read_cohort(root), checksums(small.root), checksums(root)
    pictures = [name for name in before if name.startswith(("images/", "masks/"))]
    assert pictures and all(after[name] == before[name] for name in pictures)
    assert all(after[name] == before[name] for name in ("truth.json", "readers.csv", "cohort.yaml"))
    assert str(more.without_population()) == str(small)
    for name in ("patients", "images", "readers"):
        of_study = getattr(more.without_population(), name)
        pd.testing.assert_frame_equal(of_study[getattr(small, name).columns], getattr(small, name))
    fresh = more.patients[more.patients["split"] == "population"]
    assert len(fresh) == 4 and set(fresh["center"]) == {"primary"} and fresh["apcr"].notna().sum() == 2
    images = more.images[more.images["patient_id"].isin(fresh["patient_id"])]
    assert images.groupby("modality")["patient_id"].nunique().to_dict() == {
        "US": 2,
        "USV": 2,
        "MRI": 4,
        "CT": 2,
        "MG": 2,
    }
    oracle = read_oracle(root)
    assert set(fresh["patient_id"]) <= set(oracle["patient_id"])


def test_the_folder_keeps_the_contract(small):
    assert str(read_cohort(small.root)) == str(small)  # raises what is wrong
    assert small.clinical == {
        name: ClinicalVariable(known.label, known.kind, known.unit, known.levels) for name, known in CLINICAL.items()
    }
    assert small.is_simulated and small.external_centers == ("external",)
    assert {"latent.csv", "latent_nodes.csv", "truth.json", "simulation.json"} <= set(checksums(small.root))
    hidden = {"invasiveness", "chemosensitivity", "proliferation", "nodal_log_odds", "oracle_ultrasound"}
    assert not hidden & set(small.patients.columns)


def test_every_patient_has_the_images_that_were_asked_for(small):
    images = small.images.merge(small.patients[["patient_id", "center", "apcr"]], on="patient_id")
    by_modality = images.groupby("modality")["patient_id"].nunique()
    assert by_modality.to_dict() == {"US": 14, "USV": 8, "MRI": 17, "CT": 6, "MG": 6}
    assert (images["modality"] == "CT").sum() == 14
    assert set(images.loc[images["modality"] == "MG", "center"]) == {"primary"}
    mri = images[images["modality"] == "MRI"]
    visits = mri.groupby(["patient_id", "timepoint"])["sequence_or_view"].agg(set)
    assert (visits.map(lambda found: found == MRI_SEQUENCES)).all()
    twice = set(mri.loc[mri["timepoint"] == "post", "patient_id"])
    assert twice == set(small.patients.loc[small.patients["apcr"].notna(), "patient_id"]) and len(twice) == 3
    assert images.groupby("patient_id")["laterality"].nunique().eq(1).all()


def test_full_size_is_that_of_the_five_studies():
    """PAPERS.md: 465 + 123, 523 with 1,128 nodes, 271 + 49 videos, 270 with mammograms, 254 before and after therapy."""
    people = draw_people(SimulationSpec.full(), seed=2026)
    latent = pd.DataFrame([person.latent for person in people])
    assert latent["group"].value_counts().to_dict() == {"primary": 465, "neoadjuvant": 254, "external": 123}
    assert latent.groupby("group")["has_video"].sum().to_dict() == {"primary": 271, "external": 49, "neoadjuvant": 0}
    assert latent["has_ct"].sum() == 523 and latent["has_mammography"].sum() == 270
    nodes = [node for person in people for node in person.nodes]
    assert len(nodes) == 1128 and all(1 <= len(person.nodes) <= 4 for person in people if person.latent["has_ct"])
    malignant = sum(node["malignant"] for node in nodes)
    assert 400 < malignant < 620, "538 in Park 2024"
    for person in people:
        if person.nodes:
            assert any(node["malignant"] for node in person.nodes) == bool(person.latent["aln_metastasis"])


RECIPES = {"demo": SimulationSpec.demo(), "full": SimulationSpec.full()}
RECIPES["published"] = SimulationSpec(n_primary=465, n_external=123, n_population=1000)


def test_the_notebooks_sizes_are_those_of_the_recipes():
    """Notebook 01 and its profiles spell the sizes out, so that a reader can change them; the recipes are the truth."""
    notebook = json.loads((repository_root() / "notebooks/01_sources.ipynb").read_text())
    (cell,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    written = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse("".join(cell["source"])).body}
    profiles = {name: repository_root() / f"notebooks/profiles/{name}.yaml" for name in ("demo", "full", "published")}
    for name, path in profiles.items():
        asked = written | yaml.safe_load(path.read_text())["01_sources"]
        recipe = RECIPES[name].described()
        assert asked["image_side"] == recipe["image_rows"] == recipe["image_columns"]
        assert recipe["n_mri"] == recipe["n_primary"] + recipe["n_external"]
        for field in set(recipe) & set(asked):
            assert asked[field] == recipe[field], f"{name}: {field}"


def test_node_images_carry_their_own_labels(small, latent):
    nodes = small.images[small.images["modality"] == "CT"]
    positive = nodes.groupby("patient_id")["unit_label"].max()
    assert (positive == latent.loc[positive.index, "aln_metastasis"]).all()
    known = pd.read_csv(small.root / "latent_nodes.csv")
    assert nodes.set_index("image_id")["unit_label"].to_dict() == known.set_index("image_id")["malignant"].to_dict()


def test_without_patients_treated_first_there_is_no_such_endpoint(tmp_path):
    spec = SimulationSpec(n_primary=2, n_external=0, image_rows=96, image_columns=96, **BARE)
    alone = simulate_cohort(spec, tmp_path / "alone", seed=3, truth_patients=2_000)
    assert list(yaml.safe_load((alone / "cohort.yaml").read_text())["endpoints"]) == ["aln_metastasis"]
    patients = pd.read_csv(alone / "patients.csv")
    assert "apcr" not in patients
    if set(patients["aln_metastasis"]) == {0, 1}:
        read_cohort(alone)  # raises what is wrong


def test_endpoints_are_known_where_surgery_or_therapy_tells_them(small):
    known = small.patients[["aln_metastasis", "apcr"]].notna()
    assert (known.sum(axis=1) == 1).all() and known["apcr"].sum() == 3


def test_every_dicom_opens_in_pydicom_and_simpleitk_with_the_right_spacing(small):
    kinds = {
        "US": "1.2.840.10008.5.1.4.1.1.6.1",
        "USV": "1.2.840.10008.5.1.4.1.1.3.1",
        "CT": "1.2.840.10008.5.1.4.1.1.2",
    }
    kinds["MG"] = "1.2.840.10008.5.1.4.1.1.1.2"
    for row in dicom_rows(small):
        path = small.root / row.path
        dataset = pydicom.dcmread(path)
        assert dataset.SOPClassUID == kinds[row.modality]
        stored = dataset.pixel_array
        volume = SimpleITK.ReadImage(str(path))
        seen = SimpleITK.GetArrayFromImage(volume).squeeze()
        np.testing.assert_array_equal(seen, stored - 1024.0 if row.modality == "CT" else stored)
        if row.modality == "USV":
            clip = read_clip(path)
            assert clip.frames.shape == stored.shape and 0 <= clip.key_frame < len(stored)
            spacing = clip.spacing_mm
        else:
            spacing = read_image(path).spacing_mm
        assert max(spacing) < 1.0 and spacing[0] == pytest.approx(spacing[1])
        if row.modality in ("US", "CT"):
            assert volume.GetSpacing()[:2] == pytest.approx(spacing, abs=1e-6)
        if row.modality == "US":
            scanner = SCANNERS[small.patients.set_index("patient_id").loc[row.patient_id, "center"]]
            depths = [128 * spacing[0] - depth for depth in (scanner.depth_mm, scanner.deep_depth_mm)]
            assert min(map(abs, depths)) < 1e-6


def test_every_volume_opens_in_nibabel_and_simpleitk_where_it_lies(small):
    """Positions of the corner voxels agree between the two programs and our reader within 0.01 mm (LPS)."""
    volumes = small.images[small.images["modality"] == "MRI"]
    for path in {*volumes["path"], *volumes["mask_path"]}:
        ours = read_volume(small.root / path)
        theirs, itk = nibabel.load(small.root / path), SimpleITK.ReadImage(str(small.root / path))
        assert theirs.shape == ours.values.shape[::-1] == itk.GetSize()
        np.testing.assert_array_equal(np.asarray(theirs.dataobj).T, ours.values)
        for corner in np.ndindex(2, 2, 2):
            index = np.array(corner) * (np.array(ours.values.shape) - 1)
            place = ours.geometry.position_mm(index)
            ras = theirs.affine @ [*index[::-1], 1.0]
            np.testing.assert_allclose(place, ras[:3] * [-1, -1, 1], atol=0.01)
            np.testing.assert_allclose(
                place, itk.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]), atol=0.01
            )


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_a_dicom_validator_finds_no_error(small):
    for row in dicom_rows(small):
        said = subprocess.run(["dciodvfy", small.root / row.path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, f"{row.path}\n{said.stderr}"


def test_nothing_in_a_file_looks_like_a_real_identity(small, monkeypatch):
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    instances, studies = set(), {}
    for row in dicom_rows(small):
        dataset = pydicom.dcmread(small.root / row.path)
        assert len(list(dataset.iterall())) > 50  # every element is decoded, so every value is checked
        assert str(dataset.PatientName) == f"Simulated^{row.patient_id[4:]}"
        assert dataset.PatientID == row.patient_id and dataset.PatientID.startswith("SIM-")
        assert dataset.PatientBirthDate == "" and dataset.ReferringPhysicianName == ""
        assert dataset.StudyDate == "20000101" and "InstitutionName" not in dataset and "StationName" not in dataset
        for uid in (dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID):
            assert uid.is_valid and uid.startswith("2.25.")
        assert dataset.BurnedInAnnotation == "NO"
        instances.add(str(dataset.SOPInstanceUID))
        studies.setdefault(str(dataset.StudyInstanceUID), set()).add(row.patient_id)
        assert dataset.file_meta.ImplementationVersionName == "ALN_SIMULATED_1"
    assert len(instances) == len(list(dicom_rows(small)))
    assert all(len(patients) == 1 for patients in studies.values())
    header = nibabel.load(small.root / small.images.query("modality == 'MRI'")["path"].iloc[0]).header
    assert all(bytes(header[name]).strip(b"\0") == b"" for name in ("db_name", "aux_file", "intent_name"))


def test_masks_and_boxes_belong_to_the_lesions(small, latent):
    diameters, shown = [], []
    for row in small.images[small.images["modality"] != "MRI"].itertuples():
        shape = (
            read_clip(small.root / row.path).frames.shape[1:]
            if row.modality == "USV"
            else read_image(small.root / row.path).pixels.shape
        )
        mask = read_mask(small.root / row.mask_path, shape)
        row0, col0, row1, col1 = parse_box(row.box)
        assert mask[row0:row1, col0:col1].sum() == mask.sum() > 0
        assert mask[row0].any() and mask[row1 - 1].any() and mask[:, col0].any() and mask[:, col1 - 1].any()
        if row.modality == "US":
            spacing = read_image(small.root / row.path).spacing_mm
            diameters.append(2.0 * np.sqrt(mask.sum() / np.pi) * spacing[0])
            scores = latent.loc[row.patient_id, ULTRASOUND.columns()].to_numpy(float)
            shown.append(appearance_from_traits(scores).diameter_mm)
    assert np.corrcoef(np.log(diameters), np.log(shown))[0, 1] > 0.8


def test_volume_masks_and_boxes_belong_to_the_lesions(small):
    for row in small.images[small.images["modality"] == "MRI"].itertuples():
        image = read_volume(small.root / row.path)
        mask = read_volume_mask(small.root / row.mask_path, image)
        if isinstance(row.box, str) and row.box:
            z0, row0, col0, z1, row1, col1 = parse_box(row.box)
            assert mask[z0:z1, row0:row1, col0:col1].sum() == mask.sum() > 0
        else:
            assert row.timepoint == "post" and not mask.any(), "only a complete response leaves no lesion"


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


def test_a_center_mark_is_off_by_default_and_follows_the_label_when_asked(tmp_path, small, latent):
    sizes = {**BARE, "n_ct": 4, "n_ct_nodes": 9, "n_video_primary": 3, "n_mammography": 3}
    spec = SimulationSpec(n_primary=10, n_external=0, image_rows=96, image_columns=96, center_mark=1.0, **sizes)
    marked = read_cohort(simulate_cohort(spec, tmp_path / "marked", seed=3, truth_patients=2_000))
    status = marked.patients.set_index("patient_id")["aln_metastasis"]
    for row in dicom_rows(marked):
        dataset = pydicom.dcmread(marked.root / row.path)
        cross = np.atleast_3d(dataset.pixel_array.T).T[:, 10, 6:15]
        assert bool((cross >= cross.max()).all() and cross.max() > 200) == bool(status[row.patient_id]), row.path
        assert dataset.BurnedInAnnotation == ("YES" if status[row.patient_id] else "NO")
    assert set(status) == {0, 1}
    assert not latent["center_marked"].any()


def test_the_recipe_says_what_was_asked(small):
    recipe = json.loads((small.root / "simulation.json").read_text())
    assert recipe["seed"] == 7 and recipe["specification"] == SMALL.described()
    assert recipe["nodal_odds_ratios"]["log2_size"] == 2.1 < recipe["nodal_odds_ratios_given_hidden"]["log2_size"]


def test_a_folder_with_other_files_is_left_alone_and_an_earlier_simulation_replaced(tmp_path):
    spec = SimulationSpec(n_primary=1, n_external=0, image_rows=96, image_columns=96, **BARE)
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

    monkeypatch.setattr("alnsim.build._write_tables", fail)
    spec = SimulationSpec(n_primary=1, n_external=0, image_rows=96, image_columns=96, **BARE)
    with pytest.raises(OSError, match="disk full"):
        simulate_cohort(spec, tmp_path / "cohort", seed=1, truth_patients=1_000)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"n_primary": 0}, "at least 1"),
        ({"image_rows": 64}, "at least 96"),
        ({"signal_ultrasound": 1.5}, "from 0 to 1"),
        ({"signal_response": -0.5}, "from 0 to 1"),
        ({"center_mark": -0.1}, "from 0 to 1"),
        ({"n_ct": 500}, "from 0 to n_operated = 370"),
        ({"n_ct": 10, "n_ct_nodes": 41}, "one to four"),
        ({"n_ct": 50, "n_ct_nodes": 200}, "108 as a rule"),
        ({"n_primary": 2.5}, "whole number"),
        ({"n_primary": 100, "n_video_primary": 150}, "lowers its subgroups"),
        ({"n_neoadjuvant": -1}, "from 0 up"),
        ({"detail": "fine"}, "demo, full"),
    ],
)
def test_an_impossible_recipe_says_what_to_give(change, remedy):
    with pytest.raises(InputError, match=remedy):
        SimulationSpec(**change)

"""Plates of a cohort: who is drawn, in which order, at which slice or frame, and that a reader sees no preference.

Truth: a small simulated cohort, whose files are read a second time here, and small panels whose answer can be read off.
"""

from __future__ import annotations

from dataclasses import replace

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from alnlib.errors import InputError
from alnlib.imaging.clips import read_clip
from alnlib.imaging.montage import Panel, plot_panel
from alnlib.imaging.plates import MODALITIES, SEQUENCE_ORDER, SOFT_TISSUE_HU, draw_rows, plate_rows, visit_rows
from alnlib.imaging.read import read_image, read_mask
from alnlib.imaging.volumes import read_volume, read_volume_mask


@pytest.fixture(scope="module")
def cohort(small_cohort):
    return small_cohort


@pytest.fixture(scope="module")
def outcome(cohort) -> dict[str, int]:
    return cohort.known().set_index("patient_id")["aln_metastasis"].to_dict()


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def drawn(cohort, modality: str, columns: int = 4, seed: int = 0) -> list[list[Panel]]:
    return plate_rows(cohort, modality, columns, np.random.default_rng(seed))


def patient_of(panel: Panel) -> str:
    return panel.title.split(",")[0]


def image_row(cohort, patient_id: str, modality: str, **more: str) -> pd.Series:
    """The only image of a patient that answers to the description."""
    images = cohort.images.query("patient_id == @patient_id and modality == @modality")
    for column, value in more.items():
        images = images[images[column] == value]
    assert len(images) == 1
    return images.iloc[0]


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_row_with_the_outcome_comes_first_and_titles_tell_the_truth(modality, cohort, outcome):
    labels = cohort.images.query("modality == 'CT'").groupby("patient_id")["unit_label"].agg(set)
    for seed in range(4):
        rows = drawn(cohort, modality, seed=seed)
        signs = [row[0].title.split(",")[1].lstrip()[0] for row in rows]
        assert signs == sorted(signs) and set(signs) == {"+", "-"}
        assert len(rows) <= (4 if modality in ("USV", "MRI") else 2)
        for row in rows:
            for panel in row:
                if not panel.title.startswith("SIM-"):  # a later frame or sequence of the patient named before
                    continue
                said = int(panel.title.split(", ")[1].startswith("+"))
                patient = patient_of(panel)
                assert said in labels[patient] if modality == "CT" else said == outcome[patient]


def test_stills_are_one_per_patient_whole_and_outlined(cohort):
    rows = drawn(cohort, "US", columns=3)
    assert [len(row) for row in rows] == [3, 3]
    shown = [patient_of(panel) for row in rows for panel in row]
    assert len(set(shown)) == 6
    for panel in (panel for row in rows for panel in row):
        row = image_row(cohort, patient_of(panel), "US")
        image = read_image(cohort.root / row["path"])
        np.testing.assert_array_equal(panel.pixels, image.pixels)
        np.testing.assert_array_equal(panel.mask, read_mask(cohort.root / row["mask_path"], image.pixels.shape))
        assert panel.spacing_mm == image.spacing_mm


def test_fewer_patients_than_columns_give_shorter_rows_and_nobody_twice(cohort, outcome):
    """Nobody is left out either: rows that are wide enough hold every patient with an ultrasound still."""
    rows = drawn(cohort, "US", columns=20)
    assert [{patient_of(panel) for panel in row} for row in rows] == [
        {patient for patient, label in outcome.items() if label == value} for value in (1, 0)
    ]
    assert [len(row) for row in rows] == [sum(outcome.values()), len(outcome) - sum(outcome.values())]


def test_who_is_shown_depends_on_the_generator_alone(cohort):
    titles = [[panel.title for row in drawn(cohort, "US", 2, seed) for panel in row] for seed in (0, 0, 1, 2, 3)]
    assert titles[0] == titles[1]
    assert len({tuple(title) for title in titles}) > 2


def test_the_draw_prefers_nobody(cohort, outcome):
    """Each of n patients with the outcome is drawn first with probability 1 / n; 200 draws, limits of 4 sd."""
    positive = [patient for patient, label in outcome.items() if label == 1]
    seen = pd.Series(0, index=positive)
    rng = np.random.default_rng(5)
    for _ in range(200):
        seen[patient_of(plate_rows(cohort, "US", 1, rng)[0][0])] += 1
    share = 1 / len(positive)
    assert (abs(seen - 200 * share) < 4 * np.sqrt(200 * share * (1 - share))).all()


def test_a_sweep_is_shown_from_first_to_last_frame_with_the_key_frame_marked_and_outlined(cohort):
    rows = drawn(cohort, "USV", columns=6)
    assert len(rows) >= 2 and {len(row) for row in rows} == {6}
    for row in rows:
        table = image_row(cohort, patient_of(row[0]), "USV")
        clip = read_clip(cohort.root / table["path"])
        numbers = [int(panel.title.split("frame ")[1].split()[0]) for panel in row]
        assert numbers == sorted(set(numbers))
        assert (numbers[0], numbers[-1]) == (1, len(clip.frames))
        keys = [place for place, panel in enumerate(row) if "(key)" in panel.title]
        assert keys == [3] and numbers[3] == clip.key_frame + 1
        for number, panel in zip(numbers, row, strict=True):
            np.testing.assert_array_equal(panel.pixels, clip.frames[number - 1])
            assert panel.limits == (0.0, 255.0), "the same gray for every frame"
            assert (panel.mask is None) == (number - 1 != clip.key_frame)
        mask = read_mask(cohort.root / table["mask_path"], clip.frames[0].shape)
        np.testing.assert_array_equal(row[3].mask, mask)


def test_mri_is_every_sequence_in_order_at_the_slice_where_the_lesion_is_largest(cohort):
    rows = drawn(cohort, "MRI", columns=9)
    assert len(rows) == 4
    for row in rows:
        patient = patient_of(row[0])
        assert row[0].title.endswith("pre: T2")
        assert ["T2", *(panel.title for panel in row[1:])] == list(SEQUENCE_ORDER)
        first = image_row(cohort, patient, "MRI", sequence_or_view="T2")
        mask = read_volume_mask(cohort.root / first["mask_path"], read_volume(cohort.root / first["path"]))
        areas = mask.sum(axis=(1, 2))
        for name, panel in zip(SEQUENCE_ORDER, row, strict=True):
            assert panel.mask.sum() == areas.max() > 0
            table = image_row(cohort, patient, "MRI", sequence_or_view=name)
            volume = read_volume(cohort.root / table["path"])
            np.testing.assert_array_equal(panel.pixels, volume.values[areas.argmax()])
            assert panel.spacing_mm == volume.geometry.spacing_mm[1:]


def test_contrast_phases_share_one_gray_scale_so_that_enhancement_is_seen(cohort):
    for row in drawn(cohort, "MRI"):
        limits = {panel.limits for panel in row[3:]}
        assert len(limits) == 1, [panel.title for panel in row[3:]]
        early = row[4]
        assert early.pixels[early.mask].mean() > 1.2 * row[3].pixels[early.mask].mean()


def test_ct_is_drawn_by_the_label_of_the_node_not_of_the_patient(cohort):
    """One benign node in an otherwise unchanged table of a positive patient: it stands in the lower row."""
    nodes = cohort.images[cohort.images["modality"] == "CT"]
    patient = nodes.loc[nodes["unit_label"] == 1, "patient_id"].iloc[0]
    own = nodes[nodes["patient_id"] == patient]
    assert len(own) > 1 and (own["unit_label"] == 1).all()
    images = nodes.copy()
    images.loc[own.index[1], "unit_label"] = 0
    upper, lower = drawn(replace(cohort, images=images), "CT", columns=9)
    assert patient in {patient_of(panel) for panel in upper} & {patient_of(panel) for panel in lower}
    panel = next(panel for panel in lower if patient_of(panel) == patient)
    np.testing.assert_array_equal(panel.pixels, read_image(cohort.root / own.iloc[1]["path"]).pixels)
    assert all(panel.limits == SOFT_TISSUE_HU for panel in (*upper, *lower))


def test_ct_without_node_labels_falls_back_on_the_patient(cohort):
    unlabeled = replace(cohort, images=cohort.images.assign(unit_label=pd.NA).astype({"unit_label": "Int64"}))
    for ours, theirs in zip(drawn(unlabeled, "CT"), drawn(cohort, "CT"), strict=True):
        assert [panel.title for panel in ours] == [panel.title for panel in theirs]


def test_both_views_of_a_mammogram_stand_side_by_side(cohort):
    for row in drawn(cohort, "MG", columns=6):
        assert len(row) % 2 == 0
        for first, second in zip(row[::2], row[1::2], strict=True):
            assert patient_of(first) == patient_of(second)
            assert [panel.title.split()[-1] for panel in (first, second)] == ["CC", "MLO"]
            table = image_row(cohort, patient_of(first), "MG", sequence_or_view="MLO")
            np.testing.assert_array_equal(second.pixels, read_image(cohort.root / table["path"]).pixels)
    assert [len(row) for row in drawn(cohort, "MG", columns=2)] == [2, 2]
    orders = {tuple(panel.title for panel in drawn(cohort, "MG", columns=6, seed=seed)[0]) for seed in range(6)}
    assert len(orders) > 1, "patients stand in the order of the draw"


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_cohort_without_the_modality_gives_no_rows(modality, cohort):
    assert drawn(replace(cohort, images=cohort.images.query("modality != @modality")), modality) == []
    assert drawn(replace(cohort, images=cohort.images.head(0)), modality) == []


def test_patients_whose_outcome_is_unknown_are_not_shown(cohort):
    treated = set(cohort.patients.loc[cohort.patients["aln_metastasis"].isna(), "patient_id"])
    assert len(treated) == 3
    only = replace(cohort, images=cohort.images[cohort.images["patient_id"].isin(treated)])
    assert drawn(only, "MRI") == []


def test_one_outcome_alone_gives_rows_of_its_own(cohort, outcome):
    positive = {patient for patient, label in outcome.items() if label == 1}
    only = replace(cohort, images=cohort.images[cohort.images["patient_id"].isin(positive)])
    for modality in MODALITIES:
        rows = drawn(only, modality)
        assert 1 <= len(rows) <= (2 if modality in ("USV", "MRI") else 1), modality
        assert all(patient_of(row[0]) in positive for row in rows)


def test_an_unknown_modality_and_a_missing_file_are_named(cohort):
    with pytest.raises(InputError, match="no modality 'PET'; known are US, USV, MRI, CT, MG"):
        drawn(cohort, "PET")
    lost = replace(cohort, images=cohort.images.assign(path=cohort.images["path"].str.replace("SIM-", "LOST-")))
    for modality in MODALITIES:
        with pytest.raises(InputError, match="LOST-"):
            drawn(lost, modality)


@pytest.mark.parametrize("modality", MODALITIES)
def test_images_without_a_mask_are_shown_without_an_outline(modality, cohort):
    """The contract asks for no mask; MRI then shows the middle slice."""
    bare = replace(cohort, images=cohort.images.assign(mask_path=np.nan).astype({"mask_path": "str"}))
    rows = drawn(bare, modality)
    assert len(rows) == len(drawn(cohort, modality))
    assert all(panel.mask is None for row in rows for panel in row)
    if modality == "MRI":
        table = image_row(cohort, patient_of(rows[0][0]), "MRI", sequence_or_view="T2")
        values = read_volume(cohort.root / table["path"]).values
        np.testing.assert_array_equal(rows[0][0].pixels, values[len(values) // 2])


def test_visits_are_pairs_of_one_patient_on_one_slice(cohort):
    rows = visit_rows(cohort, "apcr", np.random.default_rng(0))
    assert len(rows) == 4
    response = cohort.known("apcr").set_index("patient_id")["apcr"]
    for (before, after), label in zip((rows[:2], rows[2:]), (1, 0), strict=True):
        patient = patient_of(before[0])
        assert patient_of(after[0]) == patient and response[patient] == label
        sign = "+" if label else "-"
        assert [row[0].title for row in (before, after)] == [f"{patient}, {sign}, {t}: T2" for t in ("pre", "post")]
        first = image_row(cohort, patient, "MRI", sequence_or_view="T2", timepoint="pre")
        mask = read_volume_mask(cohort.root / first["mask_path"], read_volume(cohort.root / first["path"]))
        level = int(mask.sum(axis=(1, 2)).argmax())
        for row, timepoint in ((before, "pre"), (after, "post")):
            for name, panel in zip(SEQUENCE_ORDER, row, strict=True):
                table = image_row(cohort, patient, "MRI", sequence_or_view=name, timepoint=timepoint)
                volume = read_volume(cohort.root / table["path"])
                np.testing.assert_array_equal(panel.pixels, volume.values[level])
                shown = read_volume_mask(cohort.root / table["mask_path"], volume)[level]
                np.testing.assert_array_equal(panel.mask, shown)


def test_one_visit_makes_no_pair(cohort):
    assert visit_rows(cohort, "aln_metastasis", np.random.default_rng(0)) == []
    once = replace(cohort, images=cohort.images[cohort.images["timepoint"] != "post"])
    assert visit_rows(once, "apcr", np.random.default_rng(0)) == []
    with pytest.raises(ValueError, match="unknown endpoint 'survival'"):
        visit_rows(cohort, "survival", np.random.default_rng(0))


def test_plate_size_follows_the_true_aspect_of_the_tallest_panel():
    square = Panel(np.zeros((40, 40)), "a")
    flat = Panel(np.zeros((40, 40)), "b", spacing_mm=(0.5, 1.0))
    towering = Panel(np.zeros((400, 40)), "c")
    sizes = {
        (6.3, 2.1 * 0.5 + 0.5): [[flat, flat, flat]],
        (4.2, 2.1 + 0.5): [[square, flat]],
        (6.3, 2.1 * 1.5 + 0.7): [[flat, flat, flat], [square]],
        (2.1, 2.1 * 1.6 + 0.5): [[towering]],  # no taller than 1.6 times its width
    }
    for size, rows in sizes.items():
        fig = draw_rows(rows)
        assert tuple(fig.get_size_inches()) == pytest.approx(size)
        plt.close(fig)


@pytest.mark.parametrize(("shape", "spacing"), [((60, 80), (0.5, 0.5)), ((448, 352), (0.5, 0.5)), ((80, 60), (1, 0.4))])
def test_the_scale_bar_is_ten_millimeters_long_and_lies_inside_the_panel(shape, spacing, ax):
    plot_panel(ax, Panel(np.zeros(shape), "x", spacing_mm=spacing))
    ax.figure.canvas.draw()
    rows, columns = shape
    assert ax.get_xlim() == (-0.5, columns - 0.5) and ax.get_ylim() == (rows - 0.5, -0.5)
    (start, end), (top, bottom) = ax.lines[0].get_data()
    assert (end - start) * spacing[1] == pytest.approx(10.0)
    assert -0.5 <= start < end <= columns - 0.5 and 0 <= top == bottom <= rows - 0.5
    label = ax.texts[0].get_window_extent().transformed(ax.transData.inverted())
    assert ax.texts[0].get_text() == "10 mm"
    assert min(label.y0, label.y1) >= 0 and max(label.y0, label.y1) <= bottom, "above the bar"
    assert label.x1 <= columns - 0.5


def test_a_scale_bar_never_widens_a_panel_that_is_smaller_than_it(ax):
    """A crop 6.4 mm wide and a bar of 10 mm."""
    plot_panel(ax, Panel(np.zeros((16, 16)), "x", spacing_mm=(0.4, 0.4)))
    ax.figure.canvas.draw()
    assert ax.get_xlim() == (-0.5, 15.5)


def test_a_panel_without_spacing_has_no_bar(ax):
    plot_panel(ax, Panel(np.arange(12.0).reshape(3, 4), "x"))
    assert not ax.lines and not ax.texts
    assert ax.images[0].get_clim() == (0.0, 11.0)


def test_rows_of_unequal_length_stay_rows():
    """Four patients with the outcome and two without: the lower row ends early, and nothing moves up into it."""
    few, many = ([Panel(np.full((4, 4), k), f"{name}{k}") for k in range(n)] for name, n in (("-", 2), ("+", 4)))
    fig = draw_rows([few, many])
    assert [ax.get_title() for ax in fig.axes] == ["-0", "-1", "", "", "+0", "+1", "+2", "+3"]
    assert [ax.axison for ax in fig.axes] == [True, True, False, False, True, True, True, True]
    plt.close(fig)

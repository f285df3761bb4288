"""The inclusion flow. Truth: counts by hand; the diagram is checked for what it says, not for how it looks."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from alnlib.cohorts.flow import InclusionFlow, plot_flow


@pytest.fixture
def source() -> pd.DataFrame:
    labels = pd.array([1, 1, 0, 0, 0, None, None, 1], dtype="Int64")
    return pd.DataFrame({"patient_id": list("abcdefgh"), "y": labels, "mri": [1, 1, 1, 0, 1, 1, 1, 1]})


@pytest.fixture
def flow(source) -> InclusionFlow:
    known = source[source["y"].notna()]
    flow = InclusionFlow(endpoint="y", start="patients with cancer")
    flow.record("N stage known", before=source, after=known, reason="N stage not recorded")
    flow.record("MRI available", before=known, after=known.query("mri == 1"))
    return flow


def test_counts_reasons_and_classes_at_each_step(flow):
    table = flow.to_frame()
    assert table["description"].tolist() == ["patients with cancer", "N stage known", "MRI available"]
    assert table["excluded"].tolist() == [0, 2, 1]
    assert table["remaining"].tolist() == [8, 6, 5]
    assert table["remaining_positive"].tolist() == [3, 3, 3]
    assert table["remaining_negative"].tolist() == [3, 3, 2]
    assert table["remaining_unknown"].tolist() == [2, 0, 0]
    assert table["reason"].tolist() == ["", "N stage not recorded", "not: MRI available"]


def test_without_an_endpoint_only_patients_are_counted(source):
    images = pd.concat([source, source.head(3)])
    table = InclusionFlow().record("all", before=images, after=images).to_frame()
    assert table["remaining"].tolist() == [8, 8]
    assert table["remaining_positive"].isna().all()


def test_a_step_may_not_add_patients_or_start_elsewhere_than_the_last_one_ended(flow, source):
    with pytest.raises(ValueError, match="adds 3 patients"):
        InclusionFlow().record("more", before=source.head(5), after=source)
    with pytest.raises(ValueError, match="starts with 8 patients; the last step left 5"):
        flow.record("again", before=source, after=source)


def test_an_empty_flow_is_an_empty_table():
    table = InclusionFlow().to_frame()
    assert len(table) == 0
    assert "remaining_unknown" in table


def test_the_diagram_says_every_count_once_and_keeps_its_boxes_inside_the_axes(flow, source):
    included = (
        source.query("mri == 1 and y == y").dropna().assign(split=["train", "test", "train", "validation", "external"])
    )
    figure, ax = plt.subplots(figsize=(8, 6))
    assert plot_flow(flow, ax, splits=included, positive="N+", negative="N0") is ax
    figure.canvas.draw()
    texts = [text.get_text() for text in ax.texts if text.get_text()]
    assert texts[0] == "Patients with cancer\nn = 8\n3 N+, 3 N0, 2 unknown"
    assert "Excluded: n = 2\nN stage not recorded" in texts
    assert [text.split("\n")[0] for text in texts[-4:]] == ["Training", "Validation", "Internal test", "External test"]
    assert sum(int(text.split("n = ")[1].split("\n")[0]) for text in texts[-4:]) == 5
    frame = ax.get_window_extent()
    for patch in ax.patches:
        extent = patch.get_window_extent()
        assert frame.x0 - 1 <= extent.x0 and extent.x1 <= frame.x1 + 1
        assert frame.y0 - 1 <= extent.y0 and extent.y1 <= frame.y1 + 1
    for text in ax.texts:
        if text.get_text():
            extent = text.get_window_extent()
            holders = [p.get_window_extent() for p in ax.patches if p.get_window_extent().contains(*_center(extent))]
            assert any(box.x0 <= extent.x0 and extent.x1 <= box.x1 for box in holders), text.get_text()
    plt.close(figure)


def _center(extent) -> tuple[float, float]:
    return (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2

"""The specification of a crop: what is written is read back, and what cannot be cropped is said before any file is opened."""

from __future__ import annotations

import json

import pytest

from alnlib.errors import InputError
from alnlib.imaging.spec import KEY, SOFT_TISSUE_HU, CropSpec

SPECS = {
    "US": CropSpec("US", 48, "fixed_size", 38.0),
    "MG": CropSpec("MG", 48, percentiles=(1.0, 99.99)),
    "USV": CropSpec("USV", 48, frames=24),
    "key frame": CropSpec("USV", 48, frames=KEY),
    "CT": CropSpec("CT", 48, margin_fraction=0.15, picture_rescale=(16.0, -1024.0)),
    "slices": CropSpec("MRI", 48, channels=("pre/DCE_early-DCE_pre",)),
    "box": CropSpec("MRI", 32, "fixed_size", 50.0, channels=("pre/ADC", "post/ADC"), depth=16, depth_mm=40.0),
}
SHAPES = [(48, 48), (48, 48), (24, 48, 48), (48, 48), (48, 48), (3, 48, 48), (2, 16, 32, 32)]


@pytest.mark.parametrize(("name", "shape"), list(zip(SPECS, SHAPES, strict=True)))
def test_what_is_written_is_read_back(name, shape, tmp_path):
    spec = SPECS[name]
    (tmp_path / "crops.json").write_text(json.dumps({"one": spec.to_json()}))
    assert CropSpec.read(tmp_path / "crops.json", "one") == spec
    assert spec.shape == shape
    (tmp_path / "crop.json").write_text(json.dumps(spec.to_json()))
    assert CropSpec.read(tmp_path / "crop.json") == spec


def test_each_modality_has_its_gray_scale():
    assert SPECS["US"].percentiles == (1.0, 99.0) and SPECS["slices"].percentiles == (1.0, 99.99)
    assert SPECS["CT"].value_range == SOFT_TISSUE_HU and SPECS["CT"].percentiles is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modality": "PET"}, "choose one of US, MG, USV, CT, MRI"),
        ({"kind": "round"}, "choose one of fixed_size, adjustable_square"),
        ({"kind": "fixed_size"}, "size_mm"),
        ({"size_mm": 0.0}, "positive number of mm"),
        ({"margin_fraction": -0.1}, "cannot be negative"),
        ({"modality": "MRI"}, "no channel"),
        ({"modality": "MRI", "channels": ["T2"]}, "'T2' cannot be read"),
        ({"modality": "MRI", "channels": ["/T2", "/ADC"]}, "three slices are cut from one channel"),
        ({"modality": "MRI", "channels": ["/T2"], "depth": 4, "kind": "fixed_size"}, "size_mm"),
        ({"modality": "MRI", "channels": ["/T2"], "depth_mm": 4.0}, "depth_mm is given without depth"),
    ],
)
def test_what_cannot_be_cropped_is_said(settings, message):
    with pytest.raises(InputError, match=message):
        CropSpec(**({"modality": "US", "side_px": 8} | settings))


@pytest.mark.parametrize("content", [{"kind": "fixed_size"}, {"modality": "CT", "side_px": 8, "level": 40.0}])
def test_a_file_of_other_settings_is_named(content, tmp_path):
    (tmp_path / "crop.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="crop.json: .*run the stage that makes it again"):
        CropSpec.read(tmp_path / "crop.json")
    with pytest.raises(InputError, match="crop.json: 'FSC'"):
        CropSpec.read(tmp_path / "crop.json", "FSC")

"""Handcrafted features by pyradiomics: of one image and mask, of every image of a cohort, and their change over therapy.

Settings are parameter files of pyradiomics in settings/. Reading is in `alnlib.imaging`, redrawn contours in `stability`.

An image is normalized as a whole, and then cut to the ROI and as much around it as a filter looks at. Features agree with
those of the whole image, as tests show: original and wavelet bands to rounding, LoG to 1e-6 relative.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pywt
import SimpleITK
import yaml
from joblib import Parallel, delayed
from radiomics import imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from alnlib.cohorts.schema import parse_pixel_spacing
from alnlib.errors import InputError
from alnlib.files import atomic_path
from alnlib.imaging import read, volumes
from alnlib.imaging.volumes import Volume, VolumeGeometry, read_volume
from alnlib.memo import MEMORY, FileDigests, code_of, key_of, sealed_length, versions, write_sealed

SETTINGS = Path(__file__).parent / "settings"
SETTINGS_OF = {"MRI": "mri", "MRI/ADC": "mri_adc", "MG": "mammography", "CT": "ct", "US": "ultrasound"}
"""Settings file by modality, or by modality/sequence where a sequence has one of its own."""

NOT_TAKEN = {
    "label": "name the label in the Roi",
    "additionalInfo": "leave it out: only features are kept",
    "label_channel": "give every ROI a mask file of its own",
    "padDistance": "leave it out: as much as each filter needs is kept around the ROI",
    "preCrop": "leave it out: every image is cut to its ROI",
    "voxelBased": "leave it out: features are of whole ROIs",
    "correctMask": "leave it out: masks are checked against their image before",
    "geometryTolerance": "leave it out: masks are checked against their image before",
}
LOG_REACH = 14.0
"""In sigma. ITK's recursive Gaussian decays as exp(-1.72 distance / sigma), slower than a true one: what lies 12 sigma away
changes a filtered voxel by 1e-7 of the spread of the filtered image, 14 sigma by less than float32 can hold."""

SPLINE_REACH = 16
"""In voxels: a cubic B-spline's coefficients forget at 0.268 per voxel (Unser 1999, IEEE Signal Process Mag 16:22), 7e-10."""

FLAT_MM = 1.0
"""Thickness given to a single plane."""

FORMAT = 2
LIBRARIES = ("pyradiomics", "numpy", "scipy", "simpleitk", "pywavelets", "nibabel", "pydicom", "python-gdcm", "pillow")
"""What makes gray values and features: another version may give others."""

FAILURE_COLUMNS = ("patient_id", "image_id", "modality", "timepoint", "sequence", "roi", "reason", "remedy")
ROI_COLUMNS = ("patient_id", "image_id", "roi", "n_voxels", "source")
NO_TIMEPOINT = "pre"
"""Named in a column where the table says no timepoint: all such images are taken before any treatment."""

_COLUMN = re.compile(r"(?P<modality>[^_]+)_(?P<timepoint>[^_]+)_(?P<sequence>.+?)__(?P<feature>.+)")


@dataclass(frozen=True)
class Settings:
    """A parameter file of pyradiomics. image_types: {name: own options}; feature_classes: {name: features, None for all}."""

    name: str
    setting: Mapping[str, Any]
    image_types: Mapping[str, Mapping[str, Any]]
    feature_classes: Mapping[str, Sequence[str] | None]

    def only(self, *image_types: str) -> Settings:
        """With these image types alone ("Original", "LoG", "Wavelet"). Raises ValueError for one it does not have."""
        missing = set(image_types) - set(self.image_types)
        if missing or not image_types:
            raise ValueError(f"{self.name} has the image types {', '.join(self.image_types)}, not {sorted(missing)}")
        return replace(self, image_types={name: self.image_types[name] for name in image_types})

    def parameters(self) -> dict[str, Any]:
        """As pyradiomics takes them."""
        return {
            "setting": dict(self.setting),
            "imageType": {name: dict(options) for name, options in self.image_types.items()},
            "featureClass": dict(self.feature_classes),
        }


@dataclass(frozen=True)
class Roi:
    """What is measured. label: value in the mask file, None for any non-zero voxel (1 and 255 alike).

    rim_mm: instead of the ROI itself the shell around it, up to this distance in mm. mask_column: of the images table.
    """

    name: str = "lesion"
    label: int | None = None
    rim_mm: float | None = None
    mask_column: str = "mask_path"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9.-]+", self.name):
            raise ValueError(f"ROI name {self.name!r}: use letters, digits, points and hyphens")
        if self.rim_mm is not None and not self.rim_mm > 0:
            raise ValueError(f"rim_mm is {self.rim_mm}; expected a positive distance in mm")


LESION = Roi()
RIM = Roi("rim-3mm", rim_mm=3.0)


@dataclass(frozen=True)
class Extraction:
    """Features of a cohort.

    features: one row per unit in the order of the images table, its id first; NaN where an extraction failed. failures:
    `FAILURE_COLUMNS`, one row per ROI without features. rois: `ROI_COLUMNS`, one per ROI with features; n_voxels before
    resampling, source "drawn" or "pre-therapy bed". n_cached: images not computed but found.
    """

    features: pd.DataFrame
    failures: pd.DataFrame
    rois: pd.DataFrame
    n_cached: int = 0

    def __str__(self) -> str:
        measured = sum("__" in column for column in self.features.columns)
        return (
            f"{len(self.features)} rows of {measured} features from {len(self.rois)} ROIs, {len(self.failures)} failed"
        )


def read_settings(name_or_path: str | Path) -> Settings:
    """Settings by the name of a file in `SETTINGS` ("mri") or by path.

    The file is one that pyradiomics reads. Raises InputError naming it for one that it refuses, or for options that this
    module decides itself (`NOT_TAKEN`).
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = SETTINGS / f"{name_or_path}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in SETTINGS.glob("*.yaml")))
        raise InputError(f"{path}: no such settings; name a file, or one of {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not YAML ({error}); correct it") from error
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path}: holds no settings; give setting, imageType and featureClass")
    settings = Settings(
        path.stem,
        content.get("setting") or {},
        {name: options or {} for name, options in (content.get("imageType") or {"Original": {}}).items()},
        content.get("featureClass") or {},
    )
    for option in NOT_TAKEN:
        if option in settings.setting or any(option in options for options in settings.image_types.values()):
            raise InputError(f"{path}: option {option} is not taken; {NOT_TAKEN[option]}")
    unknown = set(content) - {"setting", "imageType", "featureClass"}
    if unknown or not settings.feature_classes:
        raise InputError(
            f"{path}: has {', '.join(map(str, content))}; expected setting, imageType and a featureClass that is not empty"
        )
    try:
        with _quiet():
            RadiomicsFeatureExtractor(settings.parameters())
    except Exception as error:  # pykwalify and pyradiomics have no common base class
        raise InputError(f"{path}: pyradiomics refuses it ({error}); correct it") from error
    return settings


def settings_for(modality: str, sequence: str | None = None) -> Settings:
    """This package's settings for a modality of an images table, or for one sequence of it. Raises InputError for another."""
    name = SETTINGS_OF.get(f"{modality}/{sequence}") or SETTINGS_OF.get(modality)
    if name is None:
        raise InputError(f"there are no radiomics settings for modality {modality!r}; give some for it")
    return read_settings(name)


def extract_features(image: Volume, mask: np.ndarray, settings: Settings, *, crop: bool = True) -> dict[str, float]:
    """Features of one ROI, {"original_firstorder_Mean": ...}, names as pyradiomics gives them.

    mask: (z, y, x), non-zero inside. crop: False filters the whole image, for comparison; the values are the same. A
    single plane gets LoG features too, which pyradiomics leaves out: it is repeated along z, so that the Laplacian has no
    part across it. One ITK thread is used, so that sums do not depend on the machine. As pyradiomics does with integer files,
    an image of whole numbers that is not normalized stays one when it is resampled.
    Raises InputError, with a remedy, for a mask of another shape, empty, of a single voxel, too small or too flat for the
    settings, or that fills the image; for voxels that are not numbers; and for an image too thin for a LoG filter.
    """
    mask = np.asarray(mask) != 0
    if mask.shape != image.shape:
        raise InputError(
            f"the mask has {_by(mask.shape)} voxels (z, y, x), its image {_by(image.shape)}; "
            "export the mask on the grid of the image"
        )
    with _quiet(), _one_thread():
        return _features(_prepared(image, settings), mask, image.geometry, settings, crop)


def rim_mask(mask: np.ndarray, spacing_mm: Sequence[float], width_mm: float) -> np.ndarray:
    """(z, y, x) bool: voxels outside the mask whose centers lie within width_mm of a voxel of it.

    spacing_mm: (z, y, x). Where slices are farther apart than width_mm, the rim lies in the plane alone.
    """
    mask = np.asarray(mask, dtype=bool)
    rim = np.zeros_like(mask)
    if mask.any():
        reach = [math.ceil(width_mm / step) for step in spacing_mm]
        window = tuple(
            slice(max(low - pad, 0), high + pad + 1) for low, high, pad in zip(*_bounds(mask), reach, strict=True)
        )
        inside = mask[window]
        rim[window] = ~inside & (ndimage.distance_transform_edt(~inside, spacing_mm) <= width_mm + 1e-6)
    return rim


def moved_mask(mask: np.ndarray, geometry: VolumeGeometry, target: Volume) -> np.ndarray:
    """(z, y, x) bool mask at the same scanner coordinates on the grid of another volume, by the nearest voxel."""
    moved = SimpleITK.Resample(
        _sitk(np.asarray(mask, dtype=np.uint8), geometry),
        _sitk(np.zeros(target.shape, np.uint8), target.geometry),
        SimpleITK.Transform(),
        SimpleITK.sitkNearestNeighbor,
        0,
    )
    return SimpleITK.GetArrayFromImage(moved) != 0


def extract_cohort(
    images: pd.DataFrame,
    root: str | Path,
    *,
    settings: Settings | Mapping[str, Settings] | None = None,
    rois: Sequence[Roi] = (LESION,),
    unit: str = "patient_id",
    before: pd.DataFrame | None = None,
    perturb: Callable[[np.ndarray, Sequence[float], str], np.ndarray] | None = None,
    folder: str | Path | None = None,
    n_jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Features of every row of an images table as one row per unit, columns `<modality>_<timepoint>_<sequence>__<feature>`.

    A feature is named <roi>_<filter>_<class>_<name>; without a timepoint the column says "pre". images: contract of
    `alnlib.cohorts.schema`; modalities MRI, MG, CT, US. settings: of all, or by "MRI" or "MRI/ADC"; None: `settings_for`.
    unit: "patient_id", or "image_id" where a patient has several images of a kind (nodes on CT).
    A lesion that has gone (timepoint post, mask without it): its ROI is where it was at timepoint pre, taken from the rows
    of `before` (default: images) by scanner coordinates, so the visits must be registered. A mask need not be bool.
    perturb: function of (mask, spacing_mm, patient_id), a frozen dataclass of plain values such as
    `stability.MaskPerturbation`, applied before a rim is formed.
    folder: where the features of each image are kept as soon as they are known (`alnlib.memo`); a run that was stopped goes on
    from there. n_jobs: processes (joblib's; an active `joblib.parallel_config` is honored); the values do not depend on it.
    progress: called with images done and their number.
    What cannot be extracted becomes a row of `failures`, and the rest goes on. Raises InputError for a table in which a
    unit has two images of a kind, a modality without settings, or an unknown mask column.
    """
    cases = _cases(images, Path(root), settings, rois, unit, images if before is None else before, perturb)
    if folder is not None:
        cases = _with_keys(cases, Path(folder))
    records: list[dict | None] = [None] * len(cases)
    if n_jobs == 1:
        made: Iterator = ((number, _record(case)) for number, case in enumerate(cases))
    else:
        made = Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered")(
            delayed(_numbered)(number, case) for number, case in enumerate(cases)
        )
    for done, (number, record) in enumerate(made, start=1):
        records[number] = record
        if progress is not None:
            progress(done, len(cases))
    return _assembled(cases, records, unit)


def delta_features(features: pd.DataFrame, eps: float = 1e-6) -> pd.DataFrame:
    """Relative change from pre to post, (post - pre) / (|pre| + eps), as columns `<modality>_delta_<sequence>__<feature>`.

    features: table of `extract_cohort`. One column per feature that both timepoints have, in the order of the pre columns;
    the index is kept, other columns are not. NaN where either is. eps: in the unit of each feature; keeps a feature that
    is zero before from dividing by zero. Raises InputError if no feature has both timepoints.
    """
    if not eps > 0:
        raise ValueError(f"eps is {eps}; expected a positive number")
    changes = {}
    for column in features.columns:
        parts = _COLUMN.fullmatch(str(column))
        if parts is None or parts["timepoint"] != "pre":
            continue
        name = "{modality}_{{}}_{sequence}__{feature}".format(**parts.groupdict())
        if name.format("post") in features:
            pre = features[column].to_numpy(dtype=float)
            post = features[name.format("post")].to_numpy(dtype=float)
            changes[name.format("delta")] = (post - pre) / (np.abs(pre) + eps)
    if not changes:
        raise InputError("no feature was measured both pre and post; extract both timepoints of a sequence first")
    return pd.DataFrame(changes, index=features.index)


def write_features(features: pd.DataFrame, path: str | Path) -> Path:
    """Write a feature table as Parquet, without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        features.to_parquet(temporary, index=False)
    return Path(path)


# One image and mask


@dataclass(frozen=True)
class _Filter:
    """One run of pyradiomics. reach_mm, reach_voxels: how far around the ROI it looks; None for the whole image.

    periodic: at its border the image continues on the opposite side.
    """

    image_type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    reach_mm: float | None = 0.0
    reach_voxels: int = 1
    periodic: bool = False


def _filters(settings: Settings) -> list[_Filter]:
    found = []
    for name, options in settings.image_types.items():
        if name == "Original":
            found.append(_Filter(name, options))
        elif name == "LoG":
            for sigma in options.get("sigma", ()):
                found.append(_Filter(name, {**options, "sigma": [sigma]}, LOG_REACH * sigma))
        elif name == "Wavelet":
            levels = options.get("start_level", 0) + options.get("level", 1)
            length = pywt.Wavelet(options.get("wavelet", "coif1")).dec_len
            found.append(_Filter(name, options, reach_voxels=levels * length + 1, periodic=True))
        elif name == "Gradient":
            found.append(_Filter(name, options, reach_voxels=2))
        else:  # square, root, logarithm and exponential are scaled by the largest value of the image
            found.append(_Filter(name, options, reach_mm=None))
    return found


def _prepared(image: Volume, settings: Settings) -> SimpleITK.Image:
    wrong = int(image.values.size - np.isfinite(image.values).sum())
    if wrong:
        raise InputError(
            f"{wrong} of {image.values.size} voxels are not numbers (NaN or infinite); "
            "export the image again with a finite background value"
        )
    values = np.asarray(image.values, dtype=np.float32)
    if settings.setting.get("normalize"):
        return imageoperations.normalizeImage(_sitk(values, image.geometry), **settings.setting)
    whole_numbers = np.array_equal(values, np.rint(values)) and np.abs(values).max(initial=0) < 2**31 - 128
    return _sitk(values.astype(np.int32) if whole_numbers else values, image.geometry)


def _features(
    image: SimpleITK.Image, mask: np.ndarray, geometry: VolumeGeometry, settings: Settings, crop: bool
) -> dict[str, float]:
    """mask: (z, y, x) bool on the grid of the image, which is normalized already."""
    _check_mask(mask)
    drawn = _sitk(mask.astype(np.uint8), geometry)
    classes_of = {name: list(chosen or ()) for name, chosen in settings.feature_classes.items()}  # [] for all
    shapes = {name: chosen for name, chosen in classes_of.items() if name.startswith("shape")}
    others = {name: chosen for name, chosen in classes_of.items() if name not in shapes}
    runs = [(one, others) for one in _filters(settings) if others]
    if shapes:  # of the mask alone, so once
        runs.insert(0, (_Filter("Original"), shapes))
    done = ("normalize", "normalizeScale", "removeOutliers", "resampledPixelSpacing", "interpolator")
    setting = {name: value for name, value in settings.setting.items() if name not in done}
    extractor = RadiomicsFeatureExtractor(**setting, additionalInfo=False, label=1)
    image, drawn = _resampled(image, drawn, [one for one, _ in runs], settings.setting, crop)
    inside = int(SimpleITK.GetArrayViewFromImage(drawn).sum())
    if inside == 0:
        raise InputError("the mask is empty after resampling; exclude the image or use a finer resampledPixelSpacing")
    found: dict[str, float] = {}
    for one, classes in runs:
        part, roi = _window(image, drawn, one, settings.setting) if crop else (image, drawn)
        if one.image_type == "LoG":
            part, roi = _thickened(part, roi, one.options["sigma"][0])
        if inside == roi.GetNumberOfPixels():
            raise InputError(
                "the mask fills the whole image, which leaves pyradiomics no background; keep a margin around the lesion"
            )
        extractor.enabledImagetypes = {one.image_type: dict(one.options)}
        extractor.enabledFeatures = classes
        try:
            values = extractor.execute(part, roi)
        except ValueError as error:
            raise InputError(
                f"pyradiomics refuses the ROI of {int(mask.sum())} voxels, {inside} after resampling ({error}); "
                "exclude it, redraw it, or relax minimumROIDimensions and minimumROISize"
            ) from error
        if one.image_type == "LoG" and not values:
            sigma, size = one.options["sigma"][0], _by(part.GetSize()[::-1])
            raise InputError(
                f"the volume of {size} voxels (z, y, x) is too thin for LoG with sigma {sigma:g} mm; choose a smaller sigma, "
                "or settings without LoG"
            )
        found |= {name: float(value) for name, value in values.items()}
    return found


def _check_mask(mask: np.ndarray) -> None:
    inside = int(mask.sum())
    if inside == 0:
        raise InputError("the mask is empty; draw the lesion or leave the image out")
    if inside == 1:
        raise InputError(
            "the mask is a single voxel, which has neither texture nor shape; redraw it or leave the image out"
        )


def _resampled(
    image: SimpleITK.Image, mask: SimpleITK.Image, filters: Sequence[_Filter], setting: Mapping[str, Any], crop: bool
) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    """Image and mask at the spacing asked for, around the ROI as far as any filter looks."""
    asked = setting.get("resampledPixelSpacing")
    if asked is None or setting.get("interpolator", "sitkBSpline") is None:
        return image, mask
    low, high = _bounds_xyz(mask)
    size, old = np.array(image.GetSize()), np.array(image.GetSpacing())
    new = np.where((np.array(asked, dtype=float) == 0) | (low == high), old, np.array(asked, dtype=float))
    if crop and not any(_axes_taken_whole(one, low, high, size, new / old, 2, new, setting).any() for one in filters):
        pad = max(int(_reach(one, new, setting).max()) for one in filters)
        margin = np.ceil(pad * new / old).astype(int) + SPLINE_REACH
        image = _cut(image, np.maximum(low - margin, 0), np.minimum(high + margin, size - 1))
    else:
        pad = int(np.ceil(size * old / new).max()) + 1
    try:  # its grid is that of the mask, so that a part of the image gives the same voxels
        return imageoperations.resampleImage(image, mask, **{**setting, "padDistance": pad, "label": 1})
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the image cannot be resampled to {list(asked)} mm ({error}); correct resampledPixelSpacing"
        ) from error


def _window(
    image: SimpleITK.Image, mask: SimpleITK.Image, one: _Filter, setting: Mapping[str, Any]
) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    """Image and mask around the ROI as far as the filter looks."""
    low, high = _bounds_xyz(mask)
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    whole = _axes_taken_whole(one, low, high, size, np.ones(3), 0, spacing, setting)
    reach = _reach(one, spacing, setting)
    first = np.where(whole, 0, np.maximum(low - reach, 0))
    last = np.where(whole, size - 1, np.minimum(high + reach, size - 1))
    return _cut(image, first, last), _cut(mask, first, last)


def _reach(one: _Filter, spacing: np.ndarray, setting: Mapping[str, Any]) -> np.ndarray:
    """In voxels of this spacing, (x, y, z)."""
    reach = np.ceil((one.reach_mm or 0.0) / spacing).astype(int) + one.reach_voxels
    if one.periodic:
        reach[_left_alone(setting)] = 1
    return reach


def _axes_taken_whole(
    one: _Filter,
    low: np.ndarray,
    high: np.ndarray,
    size: np.ndarray,
    ratio: np.ndarray,
    slack: int,
    spacing: np.ndarray,
    setting: Mapping[str, Any],
) -> np.ndarray:
    """(3,) bool: where nothing may be cut off, because a periodic filter sees the opposite side, or looks at everything.

    low, high, size: in voxels of which one of `spacing` is `ratio`.
    """
    if one.reach_mm is None:
        return np.ones(3, dtype=bool)
    around = np.ceil(_reach(one, spacing, setting) * ratio).astype(int) + slack
    sees_beyond = (low - around < 0) | (high + around >= size)
    return sees_beyond & ~_left_alone(setting) if one.periodic else np.zeros(3, dtype=bool)


def _left_alone(setting: Mapping[str, Any]) -> np.ndarray:
    """(3,) bool: the axis (x, y, z) along which force2D filters nothing."""
    alone = np.zeros(3, dtype=bool)
    if setting.get("force2D"):
        alone[2 - setting.get("force2Ddimension", 0)] = True
    return alone


def _bounds_xyz(mask: SimpleITK.Image) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of the mask along (x, y, z)."""
    low, high = _bounds(SimpleITK.GetArrayViewFromImage(mask) != 0)
    return low[::-1], high[::-1]


def _cut(image: SimpleITK.Image, first: np.ndarray, last: np.ndarray) -> SimpleITK.Image:
    """first, last: (x, y, z), inclusive."""
    return SimpleITK.RegionOfInterest(image, (last - first + 1).tolist(), first.tolist())


def _thickened(image: SimpleITK.Image, mask: SimpleITK.Image, sigma: float) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    """A single plane repeated as often as pyradiomics asks for before it filters, the mask on the middle one."""
    if image.GetSize()[2] > 1:
        return image, mask
    copies = max(4, math.ceil(sigma / image.GetSpacing()[2]) + 1)
    thick, roi = (
        SimpleITK.GetImageFromArray(np.repeat(SimpleITK.GetArrayViewFromImage(one), copies, axis=0))
        for one in (image, mask)
    )
    for one in (thick, roi):
        one.SetSpacing(image.GetSpacing())
        one.SetOrigin(image.GetOrigin())
        one.SetDirection(image.GetDirection())
    middle = copies // 2
    roi[:, :, :middle] = 0
    roi[:, :, middle + 1 :] = 0
    return thick, roi


def _sitk(values: np.ndarray, geometry: VolumeGeometry) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(np.ravel(geometry.direction).tolist())
    return image


def _bounds(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of the mask along (z, y, x)."""
    found = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    return np.array([one[0] for one in found]), np.array([one[-1] for one in found])


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


@contextmanager
def _one_thread() -> Iterator[None]:
    before = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without pyradiomics' remarks on redundant features and filters left out, which are errors here."""
    loggers = [logging.getLogger(name) for name in ("radiomics", "pykwalify")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


# A cohort


@dataclass(frozen=True)
class _Case:
    """One image with its ROIs. row, earlier: of the images table. kept, key: where its features are kept, and under which key."""

    row: Mapping[str, Any]
    earlier: tuple[Mapping[str, Any], ...]
    root: Path
    settings: Settings
    rois: tuple[Roi, ...]
    perturb: Callable[[np.ndarray, Sequence[float], str], np.ndarray] | None
    kept: Path | None = None
    key: str = ""

    @property
    def sequence(self) -> str:
        return re.sub(r"[^A-Za-z0-9_.]+", "-", str(self.row.get("sequence_or_view") or "image")).replace("__", "_")

    @property
    def timepoint(self) -> str:
        return self.row.get("timepoint") or NO_TIMEPOINT

    @property
    def prefix(self) -> str:
        return f"{self.row['modality']}_{self.timepoint}_{self.sequence}"


def _cases(
    images: pd.DataFrame,
    root: Path,
    settings: Settings | Mapping[str, Settings] | None,
    rois: Sequence[Roi],
    unit: str,
    before: pd.DataFrame,
    perturb: Callable | None,
) -> list[_Case]:
    if unit not in ("patient_id", "image_id"):
        raise ValueError(f"unit is {unit!r}; expected patient_id or image_id")
    names = [roi.name for roi in rois]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"ROIs are {names}; expected one or more with names of their own")
    for roi in rois:
        if roi.mask_column not in images:
            raise InputError(f"the images table has no column {roi.mask_column} for ROI {roi.name}; add it")
    rows, earlier = _plain_rows(images), {}
    for row in _plain_rows(before):
        if row.get("timepoint") == "pre":
            earlier.setdefault((row["patient_id"], row["modality"]), []).append(row)
    cases, chosen, seen = [], {}, set()
    for row in rows:
        kind = (row["modality"], row.get("sequence_or_view"))
        if kind not in chosen:
            chosen[kind] = _chosen(settings, *kind)
        others = earlier.get((row["patient_id"], row["modality"]), []) if row.get("timepoint") == "post" else []
        others = sorted(others, key=lambda other, own=kind[1]: other.get("sequence_or_view") != own)
        case = _Case(row, tuple(others[:1]), root, chosen[kind], tuple(rois), perturb)
        if (row[unit], case.prefix) in seen:
            raise InputError(
                f"patient {row['patient_id']}: several images are {case.prefix}; keep one of them, "
                'or take unit="image_id"'
            )
        seen.add((row[unit], case.prefix))
        cases.append(case)
    return cases


def _plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Missing cells as None; nothing of unit_label, which a feature must not depend on."""
    columns = [column for column in table.columns if column != "unit_label"]
    return [
        {name: None if pd.isna(cell) or cell == "" else cell for name, cell in zip(columns, row, strict=True)}
        for row in table[columns].itertuples(index=False)
    ]


def _chosen(settings: Settings | Mapping[str, Settings] | None, modality: str, sequence: str | None) -> Settings:
    if isinstance(settings, Settings):
        return settings
    if settings is None:
        return settings_for(modality, sequence)
    found = settings.get(f"{modality}/{sequence}") or settings.get(modality)
    if found is None:
        raise InputError(f"no settings were given for {modality}/{sequence}; give some, or leave its images out")
    return found


def _numbered(number: int, case: _Case) -> tuple[int, dict[str, Any]]:
    return number, _record(case)


def _record(case: _Case) -> dict[str, Any]:
    """{"rois": {name: {"features", "n_voxels", "source"} or {"problem"}}, "cached": bool}."""
    kept = None if case.kept is None else _kept(case.kept, case.key)
    if kept is not None:
        return {"rois": kept, "cached": True}
    rois, lasting = _measured(case)
    if case.kept is not None and lasting:
        content = json.dumps(rois, indent=2)
        write_sealed(case.kept, case.key, lambda path: path.write_text(content, encoding="utf-8"))
    return {"rois": rois, "cached": False}


def _measured(case: _Case) -> tuple[dict[str, dict[str, Any]], bool]:
    """Also whether it would come out the same the next time."""
    rois: dict[str, dict[str, Any]] = {}
    lasting = True
    with _quiet(), _one_thread():
        image = prepared = None
        for roi in case.rois:
            try:
                if image is None:
                    image = _read_image(case.row, case.root)
                    prepared = _prepared(image, case.settings)
                mask, source = _roi_mask(case, roi, image)
                rois[roi.name] = {
                    "features": _features(prepared, mask, image.geometry, case.settings, crop=True),
                    "n_voxels": int(mask.sum()),
                    "source": source,
                }
            except InputError as error:
                rois[roi.name] = {"problem": str(error)}
            except (ValueError, RuntimeError, ArithmeticError, LookupError, AssertionError, MemoryError) as error:
                # What pyradiomics, ITK and decoders raise on odd data must not stop the other patients.
                said = str(error).strip().splitlines()
                rois[roi.name] = {
                    "problem": f"{type(error).__name__}: {said[-1] if said else 'no message'}; look at image and mask"
                }
                lasting = False
    return rois, lasting


def _read_image(row: Mapping[str, Any], root: Path) -> Volume:
    path = root / row["path"]
    if _is_volume(path, row):
        return read_volume(path)
    image = read.read_image(path, spacing_mm=parse_pixel_spacing(row.get("pixel_spacing_mm")))
    if image.spacing_mm is None:
        raise InputError(f"{path}: says no pixel spacing; give pixel_spacing_mm in images.csv")
    return Volume(image.pixels[None], VolumeGeometry((FLAT_MM, *image.spacing_mm)), path)


def _is_volume(path: Path, row: Mapping[str, Any]) -> bool:
    suffixes = (*volumes.NIFTI_SUFFIXES, *volumes.NRRD_SUFFIXES, ".mat")
    return row["modality"] == "MRI" or path.is_dir() or path.name.lower().endswith(suffixes)


def _roi_mask(case: _Case, roi: Roi, image: Volume) -> tuple[np.ndarray, str]:
    labels = _read_labels(case.row, roi, image, case.root)
    mask, source = _labeled(labels, roi), "drawn"
    name = case.row[roi.mask_column]
    if not mask.any():
        bed = _bed(case, roi, labels, image)
        if bed is None:
            there = np.unique(labels[labels != 0])
            if there.size:
                values = ", ".join(f"{value:g}" for value in there[:8])
                raise InputError(
                    f"{name}: no voxel has label {roi.label} of ROI {roi.name}, but {values}; name one of them, or label=None"
                )
            raise InputError(f"{name}: the mask is empty; draw the lesion or leave the image out")
        mask, source = bed, "pre-therapy bed"
    if case.perturb is not None:
        mask = case.perturb(mask, image.geometry.spacing_mm, case.row["patient_id"])
    if roi.rim_mm is not None:
        mask = rim_mask(mask, image.geometry.spacing_mm, roi.rim_mm)
    return mask, source


def _read_labels(row: Mapping[str, Any], roi: Roi, image: Volume | None, root: Path) -> np.ndarray:
    return _labels_and_place(row, roi, image, root)[0]


def _labels_and_place(
    row: Mapping[str, Any], roi: Roi, image: Volume | None, root: Path
) -> tuple[np.ndarray, VolumeGeometry | None]:
    """(z, y, x) values of the mask file and, of a volume, where they lie. image: checked against it if given."""
    if row.get(roi.mask_column) is None:
        raise InputError(f"{row['path']}: has no {roi.mask_column} for ROI {roi.name}; give one in images.csv")
    path = root / row[roi.mask_column]
    if not _is_volume(root / row["path"], row):
        if roi.label is None:
            return read.read_mask(path, image.shape[1:] if image else None)[None], None
        labels = read.read_image(path).pixels[None]
        if image is not None and labels.shape != image.shape:
            raise InputError(
                f"{path}: the mask has {_by(labels.shape[1:])} pixels, its image {_by(image.shape[1:])}; "
                "export the mask on the grid of the image"
            )
        return labels, None
    drawn = read_volume(path)
    if image is not None:
        volumes._check_same_voxels(drawn, image, wrong_header=False)
    return drawn.values, drawn.geometry


def _labeled(labels: np.ndarray, roi: Roi) -> np.ndarray:
    return labels != 0 if roi.label is None else labels == roi.label


def _bed(case: _Case, roi: Roi, labels: np.ndarray, image: Volume) -> np.ndarray | None:
    """Where the lesion was before therapy, on the grid of the image; None if it has not gone, as far as can be told."""
    if not case.earlier or case.earlier[0].get(roi.mask_column) is None:
        return None
    before, place = _labels_and_place(case.earlier[0], roi, None, case.root)
    drawn = _labeled(before, roi)
    # A label that only this visit uses is more likely another numbering than another structure.
    if place is None or not drawn.any() or not np.isin(labels[labels != 0], before).all():
        return None
    moved = moved_mask(drawn, place, image)
    if not moved.any():
        raise InputError(
            f"the lesion has gone, and its place in {case.earlier[0][roi.mask_column]} lies outside {case.row['path']}; "
            "register the visits, or draw the bed"
        )
    return moved


def _with_keys(cases: Sequence[_Case], folder: Path) -> list[_Case]:
    """Each with the place and the key of its features, so that files are recognized once for all processes."""
    digests = FileDigests(folder / MEMORY)
    keyed = []
    for case in cases:
        key = _key(case, digests)
        name = re.sub(r"[^\w.-]", "-", f"{case.row['patient_id']}-{case.prefix}-{key[:16]}.json")
        keyed.append(replace(case, kept=folder / name, key=key))
    digests.save()
    return keyed


def _key(case: _Case, digests: FileDigests) -> str:
    """Of everything that the features of an image depend on; neither `root` nor any outcome."""
    masks = [[row.get(roi.mask_column) for roi in case.rois] for row in (case.row, *case.earlier)]
    named = {name for names in ([case.row["path"]], *masks) for name in names if name is not None}
    return key_of(
        format=FORMAT,
        row={name: str(case.row.get(name)) for name in ("modality", "timepoint", "path", "pixel_spacing_mm")},
        masks=masks,
        files={str(name): digests.of_image(case.root / name) for name in named},
        settings=case.settings.parameters(),
        rois=[repr(roi) for roi in case.rois],
        perturb=None if case.perturb is None else [repr(case.perturb), case.row["patient_id"]],
        code=code_of("alnlib.radiomics.extract", type(case.perturb).__module__),
        libraries=versions(*LIBRARIES),
    )


def _kept(path: Path, key: str) -> dict[str, dict[str, Any]] | None:
    length = sealed_length(path, key)
    return None if length is None else json.loads(path.read_bytes()[:length])


def _assembled(cases: Sequence[_Case], records: Sequence[dict], unit: str) -> Extraction:
    table: dict[str, dict[str, Any]] = {}
    failures, rois = [], []
    for case, record in zip(cases, records, strict=True):
        row = case.row
        values = table.setdefault(row[unit], {unit: row[unit], "patient_id": row["patient_id"]})
        for roi in case.rois:
            found = record["rois"][roi.name]
            if "problem" in found:
                reason, remedy = _reason_and_remedy(found["problem"])
                where = (row["patient_id"], row["image_id"], row["modality"], case.timepoint, case.sequence, roi.name)
                failures.append((*where, reason, remedy))
                continue
            rois.append((row["patient_id"], row["image_id"], roi.name, found["n_voxels"], found["source"]))
            # Sorted as they are when found again, so that a resumed run has the same columns in the same places.
            for name in sorted(found["features"]):
                value = found["features"][name]
                values[f"{case.prefix}__{roi.name}_{name}"] = value if math.isfinite(value) else math.nan
    return Extraction(
        pd.DataFrame(list(table.values()), columns=None if table else [unit]),
        pd.DataFrame(failures, columns=list(FAILURE_COLUMNS)),
        pd.DataFrame(rois, columns=list(ROI_COLUMNS)),
        sum(record["cached"] for record in records),
    )


def _reason_and_remedy(problem: str) -> tuple[str, str]:
    """Messages of this project end with the remedy, after a semicolon or colon."""
    parts = re.fullmatch(r"(.+)[;:] (.+)", problem, re.DOTALL)
    return (parts[1], parts[2]) if parts else (problem, "")

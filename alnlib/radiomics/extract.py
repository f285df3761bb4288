"""Handcrafted features by pyradiomics: of one image and mask, of every image of a cohort, and their change over therapy.

Settings are parameter files of pyradiomics in settings/. Reading is in `alnlib.imaging`, redrawn contours in `stability`.

An image is normalized as a whole, and then cut to the ROI and as much around it as a filter looks at. Features agree with
those of the whole image, as tests show: original and wavelet bands to rounding, LoG to 1e-6.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pywt
import SimpleITK
import yaml
from radiomics import imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor
from scipy import ndimage

from alnlib.cohorts.schema import mask_files
from alnlib.errors import InputError
from alnlib.imaging.rows import ADC, Still, is_given, read_scan, read_still, scan_mask
from alnlib.imaging.volumes import Volume, VolumeGeometry
from alnlib.memo import MEMORY, FileDigests, code_of, key_of, sealed_length, versions, write_sealed
from alnlib.radiomics.grid import VALUE_DIGITS, lay_grid, splined
from alnlib.radiomics.laplacian import laplacian_of_gaussian
from alnlib.tasks import ordered

SETTINGS = Path(__file__).parent / "settings"
SETTINGS_OF = {"MRI": "mri", "MRI/ADC": "mri_adc", "MG": "mammography", "CT": "ct", "US": "ultrasound"}
"""Settings file by modality, or by modality/sequence where a sequence has one of its own."""

GRIDS = ("lesion", "image")

NOT_TAKEN = {"label", "label_channel", "padDistance", "preCrop", "voxelBased", "correctMask", "geometryTolerance"}
NOT_TAKEN |= {"additionalInfo"}
"""Options of pyradiomics that are decided here."""

LOG_REACH = 14.0
"""In sigma. ITK's recursive Gaussian decays as exp(-1.72 distance / sigma), slower than a true one: what lies 12 sigma away
changes a filtered voxel by 1e-7 of the spread of the filtered image, 14 sigma by less than float32 can hold."""

SPLINE_REACH = 16
"""In voxels: a cubic B-spline's coefficients forget at 0.268 per voxel (Unser 1999, IEEE Signal Process Mag 16:22), 7e-10."""

EVERYTHING = 1 << 20
"""In voxels, more than an image has."""

FLAT_MM = 1.0
"""Thickness given to a single plane."""

RIM_MM = 3.0
FORMAT = 4
LIBRARIES = ("pyradiomics", "numpy", "scipy", "simpleitk", "pywavelets", "nibabel", "pydicom", "python-gdcm", "pillow")
"""What makes gray values and features: another version may give others."""

ROW_READ = ("modality", "timepoint", "sequence_or_view", "box", "pixel_spacing_mm", "frame", "mask_label")
"""Columns of an images table, beside its files, on which features depend."""

FAILURE_COLUMNS = ("patient_id", "image_id", "modality", "timepoint", "sequence", "roi", "reason", "remedy")
ROI_COLUMNS = ("patient_id", "image_id", "roi", "n_voxels", "source")


@contextmanager
def _quiet() -> Iterator[None]:
    """On one ITK thread, so that sums do not depend on the machine, and without pyradiomics' remarks on redundant features
    and on filters left out, which are errors here."""
    threads, level = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads(), logging.root.manager.disable
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    logging.disable()
    try:
        yield
    finally:
        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        logging.disable(level)


@dataclass(frozen=True)
class Settings:
    """A parameter file of pyradiomics. image_types: {name: own options}; feature_classes: {name: features, None for all}.

    grid: what a resampled image's voxels are laid from: the "lesion", so that features do not depend on where the scan
    begins, or the "image", as pyradiomics does.
    """

    name: str
    setting: Mapping[str, Any]
    image_types: Mapping[str, Mapping[str, Any]]
    feature_classes: Mapping[str, Sequence[str] | None]
    grid: str = "lesion"

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise ValueError(f"grid is {self.grid!r}; expected {' or '.join(GRIDS)}")

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


class Perturbation(Protocol):
    """How a lesion is measured otherwise: a frozen dataclass of plain values, such as `stability.MaskPerturbation`."""

    def __call__(self, mask: np.ndarray, spacing_mm: Sequence[float], patient_id: str) -> np.ndarray:
        """Another contour, (z, y, x) bool."""

    def shift(self, patient_id: str) -> tuple[float, float, float]:
        """(z, y, x) of the grid that the lesion is measured on, in its voxels."""


@dataclass(frozen=True)
class Extraction:
    """Features of a cohort.

    features: one row per patient in the order of the images table, patient_id first; NaN where an extraction failed.
    failures: `FAILURE_COLUMNS`, one row per ROI without features. rois: `ROI_COLUMNS`, one per ROI with features; n_voxels
    before resampling, source "drawn" or "pre-therapy bed".
    """

    features: pd.DataFrame
    failures: pd.DataFrame
    rois: pd.DataFrame

    def __str__(self) -> str:
        measured = sum("__" in column for column in self.features.columns)
        return (
            f"{len(self.features)} rows of {measured} features from {len(self.rois)} ROIs, {len(self.failures)} failed"
        )


def settings_for(modality: str, sequence: str | None = None, *, grid: str = "lesion") -> Settings:
    """This package's settings for a modality of an images table, or for one sequence of it. Raises InputError for another,
    and for a grid that is neither "lesion" nor "image"."""
    if grid not in GRIDS:
        raise InputError(f"grid {grid!r} is not known; give {' or '.join(GRIDS)}")
    name = SETTINGS_OF.get(f"{modality}/{sequence}") or SETTINGS_OF.get(modality)
    if name is None:
        raise InputError(f"there are no radiomics settings for modality {modality!r}; give some for it")
    return replace(read_settings(SETTINGS / f"{name}.yaml"), grid=grid)


def read_settings(path: Path) -> Settings:
    """A parameter file of pyradiomics. Raises InputError naming it for one that pyradiomics refuses, that asks for no
    features, or that holds options which are decided here (`NOT_TAKEN`)."""
    try:
        with _quiet():
            RadiomicsFeatureExtractor(str(path))
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # pykwalify and pyradiomics have no common base class
        raise InputError(f"{path}: pyradiomics refuses it ({error}); correct it") from error
    settings = Settings(
        path.stem,
        content.get("setting") or {},
        {name: options or {} for name, options in (content.get("imageType") or {"Original": {}}).items()},
        content.get("featureClass") or {},
    )
    if not settings.feature_classes:
        raise InputError(f"{path}: has {', '.join(content)}; expected a featureClass that is not empty")
    taken = {option for options in (settings.setting, *settings.image_types.values()) for option in options}
    if taken & NOT_TAKEN:
        raise InputError(
            f"{path}: option {min(taken & NOT_TAKEN)} is not taken; leave it out: features are those of a whole "
            "ROI, around which as much is kept as a filter needs, and masks are checked against their image before"
        )
    return settings


@_quiet()
def extract_features(
    image: Volume, mask: np.ndarray, settings: Settings, shift: Sequence[float] = (0.0, 0.0, 0.0)
) -> dict[str, float]:
    """Features of one ROI, {"original_firstorder_Mean": ...}, names as pyradiomics gives them.

    mask: (z, y, x) bool, on the grid of the image. A single plane gets LoG features too, which pyradiomics leaves out: it is
    repeated along z, so that the Laplacian has no part across it. On the grid of the image, as pyradiomics does with integer
    files, an image of whole numbers that is not normalized stays one when it is resampled.
    shift: (z, y, x) of a grid laid from the lesion, in its voxels. Raises ValueError where there is no such grid.
    Raises InputError, with a remedy, for a mask that is empty, of a single voxel, too small or too flat for the settings, or
    that fills the image, and for an image too thin for a LoG filter.
    """
    drawn = int(mask.sum())
    if drawn < 2:
        what = "a single voxel, which has neither texture nor shape" if drawn else "empty"
        raise InputError(f"the mask is {what}; redraw the lesion or leave the image out")
    runs, setting = _runs(settings), settings.setting
    roi = _sitk(mask.astype(np.uint8), image.geometry)
    picture, roi = _resampled(_normalized(image, setting), roi, runs, settings, shift)
    inside = int(SimpleITK.GetArrayViewFromImage(roi).sum())
    if inside == 0:
        raise InputError("the mask is empty after resampling; exclude the image or use a finer resampledPixelSpacing")
    done = ("normalize", "normalizeScale", "removeOutliers", "resampledPixelSpacing", "interpolator")
    left = {name: value for name, value in setting.items() if name not in done}
    extractor = RadiomicsFeatureExtractor(**left, additionalInfo=False, label=1)
    found: dict[str, float] = {}
    for run in runs:
        try:
            found |= run.features(extractor, *run.window(picture, roi, setting))
        except ValueError as error:
            raise InputError(
                f"pyradiomics refuses the ROI of {drawn} voxels, {inside} after resampling ({error}); "
                "exclude it, redraw it, or relax minimumROIDimensions and minimumROISize"
            ) from error
    return found


def mask_window(mask: np.ndarray, margin: Sequence[int]) -> tuple[slice, ...]:
    """The box of a mask that is not empty and a margin in voxels, within the image."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    return tuple(slice(max(axis.start - pad, 0), axis.stop + pad) for axis, pad in zip(box, margin, strict=True))


def rim_mask(mask: np.ndarray, spacing_mm: Sequence[float], width_mm: float) -> np.ndarray:
    """(z, y, x) bool: voxels outside the mask whose centers lie within width_mm of a voxel of it.

    spacing_mm: (z, y, x). Where slices are farther apart than width_mm, the rim lies in the plane alone.
    """
    rim = np.zeros_like(mask)
    if mask.any():
        window = mask_window(mask, [math.ceil(width_mm / step) for step in spacing_mm])
        outside = ~mask[window]
        rim[window] = outside & (ndimage.distance_transform_edt(outside, spacing_mm) <= width_mm + 1e-6)
    return rim


def moved_mask(drawn: Volume, target: Volume) -> np.ndarray:
    """(z, y, x) bool: a mask at the same scanner coordinates on the grid of another volume, by the nearest voxel."""
    mask, grid = _sitk((drawn.values != 0).astype(np.uint8), drawn.geometry), _sitk(target.values, target.geometry)
    moved = SimpleITK.Resample(mask, grid, SimpleITK.Transform(), SimpleITK.sitkNearestNeighbor, 0, mask.GetPixelID())
    return SimpleITK.GetArrayFromImage(moved) != 0


def extract_cohort(
    images: pd.DataFrame,
    root: str | Path,
    settings: Mapping[str, Settings],
    *,
    rim: bool = False,
    perturb: Perturbation | None = None,
    folder: str | Path | None = None,
    n_jobs: int = 1,
) -> Extraction:
    """Features of every row of an images table as one row per patient, columns `<modality>_<timepoint>_<sequence>__<feature>`.

    A feature is named <roi>_<filter>_<class>_<name>; without a timepoint the column says "pre". images: contract of
    `alnlib.cohorts.schema`. settings: by "MRI/ADC" or "MRI".
    A lesion that has gone from MRI (timepoint post, mask without it): its ROI is where it was at timepoint pre, by scanner
    coordinates, so the visits must be registered. rim: also of the shell around the lesion up to `RIM_MM`.
    perturb: another contour or place of the grid, applied before a rim is formed.
    folder: where the features of each image are kept as soon as they are known (`alnlib.memo`); a run that was stopped goes on
    from there. n_jobs: processes (`alnlib.tasks`); the values do not depend on it.
    What cannot be extracted becomes a row of `failures`, and the rest goes on. Raises InputError for a patient who has two
    images of a kind, and for a modality without settings.
    """
    cases = [
        _Case(row, _before_therapy(row, images), Path(root), _chosen(settings, row), rim, perturb)
        for _, row in images.iterrows()
    ]
    kinds = pd.Series(
        [f"patient {case.row['patient_id']}: several images are {case.kind}" for case in cases], dtype=str
    )
    if kinds.duplicated().any():
        raise InputError(f"{kinds[kinds.duplicated()].iloc[0]}; keep one of them")
    kept = [None] * len(cases)
    if folder is not None:
        digests = FileDigests(Path(folder) / MEMORY)  # files are recognized once for all processes
        kept = [(Path(folder), case.key(digests)) for case in cases]
        digests.save()
    tasks = list(zip(cases, kept, strict=True))
    return _assembled(cases, ordered(_remembered, tasks, n_jobs=n_jobs, batch_size=1))


def delta_features(features: pd.DataFrame, eps: float = 1e-6) -> pd.DataFrame:
    """Relative change from pre to post, (post - pre) / (|pre| + eps), as columns `<modality>_delta_<sequence>__<feature>`.

    features: table of `extract_cohort`. One column per feature that both timepoints have, in the order of the pre columns;
    the index is kept, other columns are not. NaN where either is. eps: in the unit of each feature; keeps a feature that
    is zero before from dividing by zero. Raises InputError if no feature has both timepoints.
    """
    changes = {}
    for column in features.columns:
        later, delta = (re.sub("^([^_]+)_pre_", rf"\1_{visit}_", column) for visit in ("post", "delta"))
        if later != column and later in features:
            pre, post = features[column].to_numpy(dtype=float), features[later].to_numpy(dtype=float)
            changes[delta] = (post - pre) / (np.abs(pre) + eps)
    if not changes:
        raise InputError("no feature was measured both pre and post; extract both timepoints of a sequence first")
    return pd.DataFrame(changes, index=features.index)


# One image and mask


@dataclass(frozen=True)
class _Run:
    """One run of pyradiomics: a filter with its options, and the features taken of what it gives ([]: all of a class)."""

    image_type: str
    options: Mapping[str, Any]
    classes: Mapping[str, list[str]]
    by_axis: bool  # LoG at the lesion alone; otherwise ITK's own of all that a filter looks at, to the last digit

    def reach(
        self, roi: SimpleITK.Image, setting: Mapping[str, Any], spacing: np.ndarray, slack: int = 0
    ) -> np.ndarray:
        """(3,) how far around the ROI the filter looks along (x, y, z), in voxels of `spacing`.

        Where a wavelet looks beyond the border, or less than `slack` voxels of the ROI's image short of it, that is
        `EVERYTHING`: there the image continues on the opposite side.
        """
        if self.image_type == "Original":
            return np.ones(3, dtype=int)
        if self.image_type == "LoG":
            return np.ceil(LOG_REACH * self.options["sigma"][0] / spacing).astype(int) + 1
        if self.image_type != "Wavelet":  # square, root and the like: scaled by the largest value of the image
            return np.full(3, EVERYTHING)
        levels = self.options.get("start_level", 0) + self.options.get("level", 1)
        reach = np.full(3, levels * pywt.Wavelet(self.options.get("wavelet", "coif1")).dec_len + 1)
        low, high = _bounds(roi)
        around = np.ceil(reach * (spacing / roi.GetSpacing())).astype(int) + slack
        reach[(low - around < 0) | (high + around >= roi.GetSize())] = EVERYTHING
        if setting.get("force2D"):  # nothing is filtered along this axis
            reach[2 - setting.get("force2Ddimension", 0)] = 1
        return reach

    def window(
        self, image: SimpleITK.Image, roi: SimpleITK.Image, setting: Mapping[str, Any]
    ) -> tuple[SimpleITK.Image, SimpleITK.Image]:
        """Image and ROI as far around the ROI as the filter looks; of a single plane copies for LoG."""
        margin = self.reach(roi, setting, np.array(image.GetSpacing()))
        image, roi = _cut(roi, margin, image, roi)
        if self.image_type == "LoG" and image.GetSize()[2] == 1:
            copies = max(4, math.ceil(self.options["sigma"][0] / image.GetSpacing()[2]) + 1)  # as pyradiomics asks for
            below, above = [0, 0, copies // 2], [0, 0, copies - 1 - copies // 2]
            image = SimpleITK.ZeroFluxNeumannPad(image, below, above)
            roi = SimpleITK.ConstantPad(roi, below, above, 0)
        return image, roi

    def features(
        self, extractor: RadiomicsFeatureExtractor, image: SimpleITK.Image, roi: SimpleITK.Image
    ) -> dict[str, float]:
        if SimpleITK.GetArrayViewFromImage(roi).all():
            raise InputError(
                "the mask fills the whole image, which leaves pyradiomics no background; keep a margin around the lesion"
            )
        extractor.enabledFeatures = self.classes
        if extractor.settings.get("resegmentRange") is not None:  # looks at the gray values before the filter
            extractor.enabledImagetypes = {self.image_type: dict(self.options)}
            values = extractor.execute(image, roi)
        else:
            values = self._of_each_filter(extractor, image, roi)
        if self.image_type == "LoG" and not values:
            sigma, size = self.options["sigma"][0], " x ".join(map(str, image.GetSize()[::-1]))
            raise InputError(
                f"the volume of {size} voxels (z, y, x) is too thin for LoG with sigma {sigma:g} mm; choose a smaller sigma, "
                "or settings without LoG"
            )
        return {name: float(value) for name, value in values.items()}

    def _of_each_filter(
        self, extractor: RadiomicsFeatureExtractor, image: SimpleITK.Image, roi: SimpleITK.Image
    ) -> dict[str, Any]:
        """What `execute` gives; a filtered image is cut to the ROI before pyradiomics goes over it several times."""
        extractor.enabledImagetypes, values = {"Original": dict(self.options)}, {}  # such as a bin width of its own
        (lesion,) = _cut(roi, np.ones(3, dtype=int), roi)
        for each, name in self._filtered(extractor, image, roi):
            found = extractor.execute(each, lesion)
            values |= {key.replace("original", name, 1): value for key, value in found.items()}
        return values

    def _filtered(
        self, extractor: RadiomicsFeatureExtractor, image: SimpleITK.Image, roi: SimpleITK.Image
    ) -> Iterator[tuple[SimpleITK.Image, str]]:
        """Each filtered image of the ROI and one voxel around it, and its name, as pyradiomics gives them."""
        margin = np.ones(3, dtype=int)
        if self.image_type != "LoG" or not self.by_axis:
            filtered = getattr(imageoperations, f"get{self.image_type}Image")
            for each, name, _ in filtered(image, roi, **extractor.settings | self.options):
                yield _cut(roi, margin, each)[0], name
            return
        sigma, size = self.options["sigma"][0], np.array(image.GetSize())
        if sigma > 0 and (size >= np.maximum(np.ceil(sigma / np.array(image.GetSpacing())) + 1, 4)).all():
            first, last = _within(roi, margin)
            name = f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D"
            yield laplacian_of_gaussian(image, sigma, first, last - first + 1), name


def _runs(settings: Settings) -> list[_Run]:
    shapes, others = {}, {}
    for name, chosen in settings.feature_classes.items():
        (shapes if name.startswith("shape") else others)[name] = list(chosen or ())
    by_axis = settings.grid == "lesion"
    runs = [_Run("Original", {}, shapes, by_axis)]  # of the mask alone, so once
    for name, options in settings.image_types.items():
        each = [{**options, "sigma": [sigma]} for sigma in options.get("sigma", ())] if name == "LoG" else [options]
        runs += [_Run(name, one, others, by_axis) for one in each]
    return [run for run in runs if run.classes]


def _normalized(image: Volume, setting: Mapping[str, Any]) -> SimpleITK.Image:
    values = np.asarray(image.values, dtype=np.float32)
    if setting.get("normalize"):
        return imageoperations.normalizeImage(_sitk(values, image.geometry), **setting)
    whole_numbers = np.array_equal(values, np.rint(values)) and np.abs(values).max(initial=0) < 2**31 - 128
    return _sitk(values.astype(np.int32) if whole_numbers else values, image.geometry)


def _resampled(
    image: SimpleITK.Image, roi: SimpleITK.Image, runs: Sequence[_Run], settings: Settings, shift: Sequence[float]
) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    """Image and ROI at the spacing asked for, around the ROI as far as any filter looks."""
    setting, laid = settings.setting, settings.grid == "lesion"
    asked = setting.get("resampledPixelSpacing")
    if any(shift) and (asked is None or not laid):
        raise ValueError("only a grid that is laid from the lesion can be shifted; resample to one")
    if asked is None:
        return image, roi
    (low, high), old = _bounds(roi), np.array(image.GetSpacing())
    flat = np.array(image.GetSize()) == 1 if laid else low == high
    new = np.where((np.array(asked, dtype=float) == 0) | flat, old, np.array(asked, dtype=float))
    pad = max(int(run.reach(roi, setting, new, slack=2).max()) for run in runs)
    around = np.ceil(pad * new / old).astype(int) + SPLINE_REACH
    if laid:
        return _on_lesion_grid(*_cut(roi, around, image, roi), pad, settings, shift)
    (image,) = _cut(roi, around, image)
    smooth = setting.get("interpolator", "sitkBSpline") in ("sitkBSpline", SimpleITK.sitkBSpline)
    smooth &= image.GetPixelID() in (SimpleITK.sitkFloat32, SimpleITK.sitkFloat64)
    smooth &= 2 not in image.GetSize()  # ITK mirrors two planes otherwise
    how = {**setting, "padDistance": pad, "label": 1} | ({"interpolator": "sitkNearestNeighbor"} if smooth else {})
    try:  # its grid is that of the mask, so that a part of the image gives the same voxels
        resampled, roi = imageoperations.resampleImage(image, roi, **how)
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the image cannot be resampled to {list(asked)} mm ({error}); correct resampledPixelSpacing"
        ) from error
    if smooth and not np.allclose(old, new):  # as pyradiomics asks
        resampled = splined(image, resampled)
    return resampled, roi


def _on_lesion_grid(
    image: SimpleITK.Image, roi: SimpleITK.Image, pad: int, settings: Settings, shift: Sequence[float]
) -> tuple[SimpleITK.Image, SimpleITK.Image]:
    asked, how = settings.setting["resampledPixelSpacing"], settings.setting.get("interpolator", "sitkBSpline")
    grid = lay_grid(roi, asked, pad, shift[::-1])
    if how in ("sitkBSpline", SimpleITK.sitkBSpline):
        return splined(image, grid, VALUE_DIGITS), grid
    known = getattr(SimpleITK, how, None) if isinstance(how, str) else how
    if known is None:
        raise InputError(f"interpolator {how!r} is not one of SimpleITK's; give sitkBSpline or sitkLinear")
    image = SimpleITK.Cast(image, SimpleITK.sitkFloat32)
    return SimpleITK.Resample(image, grid, SimpleITK.Transform(), known, 0.0), grid


def _bounds(roi: SimpleITK.Image) -> tuple[np.ndarray, np.ndarray]:
    """First and last index along (x, y, z)."""
    box = ndimage.find_objects(SimpleITK.GetArrayViewFromImage(roi))[0][::-1]
    return np.array([axis.start for axis in box]), np.array([axis.stop - 1 for axis in box])


def _within(roi: SimpleITK.Image, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index along (x, y, z) of the box of the ROI and a margin of voxels, within the image."""
    low, high = _bounds(roi)
    return np.maximum(low - margin, 0), np.minimum(high + margin, np.array(roi.GetSize()) - 1)


def _cut(roi: SimpleITK.Image, margin: np.ndarray, *images: SimpleITK.Image) -> list[SimpleITK.Image]:
    """That box of images on the grid of the ROI; the images themselves if it is all of them."""
    first, last = _within(roi, margin)
    size = (last - first + 1).tolist()
    if size == list(roi.GetSize()):
        return list(images)
    return [SimpleITK.RegionOfInterest(image, size, first.tolist()) for image in images]


def _sitk(values: np.ndarray, geometry: VolumeGeometry) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(values)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(np.ravel(geometry.direction).tolist())
    return image


# A cohort


@dataclass(frozen=True)
class _Case:
    """One image and how it is measured. row: of the images table; earlier: the row that says where a lesion was, if any."""

    row: pd.Series
    earlier: pd.Series | None
    root: Path
    settings: Settings
    rim: bool
    perturb: Perturbation | None

    @property
    def parts(self) -> tuple[str, str, str]:
        """Modality, timepoint and sequence as columns name them; an image without timepoint is from before any treatment."""
        timepoint, sequence = self.row["timepoint"], self.row["sequence_or_view"]
        plain = re.sub(r"[^A-Za-z0-9_.]+", "-", sequence if is_given(sequence) else "image").replace("__", "_")
        return self.row["modality"], timepoint if is_given(timepoint) else "pre", plain

    @property
    def kind(self) -> str:
        return "_".join(self.parts)

    def key(self, digests: FileDigests) -> str:
        """Of everything that the features depend on; neither `root` nor any outcome."""
        rows = [self.row] if self.earlier is None else [self.row, self.earlier]
        named = [row["path"] for row in rows]
        named += [name for row in rows if is_given(row["mask_path"]) for name in mask_files(row["mask_path"])]
        return key_of(
            format=FORMAT,
            row=[[str(row.get(name)) for name in ROW_READ] for row in rows],
            files=[[name, digests.of_image(self.root / name)] if is_given(name) else None for name in named],
            settings=self.settings.parameters() | {"grid": self.settings.grid},
            rim=self.rim,
            perturb=None if self.perturb is None else [repr(self.perturb), self.row["patient_id"]],
            code=code_of("alnlib.radiomics.extract", type(self.perturb).__module__),
            libraries=versions(*LIBRARIES),
        )

    def image(self) -> Volume:
        """Of a picture a volume of one plane."""
        if self.row["modality"] == "MRI":
            return read_scan(self.row, self.root)
        picture = self.still.image
        if picture.spacing_mm is None:
            raise InputError(f"{picture.path}: says no pixel spacing; give pixel_spacing_mm in images.csv")
        if self.row["modality"] == "CT" and not picture.in_hu:
            raise InputError(f"{picture.path}: is not in HU; export the slice as DICOM with its rescale")
        return Volume(picture.pixels[None], VolumeGeometry((FLAT_MM, *picture.spacing_mm)), picture.path)

    @cached_property
    def still(self) -> Still:
        """Picture and mask."""
        return read_still(self.row, self.root)

    def lesion(self, image: Volume) -> tuple[np.ndarray, str]:
        """(z, y, x) bool and where it comes from."""
        if not is_given(self.row["mask_path"]):
            raise InputError(f"{self.row['path']}: has no mask_path; give one in images.csv")
        source, volume = "drawn", self.row["modality"] == "MRI"
        mask = scan_mask(self.row, self.root, image) if volume else self.still.mask[None]
        if not mask.any():
            mask, source = self.bed(image), "pre-therapy bed"
        if self.perturb is not None:
            mask = self.perturb(mask, image.geometry.spacing_mm, self.row["patient_id"])
        return mask, source

    def bed(self, image: Volume) -> np.ndarray:
        """Where the lesion was before therapy, on the grid of the image."""
        drawn = None
        if self.earlier is not None:
            before = read_scan(self.earlier, self.root)
            drawn = scan_mask(self.earlier, self.root, before)
        if drawn is None or not drawn.any():
            raise InputError(f"{self.row['mask_path']}: the mask is empty; draw the lesion or leave the image out")
        moved = moved_mask(replace(before, values=drawn.astype(np.float32)), image)
        if not moved.any():
            raise InputError(
                f"the lesion has gone, and its place in {self.earlier['mask_path']} lies outside {self.row['path']}; "
                "register the visits, or draw the bed"
            )
        return moved


def _before_therapy(row: pd.Series, images: pd.DataFrame) -> pd.Series | None:
    """The row of the same patient with a mask drawn before therapy, of the same sequence if there is one; of MRI alone."""
    if row["modality"] != "MRI" or row["timepoint"] != "post":
        return None
    own = images[(images["patient_id"] == row["patient_id"]) & (images["modality"] == "MRI")]
    before = own[own["timepoint"] == "pre"]
    first = pd.concat([before[before["sequence_or_view"] == row["sequence_or_view"]], before]).head(1)
    return first.iloc[0] if len(first) and is_given(first["mask_path"].iloc[0]) else None


def _chosen(settings: Mapping[str, Settings], row: pd.Series) -> Settings:
    modality, sequence = row["modality"], str(row["sequence_or_view"])
    name = f"{modality}/{ADC if sequence.upper() == ADC else sequence}"
    if name not in settings and modality not in settings:
        raise InputError(f"no settings were given for {name}; give some, or leave its images out")
    return settings[name if name in settings else modality]


def _remembered(task: tuple[_Case, tuple[Path, str] | None]) -> dict[str, dict[str, Any]]:
    """{ROI: {"features", "n_voxels", "source"} or {"problem"}}. task: a case, and folder and key under which it is kept; what
    may come out otherwise the next time is not kept."""
    case, kept = task
    if kept is None:
        return _measured(case)[0]
    folder, key = kept
    path = folder / re.sub(r"[^\w.-]", "-", f"{case.row['patient_id']}-{case.kind}-{key[:16]}.json")
    length = sealed_length(path, key)
    if length is not None:
        return json.loads(path.read_bytes()[:length])
    found, lasting = _measured(case)
    if lasting:
        content = json.dumps(found, indent=2)
        write_sealed(path, key, lambda temporary: temporary.write_text(content, encoding="utf-8"))
    return found


def _measured(case: _Case) -> tuple[dict[str, dict[str, Any]], bool]:
    found: dict[str, dict[str, Any]] = {}
    lasting = True
    for roi in ("lesion", f"rim-{RIM_MM:g}mm") if case.rim else ("lesion",):
        try:
            image = case.image()
            mask, source = case.lesion(image)
            if roi != "lesion":
                mask = rim_mask(mask, image.geometry.spacing_mm, RIM_MM)
            shift = (0.0, 0.0, 0.0) if case.perturb is None else case.perturb.shift(case.row["patient_id"])
            features = extract_features(image, mask, case.settings, shift)
            found[roi] = {"features": features, "n_voxels": int(mask.sum()), "source": source}
        except InputError as error:
            found[roi] = {"problem": str(error)}
        except (ValueError, RuntimeError, ArithmeticError, LookupError, AssertionError, MemoryError) as error:
            # What pyradiomics, ITK and decoders raise on odd data must not stop the other patients.
            said = (str(error).strip() or "no message").splitlines()[-1]
            found[roi] = {"problem": f"{type(error).__name__}: {said}; look at image and mask"}
            lasting = False
    return found, lasting


def _assembled(cases: Sequence[_Case], records: Sequence[dict]) -> Extraction:
    table: dict[str, dict[str, Any]] = {}
    failures, rois = [], []
    for case, record in zip(cases, records, strict=True):
        patient, image, kind = case.row["patient_id"], case.row["image_id"], case.kind
        values = table.setdefault(patient, {"patient_id": patient})
        for roi, found in record.items():
            if "problem" in found:
                # Messages of this project end with the remedy, after the last semicolon or colon.
                reason, *remedy = re.split(r"[;:] (?!.*[;:] )", found["problem"], maxsplit=1, flags=re.DOTALL)
                failures.append((patient, image, *case.parts, roi, reason, "".join(remedy)))
                continue
            rois.append((patient, image, roi, found["n_voxels"], found["source"]))
            # Sorted as they are when found again, so that a resumed run has the same columns in the same places.
            for name, value in sorted(found["features"].items()):
                values[f"{kind}__{roi}_{name}"] = value if math.isfinite(value) else math.nan
    return Extraction(
        pd.DataFrame(list(table.values()), columns=None if table else ["patient_id"]),
        pd.DataFrame(failures, columns=list(FAILURE_COLUMNS)),
        pd.DataFrame(rois, columns=list(ROI_COLUMNS)),
    )

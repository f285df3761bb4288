"""How alike two groups of images are: speckle, spectrum, histogram and noise of single images, and their comparison.

For plain 2-D arrays (rows, columns) and spacings (row, column) in mm. Reading files and choosing regions is done elsewhere,
but for whole ultrasound stills (`compare_stills`): crop to tissue first, because background, text and rulers have statistics
of their own. Alike in all of these does not mean
alike to a radiologist, who also sees anatomy; unlike in one of them names what a simulation has wrong.

Details and sources: MODEL.md in this folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.ndimage import binary_erosion, convolve1d, gaussian_filter, uniform_filter, zoom
from scipy.stats import rankdata

from alnlib.errors import InputError

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution per median absolute deviation: 1 / probit(3/4)."""

LAPLACIAN_GAIN = 6.0
"""Root of the summed squares of Immerkaer's mask [1 -2 1] x [1 -2 1]: its response to white noise of unit sd."""

SPECTRUM_SMALLEST = 16
HISTOGRAM_BINS = 64

COMPARISON_COLUMNS = (
    *("statistic", "n_real", "real_q1", "real_median", "real_q3"),
    *("n_simulated", "simulated_q1", "simulated_median", "simulated_q3", "auc"),
)

STILL_SPACING_MM = 0.2
"""Of both groups in `compare_stills`: the coarsest of a simulated still of 256 rows, so that none gains detail it never had."""

STILL_DEPTH_MM, STILL_DEPTH_SHARE, STILL_WIDTH_SHARE = (4.0, 26.0), (0.10, 0.60), (0.10, 0.90)
STILL_NARROWEST_MM = 12.0
STILL_BAND_CYCLES_PER_MM = (0.3, 2.0)
STILL_SPECKLE_WINDOW_MM = 2.0
STILL_DETREND_MM = 0.7
"""Speckle is finer than 0.7 mm, layers are coarser."""


@dataclass(frozen=True)
class Still:
    """An ultrasound still as `compare_stills` reads it, like the library's own images: (rows, columns), and its name."""

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    path: Path


@dataclass(frozen=True)
class SpeckleSnr:
    """Median over windows of local mean/sd: of plain gray levels, and of the envelope restored from them; windows used."""

    gray: float
    envelope: float
    windows: int


def speckle_snr(pixels: np.ndarray, window: int, dynamic_range_db: float = 60.0) -> SpeckleSnr:
    """Local signal-to-noise ratio of log-compressed ultrasound.

    pixels: (rows, columns) gray levels 0-255; window: side of the square window in pixels, odd, 3 or more.
    Gray level g is taken as an envelope of g * dynamic_range_db / 255 dB, so the envelope is
    10^(g * dynamic_range_db / 5100): true for plain log compression over that range, an approximation where a vendor bends
    the curve (the range is seldom known; 60 dB is our choice, and 50 gives higher values). `gray` needs no such assumption,
    but depends on gain. Windows that touch 0 or 255 are left out, since clipping hides the spread.
    A window of few speckles underestimates the spread, so the ratio comes out high: take 5 or more grain widths
    (`grain_width_mm`). Structure within a window lowers it. NaN where no window is left.
    """
    gray = _image(pixels, "pixels")
    if window < 3 or window % 2 == 0:
        raise ValueError(f"window is {window}; it must be odd and at least 3 pixels")
    if gray.min() < 0.0 or gray.max() > 255.0:
        raise ValueError("pixels must lie between 0 and 255")
    if dynamic_range_db <= 0.0:
        raise ValueError("dynamic_range_db must be positive")
    centers = _eroded((gray > 0.0) & (gray < 255.0), window)
    if not centers.any():
        return SpeckleSnr(float("nan"), float("nan"), 0)
    envelope = np.power(10.0, gray * (dynamic_range_db / 5100.0))
    return SpeckleSnr(_local_snr(gray, window, centers), _local_snr(envelope, window, centers), int(centers.sum()))


def radial_power_spectrum(image: np.ndarray, spacing_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (cycles/mm) and mean power in rings of the 2-D spectrum, up to the lower of the two Nyquist frequencies.

    The mean is removed and a Hann window applied (its energy divided out), so that borders do not leak. Power is a density,
    in squared image units times mm^2: white noise of variance s^2 has s^2 * row * column spacing at every frequency. Rings are
    one frequency step of the shorter side wide; the first, which holds the mean, is left out.
    """
    values = _image(image, "image")
    spacing = _spacing(spacing_mm)
    if min(values.shape) < SPECTRUM_SMALLEST:
        raise ValueError(f"image is {values.shape[0]} x {values.shape[1]}; a spectrum needs {SPECTRUM_SMALLEST} pixels")
    taper = np.hanning(values.shape[0] + 2)[1:-1, None] * np.hanning(values.shape[1] + 2)[None, 1:-1]
    values = (values - np.sum(values * taper) / np.sum(taper)) * taper
    density = np.abs(np.fft.rfft2(values)) ** 2 * (spacing[0] * spacing[1] / np.sum(taper**2))
    row = np.fft.fftfreq(values.shape[0], spacing[0])[:, None]
    column = np.fft.rfftfreq(values.shape[1], spacing[1])[None, :]
    frequency = np.hypot(row, column)
    step = max(1.0 / (values.shape[0] * spacing[0]), 1.0 / (values.shape[1] * spacing[1]))
    weight = np.broadcast_to(half_plane_weight(values.shape[1]), density.shape)
    nyquist = 0.5 / max(spacing)
    rings = int(round(nyquist / step))
    ring = np.rint(frequency / step).astype(int)
    inside = (ring >= 1) & (ring <= rings) & (frequency <= nyquist)
    ring, weight = ring[inside], weight[inside]
    total = np.bincount(ring, weight, rings + 1)[1:]
    sums = [np.bincount(ring, weight * values[inside], rings + 1)[1:] for values in (frequency, density)]
    full = total > 0
    return sums[0][full] / total[full], sums[1][full] / total[full]


def half_plane_weight(columns: int) -> np.ndarray:
    """(columns // 2 + 1,) weights of the stored half of a real image's spectrum: columns that stand for two count twice."""
    weight = np.full(columns // 2 + 1, 2.0)
    weight[0] = 1.0
    if columns % 2 == 0:
        weight[-1] = 1.0
    return weight


def spectral_slope(frequencies: np.ndarray, power: np.ndarray, low: float, high: float) -> float:
    """beta of power = K / f^beta between `low` and `high` (cycles/mm): Burgess, Jacobson & Judy 2001.

    Least squares of log power on log frequency, weighted by 1/f, so that every octave counts alike (our choice). Stay clear
    of the lowest two rings (window) and of the falling detector response near Nyquist. Raises ValueError where fewer than
    three frequencies lie in between or power is not positive.
    """
    used = (frequencies >= low) & (frequencies <= high)
    if used.sum() < 3:
        raise ValueError(f"{int(used.sum())} frequencies between {low} and {high} cycles/mm; at least 3 are needed")
    if (power[used] <= 0.0).any():
        raise ValueError("power must be positive (is the image constant?)")
    x, y, weight = np.log(frequencies[used]), np.log(power[used]), 1.0 / frequencies[used]
    x, y = x - np.average(x, weights=weight), y - np.average(y, weights=weight)
    return float(-np.sum(weight * x * y) / np.sum(weight * x * x))


def gray_histogram(image: np.ndarray, low: float, high: float, bins: int = HISTOGRAM_BINS) -> np.ndarray:
    """(bins,) shares of the pixels in equal bins of the common scale from `low` to `high`; beyond it, the outer bins."""
    values = _image(image, "image")
    if not low < high:
        raise ValueError(f"the scale from {low} to {high} is empty")
    at = np.clip(((values - low) / (high - low) * bins).astype(int), 0, bins - 1)
    return np.bincount(at.ravel(), minlength=bins) / at.size


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """First Wasserstein distance of two histograms of the same bins, as a share of the whole scale (0 alike, below 1).

    The mean way a pixel's gray level has to move: a shift of all levels by a tenth of the scale gives 0.1, which the
    Hellinger distance, blind to how far apart bins are, would not tell from a shift by half of it.
    """
    return float(np.abs(np.cumsum(first - second)).sum() / first.size)


def noise_sd(image: np.ndarray) -> float:
    """Standard deviation of the noise, in the image's units, from a region that is homogeneous or slowly shaded.

    Immerkaer's mask [1 -2 1] x [1 -2 1] removes planes and straight edges along the axes; the median absolute residual
    ignores what edges remain. Exact for white Gaussian noise; smooth (reconstructed, compressed) noise comes out smaller
    than its sd, so compare only images of like grain; whole gray levels give it in steps of a quarter level. The outermost
    pixels are left out.
    """
    values = _image(image, "image")
    residual = convolve1d(convolve1d(values, [1.0, -2.0, 1.0], axis=0), [1.0, -2.0, 1.0], axis=1)
    return float(MAD_TO_SD / LAPLACIAN_GAIN * np.median(np.abs(residual[1:-1, 1:-1])))


def grain_width_mm(image: np.ndarray, spacing_mm: tuple[float, float], detrend_mm: float = 2.0) -> tuple[float, float]:
    """Full width at half maximum of the autocovariance along rows' direction (axial) and columns' direction (lateral), in mm.

    The local mean (Gaussian sigma detrend_mm) is subtracted first, so that anatomy much larger than that does not count. White
    noise gives one pixel's width; Gaussian-filtered noise of sigma s gives 2 * sqrt(2 ln 2) * sqrt(2) * s = 3.33 s, slightly
    less by the detrending. NaN for a constant image.
    """
    values = _image(image, "image")
    spacing = _spacing(spacing_mm)
    values = values - gaussian_filter(values, [detrend_mm / step for step in spacing], mode="reflect")
    if not values.any():
        return float("nan"), float("nan")
    # zero padding to twice the size: no wrap-around
    shape = [2 * extent for extent in values.shape]
    covariance = np.fft.irfft2(np.abs(np.fft.rfft2(values, shape)) ** 2, shape)
    widths = []
    for axis, extent in enumerate(values.shape):
        along = (covariance[:, 0] if axis == 0 else covariance[0])[:extent] / (extent - np.arange(extent))
        below = np.flatnonzero(along < 0.5 * along[0])
        if below.size == 0:
            widths.append(float("nan"))
            continue
        last = below[0]
        part = (along[last - 1] - 0.5 * along[0]) / (along[last - 1] - along[last])
        widths.append(float(2.0 * (last - 1 + part) * spacing[axis]))
    return widths[0], widths[1]


def line_coherence(image: np.ndarray, spacing_mm: tuple[float, float], scale_mm: float = 0.5) -> float:
    """Median over the image of (l1 - l2) / (l1 + l2), l1 >= l2 the eigenvalues of the structure tensor: 0 none, 1 all lines.

    Gradients of the image smoothed by a Gaussian of sigma scale_mm, averaged over a Gaussian of three times that; noise of
    no direction gives about 0.2, coarse clouds more, since few grains lie in such a neighborhood. A margin of three times
    scale_mm is left out.
    NaN for a constant image. Raises ValueError where nothing is left.
    """
    values = _image(image, "image")
    spacing = _spacing(spacing_mm)
    if scale_mm <= 0.0:
        raise ValueError("scale_mm must be positive")
    inner, outer = ([factor * scale_mm / step for step in spacing] for factor in (1.0, 3.0))
    down = gaussian_filter(values, inner, order=(1, 0)) / spacing[0]
    across = gaussian_filter(values, inner, order=(0, 1)) / spacing[1]
    rows, columns, both = (gaussian_filter(product, outer) for product in (down * down, across * across, down * across))
    margin = [int(np.ceil(extent)) for extent in outer]
    center = tuple(slice(width, extent - width) for width, extent in zip(margin, values.shape, strict=True))
    if rows[center].size == 0:
        raise ValueError(f"image is {values.shape[0]} x {values.shape[1]}: too small for lines of {scale_mm} mm")
    energy = (rows + columns)[center]
    difference = np.hypot(rows - columns, 2.0 * both)[center]
    varied = energy > 1e-12 * max(float(np.square(values).max()), 1e-300)
    return float(np.median(difference[varied] / energy[varied])) if varied.any() else float("nan")


def image_statistics(
    image: np.ndarray,
    spacing_mm: tuple[float, float],
    scale: tuple[float, float],
    band_cycles_per_mm: tuple[float, float],
    speckle_window_mm: float | None = None,
    dynamic_range_db: float = 60.0,
    detrend_mm: float = 2.0,
) -> dict[str, float]:
    """The statistics of one image that `compare_images` compares, by name.

    scale: the common gray scale (low, high); mean, sd, noise and the shares of black and white refer to it, so that images
    of different bits compare. band_cycles_per_mm: where the spectral slope is fitted. speckle_window_mm: given for
    ultrasound on 0-255 only; adds the speckle ratios (the window becomes an odd number of pixels of the finer spacing, at
    least 3). dynamic_range_db as in `speckle_snr`, detrend_mm as in `grain_width_mm`.
    """
    values, spacing = _image(image, "image"), _spacing(spacing_mm)
    low, high = scale
    if not low < high:
        raise ValueError(f"the scale from {low} to {high} is empty")
    share = (values - low) / (high - low)
    axial, lateral = grain_width_mm(values, spacing, detrend_mm)
    found = _gray_statistics(share) | {
        "noise_sd": noise_sd(share),
        "spectral_slope": spectral_slope(*radial_power_spectrum(values, spacing), *band_cycles_per_mm),
        "grain_axial_mm": axial,
        "grain_lateral_mm": lateral,
        "line_coherence": line_coherence(values, spacing),
    }
    if speckle_window_mm is not None:
        window = max(3, 2 * int(speckle_window_mm / min(spacing) / 2.0) + 1)
        snr = speckle_snr(values, window, dynamic_range_db=dynamic_range_db)
        found |= {"speckle_snr_gray": snr.gray, "speckle_snr_envelope": snr.envelope}
    return found


def compare_images(
    real: Sequence[np.ndarray],
    simulated: Sequence[np.ndarray],
    real_spacing_mm: Sequence[tuple[float, float]],
    simulated_spacing_mm: Sequence[tuple[float, float]],
    scale: tuple[float, float],
    *settings: Any,
    **more: Any,
) -> pd.DataFrame:
    """Real against simulated images: `COMPARISON_COLUMNS`, one row per statistic of `image_statistics` and one more.

    The additional row, histogram_distance, is the distance of each image's histogram from the mean histogram of the real
    ones (for a real image, of the other real ones). Spacings: one pair per image. Other arguments as in `image_statistics`.
    Raises ValueError for fewer than two images in a group or a spacing too few.
    """
    for name, images, spacings in (("real", real, real_spacing_mm), ("simulated", simulated, simulated_spacing_mm)):
        if len(images) < 2 or len(images) != len(spacings):
            raise ValueError(f"{name}: {len(images)} images and {len(spacings)} spacings; at least 2, and one of each")
    tables = [
        pd.DataFrame([image_statistics(*pair, scale, *settings, **more) for pair in zip(images, spacings, strict=True)])
        for images, spacings in ((real, real_spacing_mm), (simulated, simulated_spacing_mm))
    ]
    return compare_statistics(*_with_histogram_distance(tables, (real, simulated), scale))


def compare_stills(real: Sequence[Still], simulated: Sequence[Still]) -> pd.DataFrame:
    """Real against simulated ultrasound stills: modality "US", then the columns of `compare_images`.

    From each still the tissue 4 to 26 mm deep in the middle 80 % of the width is taken: below the skin, above what lies
    behind the breast, away from rulers and text. It is resampled to 0.2 mm (linear, after a Gaussian where that is
    coarser) and rounded to whole gray levels. Levels above 255 are taken as 12 bits, above 4095 as 16. Stills
    without a spacing (`read_image` takes one from a table), less than 26 mm deep or 12 mm wide there are left out, and the
    columns n_real and n_simulated say how many were used. If that leaves fewer than two in a group, only what needs no mm is
    compared, on all stills: gray levels, from 10 to 60 % of the depth.
    Raises InputError for fewer than two stills in a group, and for a still with levels below 0 or above 65535.
    """
    groups = {"real": list(real), "simulated": list(simulated)}
    for name, stills in groups.items():
        if len(stills) < 2:
            raise InputError(f"{len(stills)} {name} ultrasound stills; a comparison needs at least 2 of each kind")
    scale = (0.0, 255.0)
    pairs = [[_tissue_of_still(still) for still in stills] for stills in groups.values()]
    tissue = [[crop for crop in crops if crop is not None] for crops in pairs]
    if min(map(len, tissue)) >= 2:
        spacings = [[(STILL_SPACING_MM, STILL_SPACING_MM)] * len(crops) for crops in tissue]
        settings = scale, STILL_BAND_CYCLES_PER_MM, STILL_SPECKLE_WINDOW_MM
        table = compare_images(*tissue, *spacings, *settings, detrend_mm=STILL_DETREND_MM)
    else:
        parts = [[_middle_of_still(still) for still in stills] for stills in groups.values()]
        frames = [pd.DataFrame([_gray_statistics(part / 255.0) for part in group]) for group in parts]
        table = compare_statistics(*_with_histogram_distance(frames, parts, scale))
    table.insert(0, "modality", "US")
    return table


def _tissue_of_still(still: Still) -> np.ndarray | None:
    """The tissue as `compare_stills` takes it; None where the still has no spacing or too little of it."""
    if still.spacing_mm is None:
        return None
    spacing = _spacing(still.spacing_mm)
    levels = _eight_bits(still)
    top, bottom = (int(round(depth / spacing[0])) for depth in STILL_DEPTH_MM)
    left, right = (int(round(share * levels.shape[1])) for share in STILL_WIDTH_SHARE)
    if levels.shape[0] < bottom or (right - left) * spacing[1] < STILL_NARROWEST_MM:
        return None
    levels = levels[top:bottom, left:right]
    factors = [step / STILL_SPACING_MM for step in spacing]
    levels = gaussian_filter(levels, [0.4 * max(1.0 / factor - 1.0, 0.0) for factor in factors])
    return np.clip(np.rint(zoom(levels, factors, order=1, mode="nearest", grid_mode=True)), 0.0, 255.0)


def _middle_of_still(still: Still) -> np.ndarray:
    levels = _eight_bits(still)
    rows, columns = (
        slice(*(int(round(share * extent)) for share in shares))
        for shares, extent in zip((STILL_DEPTH_SHARE, STILL_WIDTH_SHARE), levels.shape, strict=True)
    )
    return levels[rows, columns]


def _eight_bits(still: Still) -> np.ndarray:
    """(rows, columns) levels on 0-255."""
    levels = _image(still.pixels, str(still.path))
    low, high = float(levels.min()), float(levels.max())
    if low < 0.0 or high > 65535.0:
        raise InputError(
            f"{still.path}: gray levels from {low:g} to {high:g}; ultrasound has levels of 8, 12 or 16 bits: "
            "export the still as it is shown, or leave it out of images.csv"
        )
    top = next(top for top in (255.0, 4095.0, 65535.0) if high <= top)
    return levels * (255.0 / top)


def _gray_statistics(share: np.ndarray) -> dict[str, float]:
    """share: (rows, columns) gray levels as a share of the common scale."""
    return {
        "mean_gray": float(share.mean()),
        "sd_gray": float(share.std()),
        "black_share": float((share <= 0.0).mean()),
        "white_share": float((share >= 1.0).mean()),
    }


def _with_histogram_distance(
    tables: Sequence[pd.DataFrame], groups: Sequence[Sequence[np.ndarray]], scale: tuple[float, float]
) -> list[pd.DataFrame]:
    """Both tables (real, simulated) with the column histogram_distance of `compare_images`."""
    histograms, others = (np.stack([gray_histogram(image, *scale) for image in group]) for group in groups)
    total = histograms.sum(axis=0)
    rest = (total - histograms) / (len(histograms) - 1)
    own = [histogram_distance(*pair) for pair in zip(histograms, rest, strict=True)]
    theirs = [histogram_distance(one, total / len(histograms)) for one in others]
    return [table.assign(histogram_distance=values) for table, values in zip(tables, (own, theirs), strict=True)]


def compare_statistics(real: pd.DataFrame, simulated: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles of every column in both groups, and how well the column alone tells them apart.

    real, simulated: a row per image, the same columns. auc: probability that a simulated image's value exceeds a real one's
    (ties count half): 0.5 alike, 1 or 0 wholly above or below. Missing values are left out; n counts those used.
    Raises ValueError where the columns differ.
    """
    if list(real.columns) != list(simulated.columns):
        raise ValueError("real and simulated images have different statistics")
    rows = []
    for name in real.columns:
        groups = [frame[name].dropna().to_numpy(float) for frame in (real, simulated)]
        row: list[object] = [name]
        for values in groups:
            quartiles = np.quantile(values, (0.25, 0.5, 0.75)) if values.size else np.full(3, np.nan)
            row += [values.size, *map(float, quartiles)]
        rows.append((*row, _probability_above(groups[1], groups[0])))
    return pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))


def _probability_above(values: np.ndarray, reference: np.ndarray) -> float:
    """Mann-Whitney U over all pairs."""
    if not values.size or not reference.size:
        return float("nan")
    ranks = rankdata(np.concatenate([values, reference]))[: values.size].sum()
    return float((ranks - values.size * (values.size + 1) / 2.0) / (values.size * reference.size))


def _local_snr(values: np.ndarray, window: int, centers: np.ndarray) -> float:
    shifted = values - values.mean()  # keeps the difference of squares exact
    mean = uniform_filter(shifted, window)
    variance = (uniform_filter(shifted**2, window) - mean**2)[centers] * (window**2 / (window**2 - 1.0))
    spread = np.sqrt(np.maximum(variance, 0.0))
    varied = spread > 1e-9 * np.abs(values).max()
    if not varied.any():
        return float("nan")
    return float(np.median((mean[centers] + values.mean())[varied] / spread[varied]))


def _eroded(inside: np.ndarray, window: int) -> np.ndarray:
    """Pixels whose whole window (odd side) lies inside the region and inside the image."""
    line = np.ones((window, 1), bool)
    return binary_erosion(binary_erosion(inside, line), line.T)


def _image(image: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(image, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}; expected (rows, columns)")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds values that are not finite")
    return values


def _spacing(spacing_mm: tuple[float, float]) -> tuple[float, float]:
    row, column = (float(step) for step in spacing_mm)
    if not (0.0 < row < np.inf and 0.0 < column < np.inf):
        raise ValueError(f"spacing {spacing_mm} must be two positive lengths in mm")
    return row, column

#!/usr/bin/env bash
# One would guess that resampling a CT of whole Hounsfield units by splines or linearly rounds the result to whole numbers
# again. SimpleITK drops what stands after the point instead, toward zero: soft tissue (positive HU) comes out half a unit too
# low on average, fat and lung (negative HU) half a unit too high, and a value of 0 stands for everything between -1 and 1.
# The nearest neighbor has no such shift, and neither has the same image read as floats.
# Why it matters here: pyradiomics resamples what the reader gives it, and CT is stored as int16, so every gray value of a node
# or lesion is moved before it is binned, in the direction of its sign; fatty hilum and cortex come nearer to each other.
# The cure is to read the image as floats, as this project's grid laid from the lesion does.
# Versions: SimpleITK 2.5.3 and numpy 2.3.5 (also seen in 2.5.7).
# Seen: mean difference to floats -0.50 where values are positive and +0.50 where they are negative, by splines and linearly.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.3.5 SimpleITK==2.5.3
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import SimpleITK as sitk

rng = np.random.default_rng(0)
noise = sitk.DiscreteGaussian(sitk.GetImageFromArray(rng.normal(size=(20, 40, 40))), 4.0)
texture = sitk.GetArrayFromImage(noise)
hounsfield = np.rint(texture / texture.std() * 100).astype(np.int16)

def resampled(values, interpolator):
    image = sitk.GetImageFromArray(values)
    grid = sitk.Image([45, 45, 22], sitk.sitkUInt8)
    grid.SetSpacing([0.8, 0.8, 0.8])
    grid.SetOrigin([0.3, 0.3, 0.3])
    return sitk.GetArrayFromImage(sitk.Resample(image, grid, sitk.Transform(), interpolator)).astype(float)

for name in ("sitkBSpline", "sitkLinear", "sitkNearestNeighbor"):
    whole, exact = (resampled(hounsfield.astype(kind), getattr(sitk, name)) for kind in (np.int16, np.float64))
    above, below = (whole - exact)[exact > 1].mean(), (whole - exact)[exact < -1].mean()
    print(f"{name}: {above:+.3f} HU where positive, {below:+.3f} where negative; truncated: {(np.trunc(exact) == whole).all()}")
    if name == "sitkNearestNeighbor":
        assert above == below == 0
    else:
        assert np.array_equal(np.trunc(exact), whole) and -0.55 < above < -0.45 and 0.45 < below < 0.55
PYTHON
echo "As described: whole numbers are cut off after the point, toward zero."

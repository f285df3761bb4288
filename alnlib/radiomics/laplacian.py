"""The Laplacian of Gaussian of ITK at the lesion alone, with the numbers that the filter of the whole image gives there."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import SimpleITK


def laplacian_of_gaussian(
    image: SimpleITK.Image, sigma_mm: float, first: np.ndarray, size: np.ndarray
) -> SimpleITK.Image:
    """`LaplacianRecursiveGaussian` with NormalizeAcrossScale, of a box of an image, as floats of 64 bits.

    first, size: (x, y, z) of the box in voxels. The filter is a product of recursive filters along the axes (Deriche 1993), each
    a matrix, which ITK gives as its answer to single voxels; ITK itself goes over the whole image in 32 bits, with differences
    of some 1e-7 of the spread of the filtered image.
    """
    values = SimpleITK.GetArrayViewFromImage(image).astype(np.float64)
    smooth, curve = [], []
    for axis in range(3):
        rows = slice(first[axis], first[axis] + size[axis])
        step = image.GetSpacing()[axis]
        smooth.append(_operator(image.GetSize()[axis], step, sigma_mm, 0)[rows])
        curve.append(_operator(image.GetSize()[axis], step, sigma_mm, 2)[rows] / step**2)
    by_x, curved_x = values @ smooth[0].T, values @ curve[0].T
    by_xy = smooth[1] @ by_x
    curved_xy = curve[1] @ by_x + smooth[1] @ curved_x
    found = np.tensordot(curve[2], by_xy, 1) + np.tensordot(smooth[2], curved_xy, 1)
    made = SimpleITK.GetImageFromArray(found)
    made.SetSpacing(image.GetSpacing())
    made.SetDirection(image.GetDirection())
    made.SetOrigin(image.TransformIndexToPhysicalPoint([int(start) for start in first]))
    return made


@lru_cache(maxsize=64)  # lesions of a cohort share spacings and sizes
def _operator(n: int, step_mm: float, sigma_mm: float, order: int) -> np.ndarray:
    """(n, n) what each voxel of a line makes of all, of a Gaussian (order 0) or its second derivative in voxels (order 2)."""
    unit = SimpleITK.GetImageFromArray(np.eye(n))
    unit.SetSpacing((step_mm, 1.0))
    line = SimpleITK.RecursiveGaussianImageFilter()
    line.SetSigma(sigma_mm)
    line.SetOrder(order)
    line.SetDirection(0)
    line.SetNormalizeAcrossScale(True)
    return SimpleITK.GetArrayFromImage(line.Execute(unit)).T

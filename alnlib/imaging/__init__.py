"""Pixels: read, crop, resample, normalize, compare, show. Which images a cohort has is the business of `alnlib.cohorts`.

How an image becomes what a network sees is said by one `spec.CropSpec` and done in `lesions`, for every modality.

Arrays are (rows, columns), (frames, rows, columns) or (z, y, x); every pair is (row, column).
"""

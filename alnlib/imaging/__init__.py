"""Pixels: read, crop, resample, normalize, compare, show. Which images a cohort has is the business of `alnlib.cohorts`.

Arrays are (rows, columns), (frames, rows, columns) or (z, y, x); every pair is (row, column).
"""

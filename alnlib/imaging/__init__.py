"""Pixels: read, crop, resample, normalise, show. Which images a cohort has is the business of `alnlib.cohorts`.

Two-dimensional images so far; every array is (rows, columns) and every pair (row, column).
"""

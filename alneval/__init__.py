"""Statistics of predictions: discrimination, calibration, clinical utility, comparisons, readers.

Everything here reads labels and scores; pixels, models and figures live elsewhere.
"""

"""Statistics of predictions: discrimination, calibration, clinical utility, comparisons, readers, audits, and their figures.

Everything here reads labels, scores and patients (`units.Units`) and gives values with intervals (`estimate.Estimate`);
pixels and models live elsewhere, and neither torch nor a reader of images is imported. Of `alnlib` only `errors` and
`files` are.
"""

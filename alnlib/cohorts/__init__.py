"""Cohorts: what one is, where the public ones come from, how they are checked, counted and described.

Nothing is imported here; pixels are read in `alnlib.imaging`, simulated patients are made in `alnsim`, splits in
`alneval.folds`.
"""

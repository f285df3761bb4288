"""Cohorts: what one is, where the public and simulated ones come from, how they are split, counted and described.

Nothing is imported here; pixels are read in `alnlib.imaging`.
"""

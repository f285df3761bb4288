"""Cohorts: what one is, where the public ones come from, how they are checked and counted.

Folders with the older spellings (`folder.OLDER_KEYS`, `OLDER_COLUMNS`) are still read.

Nothing is imported here; pixels are read in `alnlib.imaging`, simulated patients are made in `alnsim`, splits in
`alneval.folds`, Table 1 in `alneval.table_one`.
"""

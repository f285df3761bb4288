"""Cohorts: what one is, where the public ones come from, how they are checked and counted.

`intake` makes a cohort of a hospital's folder (`scan`) and table (`sheet`), without identities (`deidentify`).

Folders with the older spellings (`folder.OLDER_KEYS`, `OLDER_COLUMNS`) are still read.

Nothing is imported here; pixels are read in `alnlib.imaging` (of these modules only `intake` asks for them), simulated
patients are made in `alnsim`, splits in `alneval.folds`, Table 1 in `alneval.table_one`.
"""

"""How results are shown beside what was published: the ledger of claims, reporting checklists, the numbers in README.

Figures and tables of the evaluation live in `alneval`; published numbers in `alnlib.studies`.
"""

"""How results are shown beside what was published: the ledger of claims, reporting checklists, the numbers in README.

What a run's files say is gathered in `facts`. Figures and tables of the evaluation live in `alneval`;
published numbers in `alnlib.studies`.
"""

"""The report of a run as pages: the front page, notebooks, tables, figures, kept models, the explorer and the risk page.

Nothing is computed here that a notebook did not write, but for what the explorer and the risk page compute in the browser.
The shell of every page and the explorer live in `alneval.site`.
"""

FIRST_PAGE = "site/index.html"
"""In a run's folder; site/ is made by every run and not committed."""

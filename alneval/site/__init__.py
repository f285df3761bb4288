"""Pages that open from disk and from any web server: their shell and style, the explorer of thresholds, an evaluation's own.

No page asks for anything beyond its folder. Numbers come from tables that stand elsewhere; a run's pages are made in
`alnlib.report.site`. `static/evaluator.js` is the arithmetic of the explorer, which a test holds to that of `alneval`.
"""

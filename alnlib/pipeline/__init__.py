"""How notebooks become results: environment, stage table, freshness, execution, provenance and the command line.

What a stage computes lives in its notebook and in the other packages; what a thing was made from, in `alnlib.memo`.
"""

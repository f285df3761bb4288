"""How notebooks become results: environment, stage table, cache, execution, provenance and the command line.

What a stage computes lives in its notebook and in the other packages of alnlib.
"""

"""Handcrafted image features: extraction with pyradiomics, stability under redrawn contours, selection as pipeline steps,
and the figures of both.

Learners are in `alnlib.models`; networks, whose features are called deep, too.
"""

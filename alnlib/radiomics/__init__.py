"""Handcrafted image features: extraction with pyradiomics, stability under redrawn contours, selection as pipeline steps.

Learners are in `alnlib.models`; networks, whose features are called deep, too.
"""

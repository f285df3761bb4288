"""Fitted models kept as files, and used on new patients without fitting anything again.

A kept model is a folder: a card that says what it is, its parameters as numbers (JSON, or tensors that torch reads without
running code), and whom it knows. `card` writes and finds them, `equation`, `network`, `features` and `fusion` are what they can
be, `apply` scores a cohort. Models are fitted in `alnlib.models` and `alnlib.training`; nothing is imported here.
"""

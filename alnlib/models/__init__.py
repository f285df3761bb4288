"""Models: clinical logistic models and their nomogram, networks of two, two and a half and three dimensions, learners, fusion.

How networks are fitted lives in `alnlib.training`; nothing is imported here, so that tables never pay for torch.
"""

"""Models: the clinical logistic models and their nomogram, and the 2-D networks.

How networks are fitted lives in `alnlib.training`; nothing is imported here, so that tables never pay for torch.
"""

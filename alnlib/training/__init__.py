"""Training of networks: crops in memory, augmentation on the device, a resumable fit, out-of-fold scores.

The networks themselves live in `alnlib.models`; nothing is imported here, so that tables never pay for torch.
"""

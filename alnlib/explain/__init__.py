"""Explanations: where a network looks, whether it relies on that, and what lies there.

Grad-CAM is in `gradcam`, tests of its faithfulness in `faithfulness`, shares of heat per anatomical region in `regions`,
what is drawn of them in `figures`. Which crop a network saw is read from the specification that its stage wrote.
Nothing is imported here, so that tables never pay for torch.
"""

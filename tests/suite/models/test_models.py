from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from suite.models.resnet import cifar_resnet, resnet18
from suite.models.small import digits_cnn
from suite.seeds import NormalStream, Streams

BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "digits_cnn": digits_cnn,
    "resnet8": lambda: cifar_resnet(8),
    "resnet20": lambda: cifar_resnet(20),
    "resnet18": resnet18,
}
# ResNet-20 of He et al. 2016 has 269,722; projections in place of zero padding add 2,752.
N_PARAMS = {"digits_cnn": 9_978, "resnet8": 78_042, "resnet20": 272_474, "resnet18": 11_173_962}


@pytest.mark.parametrize("name", BUILDERS)
def test_parameter_counts_and_outputs(name: str) -> None:
    model = BUILDERS[name]().to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    assert sum(p.numel() for p in model.parameters()) == N_PARAMS[name]
    shape = (2, 1, 8, 8) if name == "digits_cnn" else (2, 3, 32, 32)
    with torch.no_grad():
        assert model(torch.zeros(shape)).shape == (2, 10)


@pytest.mark.parametrize("depth", [8, 20, 32])
def test_depth_counts_the_layers_with_weights(depth: int) -> None:
    layers = [m for m in cifar_resnet(depth).modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [m for m in layers if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(shortcuts) == 2
    assert len(layers) - len(shortcuts) == depth


@pytest.mark.parametrize("depth", [2, 9, 18])
def test_depths_that_are_not_6n_plus_2_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match="6n"):
        cifar_resnet(depth)


def test_resolution_is_that_of_small_images() -> None:
    """32 x 32 until the second stage: a stem of stride 2 or a max-pool would show here."""
    for model, first in ((cifar_resnet(8), 3), (resnet18(), "layer1")):
        layer = model[first] if isinstance(first, int) else getattr(model, first)  # type: ignore[index]
        sizes: list[int] = []
        layer.register_forward_hook(lambda m, i, out, sizes=sizes: sizes.append(out.shape[-1]))
        model(torch.zeros(2, 3, 32, 32))
        assert sizes == [32]


def test_width_scales_every_stage() -> None:
    for width in (4, 64):
        channels = {
            m.out_channels for m in cifar_resnet(8, width=width).modules() if isinstance(m, nn.Conv2d)
        }
        assert channels == {width, 2 * width, 4 * width}


@pytest.mark.parametrize("name", ["digits_cnn", "resnet8"])
def test_initial_weights_are_a_function_of_the_init_stream(name: str) -> None:
    def build(seed: int) -> torch.Tensor:
        Streams(seed).seed_global("init")
        return torch.cat([p.flatten() for p in BUILDERS[name]().parameters()]).detach()

    one = build(3)
    torch.rand(11)
    NormalStream(3).fill_(torch.empty(100), 0)  # what a perturbing optimizer draws
    assert torch.equal(one, build(3))
    assert not torch.equal(one, build(4))


def test_convolutions_start_with_the_variance_of_he() -> None:
    torch.manual_seed(0)
    for model in (cifar_resnet(20), resnet18()):
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
                fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1]
                expected = (2 / fan_out) ** 0.5
                # The relative standard error of a standard deviation of n normals is sqrt(1 / 2n).
                tolerance = 5 * (0.5 / layer.weight.numel()) ** 0.5
                assert float(layer.weight.detach().std()) == pytest.approx(expected, rel=tolerance)

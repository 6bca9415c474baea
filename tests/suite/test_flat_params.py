import pytest
import torch
from torch import Tensor, nn

from suite.errors import SteppeError
from suite.flat_params import NOISE_SCALES, FlatParams


def network(channels_last: bool = False) -> nn.Module:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 5))
    return model.to(memory_format=torch.channels_last) if channels_last else model


def copies(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("channels_last", [False, True])
def test_values_and_memory_order_survive(channels_last: bool) -> None:
    model = network(channels_last)
    before = copies(model)
    flat = FlatParams(model.parameters())
    for p, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, old)
        assert p.stride() == old.stride()
    assert flat.theta.shape == (sum(p.numel() for p in before),)
    flat.theta.mul_(2.0)  # the buffer is the weights
    assert all(torch.equal(p, 2.0 * old) for p, old in zip(model.parameters(), before, strict=True))


def test_save_and_restore_are_exact() -> None:
    model = network()
    flat = FlatParams(model.parameters())
    before = copies(model)
    flat.save()
    flat.theta.add_(1e9)
    flat.restore()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_attach_puts_the_parameters_elsewhere_and_back() -> None:
    model = network()
    flat = FlatParams(model.parameters())
    other = torch.zeros_like(flat.theta)
    flat.attach(flat.views(other))
    assert all(not p.any() for p in model.parameters())
    flat.attach()
    assert all(
        p.data_ptr() == view.data_ptr()
        for p, view in zip(model.parameters(), flat.views(flat.theta), strict=True)
    )


def test_gather_takes_moved_parameters_back() -> None:
    model = network()
    flat = FlatParams(model.parameters())
    for p in model.parameters():
        p.data = p.data.clone() + 1.0
    moved = copies(model)
    flat.gather()
    assert all(torch.equal(view, old) for view, old in zip(flat.views(flat.theta), moved, strict=True))


@pytest.mark.parametrize("channels_last", [False, True])
def test_flatten_pairs_elements_whatever_their_memory_order(channels_last: bool) -> None:
    model = network(channels_last)
    flat = FlatParams(model.parameters())
    tensors = [p.detach().contiguous().clone() for p in model.parameters()]  # row-major
    assert torch.equal(flat.flatten(tensors), flat.theta)
    out = torch.empty_like(flat.theta)
    assert flat.flatten(tensors, out) is out


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", NOISE_SCALES)
def test_noise_scales(kind: str, channels_last: bool) -> None:
    model = network(channels_last)
    flat = FlatParams(model.parameters())
    flat.save()
    clean = copies(model)
    flat.theta.zero_()  # scales depend on the saved weights, not on the current ones
    ones = flat.scale_noise_(torch.ones_like(flat.theta), kind)
    for scale, p in zip(flat.views(ones), clean, strict=True):
        if kind == "absolute":
            expected = torch.ones_like(p)
        elif kind == "element":
            expected = p.abs()
        elif kind == "filter" and p.dim() > 1:
            expected = p.flatten(1).norm(dim=1).view(-1, *(1 for _ in p.shape[1:])).expand_as(p)
        else:
            expected = (p.norm() + 1e-16).expand_as(p)
        torch.testing.assert_close(scale, expected, rtol=1e-6, atol=0)  # float32 norms


def test_scales_are_renewed_by_save() -> None:
    model = network()
    flat = FlatParams(model.parameters())
    flat.save()
    first = flat.scale_noise_(torch.ones_like(flat.theta), "tensor")
    flat.theta.mul_(2.0)
    assert torch.equal(flat.scale_noise_(torch.ones_like(flat.theta), "tensor"), first)
    flat.save()
    torch.testing.assert_close(flat.scale_noise_(torch.ones_like(flat.theta), "tensor"), 2.0 * first)


def test_mistakes_are_one_line() -> None:
    p = nn.Parameter(torch.ones(2))
    flat = FlatParams([p])
    flat_unsaved = FlatParams([nn.Parameter(torch.ones(2))])
    flat.save()
    for mistake in (
        lambda: FlatParams([]),
        lambda: FlatParams([p, p]),
        lambda: FlatParams([p, nn.Parameter(torch.ones(2, dtype=torch.float64))]),
        lambda: flat.scale_noise_(torch.ones(2), "row"),
        flat_unsaved.restore,
    ):
        with pytest.raises(SteppeError) as error:
            mistake()
        assert "\n" not in str(error.value)

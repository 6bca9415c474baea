import pytest
import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.numerics.dropout import SharedDropout, share_dropout
from suite.objective import BatchObjective
from suite.problem import ClassificationLoss
from suite.seeds import Streams

N = 10


class DropPath(nn.Module):
    """As timm's: whole examples of a residual branch are dropped."""

    def __init__(self, drop_prob: float | None = None) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        raise AssertionError("must be replaced")


def masks(
    layer: nn.Module, step: int = 0, slices: int = 1, shape: tuple[int, ...] = (3, 4, 4), seed: int = 0
) -> Tensor:
    """The mask that one step applies, read off ones in as many slices as asked."""
    model = nn.Sequential(layer)
    (shared,) = share_dropout(model)
    model.train()
    shared.begin_step(N)
    rows = []
    for part in range(slices):
        low, high = part * N // slices, (part + 1) * N // slices
        shared.begin_pass(low, high, Streams(seed), step)
        rows.append(model(torch.ones(high - low, *shape)))
    return torch.cat(rows)


LAYERS = [
    (nn.Dropout(0.4), None),
    (nn.Dropout2d(0.4), 2),
    (DropPath(0.4), 1),
]


@pytest.mark.parametrize(("layer", "dims"), LAYERS, ids=["Dropout", "Dropout2d", "DropPath"])
def test_slices_hand_out_the_rows_of_one_mask(layer: nn.Module, dims: int | None) -> None:
    whole = masks(layer)
    for slices in (2, 3, 10):
        assert torch.equal(masks(layer, slices=slices), whole)
    assert not torch.equal(masks(layer, step=1), whole)
    assert not torch.equal(masks(layer, seed=1), whole)
    # Kept values are scaled by 1 / (1 - p), dropped ones are 0.
    assert whole.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    if dims is not None:
        flat = whole.flatten(dims)
        assert torch.equal(flat, flat[..., :1].expand_as(flat))
        assert len(flat.flatten(0, -2)[:, 0].unique()) == 2


def test_the_share_that_is_kept_and_its_mean() -> None:
    mask = masks(nn.Dropout(0.25), shape=(10, 20, 20))
    # 40,000 draws: standard errors 0.0022 of the share and 0.0029 of the mean; four of them, at a fixed seed.
    assert abs(float((mask > 0).float().mean()) - 0.75) < 0.009
    assert abs(float(mask.mean()) - 1.0) < 0.012


def test_layers_and_repeated_uses_get_masks_of_their_own() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)
            self.other = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.drop(x), self.drop(x), self.other(x)])

    model = Twice()
    layers = share_dropout(model)
    assert len(layers) == 2
    for layer in layers:
        layer.begin_step(N)
    passes = []
    for _ in range(2):
        for layer in layers:
            layer.begin_pass(0, N, Streams(0), 0)
        passes.append(model(torch.ones(N, 50)))
    assert torch.equal(passes[0], passes[1])
    one, two, three = passes[0]
    assert not torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_layer_shared_by_two_modules_is_replaced_everywhere() -> None:
    drop = nn.Dropout(0.5)
    model = nn.ModuleList([nn.Sequential(drop, nn.ReLU(), drop), nn.Sequential(drop)])
    share_dropout(model)
    assert [type(layer) for layer in model[0]] == [SharedDropout, nn.ReLU, SharedDropout]
    assert isinstance(model[1][0], SharedDropout)


def test_sharing_twice_keeps_the_layers() -> None:
    model = nn.Sequential(nn.Dropout(0.1), nn.Dropout2d(0.2))
    first = share_dropout(model)
    assert share_dropout(model) == first


def test_eval_mode_and_zero_are_the_identity() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.0))
    share_dropout(model)
    x = torch.randn(4, 3)
    assert torch.equal(model.eval()(x), x)
    zero = nn.Sequential(nn.Dropout(0.0))
    share_dropout(zero)
    assert torch.equal(zero.train()(x), x)
    never = nn.Sequential(DropPath(None))
    share_dropout(never)
    assert torch.equal(never.train()(x), x)


def test_alpha_dropout_is_left_as_it_is_and_repeats_within_a_step() -> None:
    model = nn.Sequential(nn.AlphaDropout(0.5), nn.Linear(6, 2))
    assert share_dropout(model) == []
    bound = BatchObjective(model, ClassificationLoss(), Streams(0))
    bound.load(0, Batch(inputs=torch.randn(8, 6), targets=torch.arange(8) % 2))
    with torch.random.fork_rng(devices=[]):
        assert torch.equal(bound(), bound())


def test_a_shared_layer_keeps_its_mode_and_adds_no_parameter() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)).eval()
    keys = list(model.state_dict())
    (layer,) = share_dropout(model)
    assert not layer.training
    assert list(model.state_dict()) == keys


def test_opposite_perturbations_see_one_mask() -> None:
    # What protocol rule 19 is for: with one mask the first-order terms of +u and -u cancel.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 2)).double()
    bound = BatchObjective(model, ClassificationLoss(), Streams(1))
    inputs = torch.randn(12, 8, dtype=torch.float64)
    bound.load(0, Batch(inputs=inputs, targets=torch.arange(12) % 2))
    weight = model[1].weight
    clean, u = weight.detach().clone(), 1e-4 * torch.randn_like(weight)
    losses = []
    for sign in (0, 1, -1):
        with torch.no_grad():
            weight.copy_(clean + sign * u)
        losses.append(float(bound()))
    # Second order: |u|^2 / 2 times a curvature of order 1, so 1e-6; another mask would differ by 1e-2.
    assert abs((losses[1] + losses[2]) / 2 - losses[0]) < 1e-6

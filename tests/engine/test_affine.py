"""Affine maps: f(x) = A x + c, derivatives by other means, what holds inside a polytope and across one boundary."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polykern as pk
from polykern.affine import affine_map, affine_maps, boundary_distances
from polykern.affine.boundaries import normals
from polykern.errors import UsageError
from polykern.lines import float64_tail
from polykern.points import codes_of
from polykern.tail import Tail
from tests.engine.line_truth import mlp, pre_activations
from tests.worlds import random_network


def close(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to what is compared or 1."""
    return float((a - b).abs().max() / (1 + b.abs().max()))


def jacobian(model: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """float64 (outputs, inputs), by torch alone."""
    found: Tensor = torch.autograd.functional.jacobian(lambda y: model(y[None])[0], x)
    return found.reshape(-1, x.numel())


@pytest.fixture(scope="module")
def digits() -> pk.Subject:
    return pk.load("digits")


# --- A x + c = f(x) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_the_map_is_the_network_at_its_point(seed: int) -> None:
    """Convolutions, pools, residuals, concatenations, one and two thresholds."""
    network = random_network(seed)
    model, points = network.model.double(), network.points(3, seed).double()
    for x, found in zip(points, affine_maps(model, points), strict=True):
        with torch.no_grad():
            assert close(found(x[None]), model(x[None].clone())) < 1e-12
        assert found(points[:0]).shape == (0, *found.output_shape)
        assert found.matrix.shape == (found.offset.numel(), x.numel())


def test_the_map_of_the_digits_network(digits: pk.Subject) -> None:
    points = digits.inputs(range(8))[0].double()
    tail = float64_tail(digits, points[0])
    for x, found in zip(points, affine_maps(digits, points), strict=True):
        assert close(found(x[None]), tail.model(x[None])) < 1e-12
        assert close(found.matrix, jacobian(tail.model, x)) < 1e-12
    inner = affine_map(digits, torch.rand(32, 4, 4), start="conv3", stop="pool2")
    assert (inner.input_shape, inner.output_shape) == ((32, 4, 4), (64, 2, 2))
    assert inner.matrix.shape == (256, 512)


@pytest.mark.parametrize("widths", [[3, 20, 20, 50], [50, 20, 20, 3], [4, 9, 4]])
def test_both_directions_of_derivatives(widths: list[int]) -> None:
    model, _ = mlp(widths, 1)
    x = torch.randn(widths[0], dtype=torch.float64)
    found = affine_map(model, x)
    assert close(found.matrix, jacobian(model, x)) < 1e-14
    assert close(found(x[None]), model(x[None])) < 1e-14


def test_batches_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network(2)
    points = network.points(4, 0)
    whole = affine_maps(network.model, points)
    monkeypatch.setattr("polykern.affine.maps.MEMORY", 32 * 3000)
    for a, b in zip(whole, affine_maps(network.model, points), strict=True):
        assert close(a.matrix, b.matrix) < 1e-13


# --- smooth networks -----------------------------------------------------------------------------------


class NewGELUActivation(nn.Module):
    """Written out in arithmetic, as transformers has it."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1.0 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


GATED: list[Callable[[], nn.Module]] = [
    nn.GELU,
    lambda: nn.GELU("tanh"),
    nn.SiLU,
    nn.Mish,
    lambda: nn.ELU(0.7),
    lambda: nn.CELU(1.3),
    nn.SELU,
    nn.Hardswish,
    NewGELUActivation,
    lambda: nn.SiLU(inplace=True),
    nn.ReLU6,
]


@pytest.mark.parametrize("make", GATED, ids=lambda make: repr(make()))
def test_gates_are_frozen_and_derivatives_are_torchs(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(5, 24), make(), nn.Linear(24, 24), make(), nn.Linear(24, 3)]
    model = nn.Sequential(*layers).double().eval().requires_grad_(False)
    x = 2 * torch.randn(5, dtype=torch.float64)
    with torch.no_grad():
        soft, slope = (affine_map(model, x, kind=kind) for kind in ("interpolated", "jacobian"))
        for found in (soft, slope):
            assert close(found(x[None]), model(x[None])) < 1e-12
    assert close(slope.matrix, jacobian(model, x)) < 1e-12
    hard = isinstance(layers[1], nn.ReLU6)
    assert (close(soft.matrix, slope.matrix) < 1e-12) == hard


def test_the_interpolated_map_is_the_product_of_weights_and_gates() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 9), nn.GELU(), nn.Linear(9, 2)).double().eval().requires_grad_(False)
    x = torch.randn(4, dtype=torch.float64)
    first, last = model[0], model[2]
    z = first(x)
    q = torch.special.ndtr(z)
    found = affine_map(model, x, kind="interpolated")
    assert close(found.matrix, last.weight @ (q[:, None] * first.weight)) < 1e-14
    assert close(found.offset, last.weight @ (q * first.bias) + last.bias) < 1e-14


class Attends(nn.Module):
    """A norm, an attention over four tokens and a gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(6), nn.Linear(6, 18)
        self.gate, self.up, self.down = nn.Linear(6, 10), nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + torch.softmax(torch.matmul(q, k.transpose(1, 2)), -1).matmul(v)
        out: Tensor = x + self.down(F.silu(self.gate(x)) * self.up(x))
        return out


def test_the_jacobian_of_any_network() -> None:
    torch.manual_seed(1)
    model = Attends().double().eval().requires_grad_(False)
    x = torch.randn(4, 6, dtype=torch.float64)
    found = affine_map(model, x, kind="jacobian")
    assert close(found.matrix, jacobian(model, x)) < 1e-12
    assert close(found(x[None]), model(x[None])) < 1e-12
    for kind in ("exact", "interpolated"):
        with pytest.raises(UsageError, match="layer_norm is not piecewise linear"):
            affine_map(model, x, kind=kind)


# --- polytopes -----------------------------------------------------------------------------------------


def test_points_with_equal_codes_share_their_map() -> None:
    """Choices of max-pools included."""
    shared = 0
    for seed in range(12):
        network = random_network(seed)
        x = network.points(1, seed).double()
        near = x + 1e-3 * torch.randn(12, *x.shape[1:], dtype=torch.float64)
        codes = codes_of(network.model.double(), torch.cat([x, near]), pools=True)
        maps = affine_maps(network.model, torch.cat([x, near]))
        for k in range(1, 13):
            if int(codes[[0]].aligned(codes[[k]])) == 0:
                shared += 1
                assert close(maps[k].matrix, maps[0].matrix) < 1e-12
                assert close(maps[k].offset, maps[0].offset) < 1e-12
    assert shared > 30


def test_other_codes_have_other_maps() -> None:
    model, _ = mlp([3, 30, 30, 4], 0)
    points = torch.randn(20, 3, dtype=torch.float64)
    codes, maps = codes_of(model, points), affine_maps(model, points)
    apart = codes.distances()[0, 1:] > 0
    differ = torch.tensor([float((m - maps[0]).matrix.norm()) > 1e-9 for m in maps[1:]])
    assert torch.equal(apart, differ)


def stepped(x: Tensor, step: Tensor, share: float) -> Tensor:
    return x + share * step


def flipped(network: Tail | nn.Module, x: Tensor, step: Tensor) -> tuple[list[int], list[int]]:
    """The bits that differ from x at 0.99 and at 1.01 of a step."""
    bits = codes_of(network, torch.stack([x, stepped(x, step, 0.99), stepped(x, step, 1.01)])).bits()
    return (bits[1] ^ bits[0]).nonzero()[:, 0].tolist(), (bits[2] ^ bits[0]).nonzero()[:, 0].tolist()


def test_the_nearest_boundary_flips_its_neuron_and_no_other(digits: pk.Subject) -> None:
    model, _ = mlp([6, 40, 40, 30, 3], 3)
    worlds: list[tuple[Tail, Tensor]] = [
        (float64_tail(model, torch.zeros(6)), 2 * torch.randn(25, 6, dtype=torch.float64)),
        (float64_tail(digits, torch.zeros(1, 8, 8)), digits.inputs(range(15))[0].double() + 0.01),
    ]
    for tail, points in worlds:
        for x in points:
            found = boundary_distances(tail, x)
            near = float(found.distance[found.nearest])
            assert float(found.step.norm()) == pytest.approx(near, rel=1e-9)
            assert flipped(tail, x, found.step) == ([], [found.nearest])


def test_across_one_boundary_the_map_changes_by_rank_one() -> None:
    for seed in range(6):
        model, _ = mlp([6, 30, 30, 24, 5], seed)
        x = 2 * torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = boundary_distances(model, x)
        field, unit = found.neuron(found.nearest)
        here, there = affine_maps(model, torch.stack([x, stepped(x, found.step, 1.01)]))
        values = torch.linalg.svdvals((there - here).matrix)
        assert values[0] > 1e-6
        assert values[1] < 1e-12 * values[0]
        # its size is that of the neuron's weights times that of what the neuron does to the output
        layer = [f.module for f in found.layout.fields].index(field.module)
        before, behind = model[: 2 * layer + 2], model[2 * layer + 2 :].eval()
        out = affine_map(behind, before(x)).matrix[:, unit]
        assert float(values[0]) == pytest.approx(float(out.norm() * found.steep[found.nearest]), rel=1e-9)


def test_gaps_and_gradients_are_those_of_the_pre_activations() -> None:
    for seed in (0, 4, 8, 11):
        network = random_network(seed)
        x = network.points(1, seed).double()[0]
        tail = Tail(network.model, network.sample).to(torch.float64)
        found = boundary_distances(tail, x)
        z, _ = pre_activations(tail, x[None])
        assert close(found.gap, z[0]) < 1e-13
        bits = torch.arange(0, found.layout.bits, 7)
        every = normals(tail, x, bits).flatten(1)
        assert close(found.steep[bits], every.norm(dim=1)) < 1e-12
        axes = 1e-7 * torch.eye(x.numel(), dtype=torch.float64)[[0, 3]].view(2, *x.shape)
        moved, _ = pre_activations(tail, x + axes)
        assert bool((moved > 0).eq(z > 0).all())
        assert close((moved - z)[:, bits] / 1e-7, every[:, [0, 3]].T) < 1e-5
        assert bool((found.distance[found.steep == 0] == torch.inf).all())


def test_a_network_that_does_not_move_has_no_boundary() -> None:
    still = nn.Linear(3, 4, dtype=torch.float64)
    still.weight.data.zero_()
    found = boundary_distances(nn.Sequential(still, nn.ReLU()).eval(), torch.ones(3))
    assert bool((found.distance == torch.inf).all())
    assert bool((found.step == 0).all())


# --- refusals ------------------------------------------------------------------------------------------


def test_refusals(digits: pk.Subject) -> None:
    smooth = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval()
    soft = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 2)).eval()
    x = torch.zeros(3)
    with pytest.raises(UsageError, match=r'gelu is smooth\n.*\nkind="jacobian".*kind="interpolated"'):
        affine_map(smooth, x)
    with pytest.raises(UsageError, match="gelu is smooth"):
        boundary_distances(smooth, x)
    with pytest.raises(UsageError, match="softplus is no product of its input and a gate"):
        affine_map(soft, x, kind="interpolated")
    with pytest.raises(UsageError, match="no kind of map is called 'soft'"):
        affine_map(smooth, x, kind="soft")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the point has shape \\[3\\], the input of the model has \\[1, 8, 8\\]"):
        affine_map(digits, x)
    with pytest.raises(UsageError, match="the point holds NaN"):
        boundary_distances(digits, torch.full((1, 8, 8), float("nan")))
    with pytest.raises(UsageError, match="maps between different spaces"):
        affine_map(soft, x, kind="jacobian") - affine_map(digits, torch.zeros(1, 8, 8))
    assert affine_maps(digits, torch.zeros(0, 1, 8, 8)) == []

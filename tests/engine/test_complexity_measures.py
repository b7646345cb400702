"""Measures of complexity against slow references: the published function, loops, counted breakpoints."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import polykern as pk
from polykern.boundaries.checkpoints import course
from polykern.boundaries.gradients import boundary_density, jacobian_norms
from polykern.boundaries.local import frame, local_complexity, vertices
from polykern.boundaries.trajectories import circle, loop, transitions
from polykern.errors import CorruptError, UsageError
from polykern.lines import crossings
from polykern.points import codes_of
from polykern.tail import Tail
from tests.worlds import random_network


def mlp(widths: Sequence[int], act: Callable[[], nn.Module] = nn.ReLU, seed: int = 0) -> nn.Sequential:
    """Random weights and biases, float64."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1]).double().eval()


def published(model: nn.Module, x: Tensor, axes: Tensor, r: float, centre: bool = False) -> list[list[int]]:
    """Humayun et al.: vertices through the model, signs before its activations, any vertex against the first.

    Written anew with hooks, loops and torch.sign, one point at a time.
    """
    seen: list[Tensor] = []
    acts = [m for m in model.modules() if isinstance(m, nn.ReLU | nn.GELU)]
    axes = axes.to(x.dtype)
    handles = [m.register_forward_pre_hook(lambda _, args: seen.append(torch.sign(args[0]).clone())) for m in acts]
    counts = []
    for point in x:
        seen.clear()
        hull = [point + r * v.view_as(point) for v in axes] + [point - r * v.view_as(point) for v in axes]
        with torch.no_grad():
            model(torch.stack(hull + [point] * centre))
        counts.append([int((s[1:] != s[:1]).any(0).sum()) for s in seen])
    for handle in handles:
        handle.remove()
    return counts


@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("centre", [False, True])
def test_local_complexity_is_the_published_function(act: Callable[[], nn.Module], centre: bool) -> None:
    model, x, axes = mlp([9, 20, 30, 10, 4], act), torch.randn(6, 9, dtype=torch.float64), frame(5, 9, seed=3)
    radii = [0.03, 0.3, 3.0]
    found = local_complexity(model, x, radii, directions=axes, centre=centre)
    assert found.counts.shape == (3, 3, 6)
    for counts, r in zip(found.counts, radii, strict=True):
        assert counts.T.tolist() == published(model, x, axes, r, centre)
    assert found.total.sum() > 50
    assert torch.equal(found.total, found.counts.sum(1))
    assert torch.allclose(found.shares[:, 1], found.counts[:, 1].double() / 30)


def test_local_complexity_of_the_digits_network() -> None:
    """Convolutions and max-pools, float64 and float32, against the function written anew."""
    subject = pk.load("digits")
    x, axes = subject.inputs(["0", "7"])[0], frame(4, 64)
    model = copy.deepcopy(subject.model).double()
    assert codes_of(subject.model, x).words.shape == (2, 164)
    found = local_complexity(subject.model, x, [0.02], directions=axes)
    assert found.counts[0].T.tolist() == published(model, x.double(), axes, 0.02)
    rounded = local_complexity(subject.model, x, [0.02], directions=axes, dtype=torch.float32)
    assert int((rounded.counts - found.counts).abs().max()) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_any_network_is_looked_at(seed: int) -> None:
    """Counts of random graphs, from inner modules too, are bits that differ between codes of vertices."""
    network = random_network(seed, piecewise_linear=seed % 2 == 0)
    tail = Tail(network.model, network.sample, network.starts[-1]).to(torch.float64)
    x = torch.randn(3, *tail.input_shape, generator=torch.Generator().manual_seed(seed))
    axes = frame(1, x[0].numel(), seed=seed)
    found = local_complexity(tail, x, [0.2], directions=axes)
    for k in range(3):
        bits = codes_of(tail, vertices(x[k : k + 1], axes, 0.2)[0]).bits()
        differing = bits.any(0) & ~bits.all(0)
        each = [int(differing[f.offset : f.offset + f.bits].sum()) for f in tail.layout.fields]
        assert found.counts[0, :, k].tolist() == each


def test_the_first_layer_is_its_closed_form_and_grows_with_the_radius() -> None:
    model, x, axes = mlp([7, 200, 3]), torch.randn(20, 7, dtype=torch.float64), frame(3, 7)
    radii = [0.01, 0.1, 0.5, 1.0, 5.0]
    found = local_complexity(model, x, radii, directions=axes).counts[:, 0]
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    reach = (layer.weight @ axes.T).abs().amax(1)
    closed = torch.stack([(layer(x).abs() < r * reach).sum(1) for r in radii])
    assert torch.equal(found.long(), closed)
    assert bool((found.diff(dim=0) >= 0).all())
    assert int(found[-1].sum()) > int(found[0].sum()) > 0


def test_a_pre_activation_of_zero_is_like_a_negative_one() -> None:
    """Where the published function has a third state: one vertex on the boundary, the other below it."""
    layer = nn.Linear(1, 1).double()
    model, x, axes = nn.Sequential(layer, nn.ReLU()).eval(), torch.zeros(1, 1, dtype=torch.float64), frame(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        for bias, ours, theirs in ((-1.0, 0, 1), (1.0, 1, 1), (0.0, 1, 1), (2.0, 0, 0)):
            layer.bias.fill_(bias)
            assert int(local_complexity(model, x, [1.0], directions=axes).counts) == ours
            assert published(model, x, axes, 1.0) == [[theirs]]


def test_frames_are_orthonormal_and_seeded() -> None:
    axes = frame(6, 11, seed=2)
    assert torch.allclose(axes @ axes.T, torch.eye(6, dtype=torch.float64))
    assert torch.equal(axes, frame(6, 11, seed=2))
    assert not torch.allclose(axes, frame(6, 11, seed=3))
    heads = torch.stack([frame(1, 3, seed=k)[0] for k in range(400)])
    assert heads.mean(0).abs().max() < 0.1  # uniform on the sphere: mean 0, second moments 1/3
    assert (heads.T @ heads / 400 - torch.eye(3) / 3).abs().max() < 0.07


@pytest.mark.parametrize(
    ("radius", "how", "message"),
    [
        (0.0, {}, "a radius of 0.0"),
        (float("nan"), {}, "a radius of nan"),
        (1.0, {"directions": 8}, "8 orthonormal directions in a space of 7 dimensions\ntake 1 to 7"),
        (1.0, {"directions": torch.ones(2, 7)}, "not orthonormal"),
        (1.0, {"directions": torch.ones(2, 6)}, r"directions of shape \[2, 6\] in a space of 7"),
    ],
)
def test_bad_neighbourhoods_are_refused(radius: float, how: dict[str, int | Tensor], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        local_complexity(mlp([7, 5, 2]), torch.randn(2, 7, dtype=torch.float64), [radius], **how)  # type: ignore[arg-type]


def test_bad_points_are_refused() -> None:
    tail = Tail(mlp([7, 5, 2]), torch.zeros(1, 7, dtype=torch.float64))
    with pytest.raises(UsageError, match=r"float \(n, \[7\]\), got float32 \[2, 8\]"):
        local_complexity(tail, torch.zeros(2, 8), [1.0], directions=2)
    with pytest.raises(UsageError, match="no radius is given"):
        local_complexity(tail, torch.zeros(2, 7), [], directions=2)
    with pytest.raises(CorruptError, match="NaN"):
        local_complexity(tail, torch.full((1, 7), torch.nan), [1.0], directions=2)
    assert local_complexity(tail, torch.zeros(0, 7), [1.0], directions=2).counts.shape == (1, 1, 0)


def test_a_course_is_the_local_complexity_of_each_checkpoint() -> None:
    models = [mlp([5, 12, 8, 3], seed=k) for k in range(3)]
    sets = {"near": torch.randn(4, 5), "far": 9 * torch.randn(6, 5)}
    tail = Tail(models[0], torch.zeros(1, 5, dtype=torch.float64))
    found = course(
        tail, [(0, models[0]), (10, models[1].state_dict()), (100, models[2])], sets, 0.4, directions=3, seed=5
    )
    assert found.steps == (0, 10, 100)
    for name, x in sets.items():
        each = [local_complexity(m, x.double(), [0.4], directions=3, seed=5).counts[0] for m in models]
        assert torch.equal(found.counts[name], torch.stack(each))
    with pytest.raises(UsageError, match="step 7 do not fit"):
        course(tail, [(7, mlp([5, 11, 8, 3]).state_dict())], sets, 0.4, directions=2)
    with pytest.raises(UsageError, match="different layouts"):
        course(tail, [(7, mlp([5, 11, 8, 3]))], sets, 0.4, directions=2)
    with pytest.raises(UsageError, match="without checkpoints"):
        course(tail, [], sets, 0.4)


# --- trajectories --------------------------------------------------------------------------------


def test_transitions_are_summed_distances_of_neighbours() -> None:
    model, corners = mlp([6, 40, 20, 3]), torch.randn(3, 6, dtype=torch.float64)
    path = circle(corners, 60)
    found = transitions(model, path)
    codes = codes_of(model, path)
    around = [int(codes[k].distances(codes[(k + 1) % 60])[0, 0]) for k in range(60)]
    assert found.counts.sum(0).tolist() == around
    assert found.total == sum(around) > 0
    assert found.total % 2 == 0  # every neuron comes back to its sign
    assert found.density == found.total / found.length
    finer = transitions(model, circle(corners, 240))
    assert finer.total >= found.total
    assert abs(finer.length / found.length - 1) < 2e-3


def test_a_circle_goes_through_its_three_points(rng: torch.Generator) -> None:
    points = torch.randn(3, 2, 4, generator=rng, dtype=torch.float64)
    path = circle(points, 3600).flatten(1)
    assert torch.allclose(path[0], points[0].flatten())
    for point in points.flatten(1):
        assert (path - point).norm(dim=1).min() < 1e-2
    middle = path.mean(0)
    radii = (path - middle).norm(dim=1)
    assert torch.allclose(radii, radii[:1].expand_as(radii))
    with pytest.raises(UsageError, match="one line"):
        circle(torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), 10)


def test_a_loop_is_a_closed_polygon() -> None:
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    path = loop(corners, 2)
    assert path.tolist() == [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [1.0, 0.5], [1.0, 1.0], [0.5, 0.5]]
    found = transitions(mlp([2, 9, 2]), path)
    assert abs(found.length - (2 + 2**0.5)) < 1e-12
    with pytest.raises(UsageError, match="2 points or more"):
        loop(corners[:1], 2)


# --- derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("probabilities", [False, True])
def test_jacobian_norms_are_those_of_autograd(probabilities: bool) -> None:
    model, x = mlp([6, 30, 20, 4]), torch.randn(5, 6, dtype=torch.float64)
    found = jacobian_norms(model, x, probabilities=probabilities)
    assert jacobian_norms(model, x[:0], probabilities=probabilities).shape == (0,)
    for point, norm in zip(x, found, strict=True):
        whole = torch.autograd.functional.jacobian(
            lambda v: model(v[None])[0].softmax(0) if probabilities else model(v[None])[0], point
        )
        assert torch.allclose(whole.norm(), norm)


def breakpoints(model: nn.Module, points: int = 400_001) -> list[int]:
    """How often each layer of a network of one input switches on [0, 1], on a fine grid."""
    codes = codes_of(model, torch.linspace(0, 1, points, dtype=torch.float64)[:, None], batch=points)
    return codes[1:].aligned_by_field(codes[:-1]).sum(1).tolist()


def test_the_density_of_boundaries_is_the_number_of_breakpoints_on_a_line() -> None:
    model = mlp([1, 60, 60, 1])
    counted = np.array(breakpoints(model))
    assert counted.min() > 5
    sample = (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 20_000  # uniform on [0, 1]
    with torch.no_grad():
        found = boundary_density(model, sample, 2e-4).numpy()
    assert np.abs(found - counted).max() < 0.06 * counted.max()  # kinks near the two ends lose a half


def test_the_density_of_boundaries_is_their_length_in_a_square() -> None:
    model = mlp([2, 3, 1])
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    generator = torch.Generator().manual_seed(0)
    sample = torch.rand(200_000, 2, generator=generator, dtype=torch.float64) * 4 - 2
    ends = torch.linspace(-2, 2, 200_001, dtype=torch.float64)
    length = 0.0
    for w, b in zip(layer.weight.detach(), layer.bias.detach(), strict=True):
        y = -(w[0] * ends + b) / w[1]  # the line as a graph over the first axis
        length += float((y.abs() <= 2).double().mean() * 4 * (1 + (w[0] / w[1]) ** 2).sqrt())
    with torch.no_grad():
        found = float(boundary_density(model, sample, 0.02).sum())
    assert abs(found / (length / 16) - 1) < 0.05  # the sample has density 1/16


@pytest.mark.parametrize("act", [nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU])
def test_the_density_of_boundaries_can_be_trained(act: Callable[[], nn.Module]) -> None:
    model, x = mlp([3, 16, 16, 1], act), torch.randn(40, 3, dtype=torch.float64)
    weight = model[2].weight
    assert isinstance(weight, Tensor)
    before = boundary_density(model, x, 0.3).sum()
    (slope,) = torch.autograd.grad(before, weight)
    step = torch.zeros_like(weight)
    step[3, 4] = 1e-6
    with torch.no_grad():
        weight += step
        up = boundary_density(model, x, 0.3).sum()
        weight -= 2 * step
        down = boundary_density(model, x, 0.3).sum()
        weight += step
    assert torch.allclose((up - down) / 2e-6, slope[3, 4], rtol=1e-4, atol=1e-7)
    with torch.no_grad():
        weight -= 0.1 * slope / slope.norm()
        assert boundary_density(model, x, 0.3).sum() < before
    moved = x.clone().requires_grad_()
    (pull,) = torch.autograd.grad(boundary_density(model, moved, 0.3).sum(), moved)
    shift = torch.zeros_like(x)
    shift[5, 1] = 1e-6
    with torch.no_grad():
        ends = [boundary_density(model, x + sign * shift, 0.3).sum() for sign in (1, -1)]
    assert torch.allclose((ends[0] - ends[1]) / 2e-6, pull[5, 1], rtol=1e-4, atol=1e-7)
    some = boundary_density(model, x, 0.3, directions=frame(3, 3))
    assert torch.allclose(some, boundary_density(model, x, 0.3))  # any basis will do
    with pytest.raises(UsageError, match="kernel of bandwidth 0"):
        boundary_density(model, x, 0)


def test_smooth_networks_have_boundaries_too() -> None:
    """Of their signs: counted and weighed, but not followed exactly."""
    model, x = mlp([4, 6, 2], nn.GELU), torch.randn(3, 4, dtype=torch.float64)
    assert int(local_complexity(model, x, [1.0], directions=4).total.sum()) > 0
    layer = model[0]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        gaps = layer(x).abs() / layer.weight.norm(dim=1)
        kernel = (-(gaps / 0.5).square() / 2).exp() / (0.5 * (2 * torch.pi) ** 0.5)
        assert torch.allclose(boundary_density(model, x, 0.5)[0], kernel.sum(1).mean())
    with pytest.raises(UsageError, match="gelu"):
        crossings(model, x[0], x[1])
    with pytest.raises(UsageError, match="not a vector"):
        jacobian_norms(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()).eval(), torch.zeros(1, 1, 5, 5))

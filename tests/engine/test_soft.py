"""Soft codes against their definitions: probabilities by hand and by chance, thermometers bit by bit, limits."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import polykern as pk
from polykern.activations import RELU, Activation
from polykern.errors import CorruptError, UsageError
from polykern.points import codes_of
from polykern.soft import expected_hamming, probabilities, soft_codes, thresholds, total_variation
from polykern.tail import Tail
from polykern_kernels import pack
from tests.worlds import random_network

SMOOTH = (nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Softplus(2.0), nn.Hardswish())
KINKED = (nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(), nn.Hardtanh())


def net(activation: nn.Module, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 24), activation, nn.Linear(24, 3)).eval().requires_grad_(False)


def points(n: int = 40, seed: int = 1) -> Tensor:
    return 2 * torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


def pre(model: nn.Sequential, x: Tensor) -> Tensor:
    return F.linear(x, model[0].weight, model[0].bias)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("activation", "rule"),
    [
        (nn.GELU(), torch.special.ndtr),
        (nn.GELU("tanh"), lambda u: 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))),
        (nn.SiLU(), torch.sigmoid),
        (nn.Softplus(2.0), lambda u: torch.sigmoid(2 * u)),
        (nn.ReLU(), torch.sigmoid),
        (nn.Mish(), lambda u: torch.tanh(F.softplus(u))),
        (nn.Hardswish(), lambda u: ((u + 3) / 6).clamp(0, 1)),
    ],
)
def test_the_probabilities_are_the_formula(activation: nn.Module, rule: Callable[[Tensor], Tensor]) -> None:
    model, x = net(activation), points()
    for eta in (1.0, 0.3, 4.0):
        wanted = rule(eta * pre(model, x).double())
        torch.testing.assert_close(soft_codes(model, x, eta=eta).probabilities.double(), wanted, atol=3e-7, rtol=0)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.Mish(), nn.GELU("tanh")])
def test_a_gated_activation_is_its_soft_code_times_its_input(activation: nn.Module) -> None:
    model, x = net(activation), points()
    z = pre(model, x)
    torch.testing.assert_close(soft_codes(model, x).probabilities * z, activation(z), atol=2e-6, rtol=1e-5)


def test_a_softplus_is_its_soft_code_and_its_entropy() -> None:
    """softplus(u) = max over q of q u + entropy(q): the value at q = sigma(u)."""
    model, x = net(nn.Softplus()), points()
    q = soft_codes(model, x).probabilities.double()
    entropy = -(torch.special.xlogy(q, q) + torch.special.xlogy(1 - q, 1 - q))
    z = pre(model, x).double()
    torch.testing.assert_close(q * z + entropy, F.softplus(z), atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", [*SMOOTH, *KINKED])
def test_infinitely_sharp_is_the_hard_code(activation: nn.Module) -> None:
    model, x = net(activation), points()
    hard = codes_of(model, x)
    for levels in (1, 4):
        found = soft_codes(model, x, eta=math.inf, levels=levels)
        assert torch.equal(found.probabilities, pack.unpack(hard.words, hard.layout.bits).float())
        assert torch.equal(found.codes.distances(), levels * hard.distances())
    assert torch.equal(found.total_variation(), hard.distances().double())
    assert torch.equal(found.expected_hamming(), hard.distances().double())
    gaps = [
        (soft_codes(model, x, eta=eta).probabilities - found.probabilities).abs().sum() for eta in (1, 10, 100, 1e4)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] < 0.3


@pytest.mark.parametrize("activation", [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.ReLU(), nn.ReLU6()])
def test_one_level_is_the_hard_code(activation: nn.Module) -> None:
    """q > 1/2 exactly where the pre-activation is above its threshold."""
    model, x = net(activation), points()
    assert soft_codes(model, x, levels=1).codes == codes_of(model, x)
    assert soft_codes(model, x, levels=1, eta=0.1).codes == codes_of(model, x)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ReLU(), nn.ReLU6()])
def test_the_sum_is_the_expected_popcount_under_noise(activation: nn.Module) -> None:
    model, x = net(activation), points(6)
    eta, draws = 1.7, 20_000
    found = soft_codes(model, x, eta=eta)
    generator = torch.Generator().manual_seed(3)
    z = pre(model, x).double()
    noise = torch.rand(draws, *z.shape, generator=generator, dtype=torch.float64)
    noise = torch.special.ndtri(noise) if isinstance(activation, nn.GELU) else torch.logit(noise)
    count = sum((z + noise / eta > t).sum(-1) for t in found.layout.fields[0].thresholds)
    assert isinstance(count, Tensor)
    error = count.double().std(0) / math.sqrt(draws)
    assert bool(((count.double().mean(0) - found.probabilities.double().sum(1)).abs() < 5 * error).all())


@pytest.mark.parametrize("levels", [1, 3, 7, 32])
@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU(), nn.ReLU(), nn.Mish(), nn.ReLU6()])
def test_thermometers(activation: nn.Module, levels: int) -> None:
    """Bits are q above its level; distances lie within 1 / levels a unit of the total variation."""
    model, x, y = net(activation), points(), points(17, seed=5)
    a, b = (soft_codes(model, some, levels=levels) for some in (x, y))
    bits = pack.unpack(a.codes.words, a.codes.layout.bits).reshape(len(x), -1, levels, 24)
    assert torch.equal(bits, bits.long().sort(2, descending=True).values.bool())
    level = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
    q = a.probabilities.double().reshape(len(x), -1, 1, 24)
    clear = (q - level[None, None, :, None]).abs() > 1e-6
    assert torch.equal(bits[clear], (q > level[None, None, :, None])[clear])
    for other in (a, b):
        off = (a.thermometer_distances(other) - a.total_variation(other)).abs()
        assert off.max() <= a.bound + 1e-9
        assert a.bound == 24 * len(a.layout.fields[0].thresholds) / levels
    one = (bits.sum(2)[:, None].double() - bits.sum(2)[None].double()).abs() / levels
    exact = (q[:, None, :, 0] - q[None, :, :, 0]).abs()
    assert (one - exact).abs().max() <= 1 / levels + 1e-6


def test_distances_against_brute_force(rng: torch.Generator) -> None:
    p, q = torch.rand(5, 9, generator=rng), torch.rand(4, 9, generator=rng)
    for i in range(5):
        for j in range(4):
            a, b = p[i].double(), q[j].double()
            assert expected_hamming(p, q)[i, j] == pytest.approx(float((a * (1 - b) + b * (1 - a)).sum()))
            assert total_variation(p, q)[i, j] == pytest.approx(float((a - b).abs().sum()))
    assert bool((expected_hamming(p, q) >= total_variation(p, q) - 1e-12).all())


def test_thresholds_are_the_inverse() -> None:
    for levels in (1, 2, 7):
        level = (torch.arange(levels, dtype=torch.float64) + 0.5) / levels
        for eta in (0.5, 1.0, 30.0):
            wanted = 0.25 + torch.logit(level) / eta
            assert thresholds(RELU, 0.25, levels, eta) == pytest.approx(wanted.tolist(), abs=1e-12)
            gelu = Activation("gelu", function=F.gelu)
            assert thresholds(gelu, 0.0, levels, eta) == pytest.approx(
                (torch.special.ndtri(level) / eta).tolist(), abs=1e-12
            )
    assert thresholds(RELU, 6.0, 3, math.inf) == (6.0, 6.0, 6.0)
    assert thresholds(RELU, 0.0, 3)[1] == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_networks_of_many_layers(seed: int) -> None:
    """Random networks, piecewise linear and smooth; the thermometer has the fields of the hard code."""
    world = random_network(seed, piecewise_linear=seed % 2 == 0)
    x = world.points(7)
    found = pk.soft_codes(world.model, x, levels=5, batch=3)
    hard = codes_of(world.model, x)
    assert found.layout == hard.layout
    assert found.probabilities.shape == (7, hard.layout.bits)
    assert found.codes.layout.bits == 5 * hard.layout.bits
    assert [f.name for f in found.codes.layout.fields] == [f.name for f in hard.layout.fields]
    assert soft_codes(world.model, x, eta=math.inf, levels=1).codes == hard
    with pytest.raises(UsageError, match="layouts"):
        found.codes.distances(hard)


def test_tokens_are_points_as_well() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(12, 8), nn.GELU()).eval()
    ids = torch.randint(0, 11, (9, 3), generator=torch.Generator().manual_seed(0))
    found = soft_codes(model, ids, levels=1)
    assert found.codes == codes_of(model, ids)
    assert torch.allclose(found.probabilities, torch.special.ndtr(model[:3](ids)).detach(), atol=1e-6)


def test_what_has_no_soft_code_is_refused() -> None:
    with pytest.raises(UsageError, match="selu has no soft code"):
        soft_codes(net(nn.SELU()), points())
    with pytest.raises(UsageError, match="logsigmoid has no soft code"):
        soft_codes(net(nn.LogSigmoid()), points())
    with pytest.raises(UsageError, match="gelu has no soft code"):
        probabilities(Activation("gelu"), points())
    refused: tuple[dict[str, Any], ...] = ({"eta": 0.0}, {"eta": -1.0}, {"levels": 0}, {"eta": math.nan})
    for settings in refused:
        with pytest.raises(UsageError, match="eta > 0"):
            soft_codes(net(nn.GELU()), points(), **settings)
    with pytest.raises(UsageError, match="shape"):
        soft_codes(Tail(net(nn.GELU()), points(1)), points()[:, :4])
    with pytest.raises(CorruptError, match="NaN"):
        soft_codes(net(nn.GELU()), points() * math.nan)
    with pytest.raises(UsageError, match="levels"):
        soft_codes(net(nn.GELU()), points()).total_variation(soft_codes(net(nn.GELU()), points(), levels=3))

"""Codes of random networks against their other reader, NumPy float64 without torch or hooks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from polykern.points import codes_of
from polykern.tail import Tail
from polykern.tracing import trace
from tests.engine.hooked import entering
from tests.interpreter import Interpreter, Met
from tests.worlds import Network, random_network

SEEDS = [(seed, kind) for seed in range(60) for kind in (True, False)]
ROWS = 6


def _read(network: Network, points: Tensor) -> tuple[list[Met], NDArray[np.bool_], NDArray[np.float64]]:
    """What the other reader meets: its bits, and by how much each pre-activation misses its threshold."""
    reader = Interpreter(points)
    reader.network(network.ops)
    above = [m.z.reshape(len(points), -1) - t for m in reader.met for t in m.thresholds]
    gaps = np.concatenate(above, 1)
    return reader.met, gaps > 0, np.abs(gaps)


@pytest.mark.parametrize(("seed", "piecewise_linear"), SEEDS)
def test_float64_codes_are_exact(seed: int, piecewise_linear: bool) -> None:
    network = random_network(seed, piecewise_linear)
    points = network.points(ROWS, seed)
    met, bits, gaps = _read(network, points)
    codes = codes_of(network.model.double(), points)
    fields = codes.layout.fields
    assert [(f.module, f.call, f.thresholds) for f in fields] == [(m.module, m.call, m.thresholds) for m in met]
    assert [f.shape for f in fields] == [m.z.shape[1:] for m in met]
    sure = gaps > 1e-11
    assert np.array_equal(codes.bits().numpy()[sure], bits[sure])
    assert sure.mean() > 0.5  # the rest are exact zeros of dead units


@pytest.mark.parametrize(("seed", "piecewise_linear"), SEEDS[::3])
def test_float32_codes_are_right_where_they_can_be(seed: int, piecewise_linear: bool) -> None:
    network = random_network(seed, piecewise_linear)
    points = network.points(ROWS, seed)
    met, bits, gaps = _read(network, points)
    scale = np.concatenate([np.full(m.z[0].size, max(1.0, np.abs(m.z).max())) for m in met for _ in m.thresholds])
    codes = codes_of(network.model, points)
    sure = gaps > 1e-4 * scale
    assert np.array_equal(codes.bits().numpy()[sure], bits[sure])
    with trace(network.model) as t:
        network.model(points.clone())
    assert t.codes == codes


@pytest.mark.parametrize("seed", range(40))
def test_a_tail_gives_the_suffix_of_the_whole(seed: int) -> None:
    """At every start, inner ones too: the codes behind it are the last fields of the whole code, bit for bit."""
    network = random_network(seed, piecewise_linear=seed % 3 > 0)
    model, point = network.model.double(), network.points(1, seed).double()
    whole = codes_of(model, point)
    for start in network.starts + network.inner_starts:
        part = codes_of(Tail(model, point.clone(), start), entering(model, start, point))
        names = [f.name for f in whole.layout.fields][-len(part.layout.fields) :]
        assert part == whole.field(*names), start


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_inputs_in_any_batches_have_the_same_codes(seed: int) -> None:
    network = random_network(seed)
    model, points = network.model.double(), network.points(7, seed)
    _, _, gaps = _read(network, points)
    sure = torch.from_numpy(gaps > 1e-11)
    together = codes_of(model, points).bits()
    assert torch.equal(codes_of(model, points, batch=2).bits()[sure], together[sure])


def test_a_network_is_its_seed() -> None:
    for seed in range(5):
        a, b = random_network(seed), random_network(seed)
        assert torch.equal(a.sample, b.sample)
        assert str(a.model) == str(b.model)
        assert all(torch.equal(x, y) for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True))
    assert len({str(random_network(seed).model) for seed in range(20)}) == 20

"""Traces: the codes of whatever a model is run on, and a model that does not notice."""

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern.codes import Codes
from polykern.errors import CorruptError, UsageError
from polykern.points import codes_of
from polykern.tail import Tail
from polykern.tracing import Trace, trace
from tests.engine.untouched import state
from tests.worlds import axis_thresholds, random_lines, random_network


def _dense(*acts: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*(m for act in acts for m in (nn.Linear(4, 4), act))).eval()


# --- known worlds ---------------------------------------------------------------------------------


def test_axis_thresholds_are_read_off_the_point() -> None:
    model, bits = axis_thresholds([[0.0, 0.5, 1.0], [-1.0], [0.25, 0.5]])
    points = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    points[0] = torch.tensor([0.5, -1.0, 0.25])  # on the thresholds: not above
    assert torch.equal(codes_of(model, points).bits(), bits(points))


def test_lines_between_two_points_are_the_distance() -> None:
    lines = random_lines(40)
    points = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    distances = codes_of(lines.model, points).distances()
    for i in range(20):
        for j in range(20):
            assert int(distances[i, j]) == int(lines.crossings(points[i], points[j]).sum())


def test_codes_count_the_regions_of_lines() -> None:
    """The four corners at every vertex of an arrangement meet all its regions that have a vertex: all."""
    lines = random_lines(12, seed=3)
    vertices = lines.vertices()
    angles = torch.arange(3600, dtype=torch.float64) * (2 * torch.pi / 3600)
    ring = 1e-7 * torch.stack([angles.cos(), angles.sin()], 1)
    points = (vertices[:, None] + ring).reshape(-1, 2)
    distinct = codes_of(lines.model, points, batch=1 << 20).words.unique(dim=0)
    assert len(distinct) == lines.regions == 1 + 12 + 66


# --- passes -----------------------------------------------------------------------------------------


def test_passes_follow_each_other() -> None:
    model = _dense(nn.ReLU(inplace=True), nn.GELU())
    x = torch.randn(7, 4)
    with trace(model) as t:
        first = model(x[:3])
        second = model(x[3:])
    expected = []
    for part, out in ((x[:3], first), (x[3:], second)):  # a product of other rows may round otherwise
        assert torch.equal(out, model(part))
        z = model[0](part)
        expected.append(torch.cat([z > 0, model[2](z.relu()) > 0], 1))
    assert torch.equal(t.codes.bits(), torch.cat(expected))
    assert t.codes == codes_of(model, x) == codes_of(model, x, batch=2)
    assert [(f.module, f.kind, f.offset) for f in t.layout.fields] == [("1", "relu", 0), ("3", "gelu", 4)]


def test_take_streams() -> None:
    model = _dense(nn.ReLU())
    x = torch.randn(7, 4)
    taken: list[Codes] = []
    with trace(model) as t:
        for part in x.split(3):
            model(part)
            taken.append(t.take())
        assert len(t.codes) == 0
    assert [len(c) for c in taken] == [3, 3, 1]
    assert Codes.cat(taken) == codes_of(model, x)


def test_values_are_the_pre_activations() -> None:
    model = _dense(nn.ReLU(inplace=True), nn.ReLU(inplace=True))
    x = torch.randn(5, 4)
    with trace(model, values=True) as t:
        model(x[:2])
        model(x[2:])
    torch.testing.assert_close(t.values["1"], model[0](x).detach())
    assert float(t.values["3"].min()) < 0
    assert torch.equal(torch.cat(list(t.values.values()), 1) > 0, t.codes.bits())
    with pytest.raises(UsageError, match="kept only when asked for"):
        assert Trace(model).values


@pytest.mark.parametrize("seed", range(12))
def test_starts_and_stops(seed: int) -> None:
    """Nonlinearities between start and stop alone, the outputs as ever; the same from a Tail's points."""
    network = random_network(seed, piecewise_linear=seed % 3 > 0)
    points = network.points(4, seed)
    expected = network.model(points.clone())
    with trace(network.model) as whole:
        network.model(points.clone())
    for k, start in enumerate(network.starts[1:]):
        with trace(network.model, start=start) as t:
            assert torch.equal(network.model(points.clone()), expected)
        fields = [f.name for f in whole.layout.fields if _block(f.module) >= k]
        assert [f.name for f in t.layout.fields] == fields
        assert t.codes == whole.codes.field(*fields)
        fields = [f.name for f in whole.layout.fields if _block(f.module) <= k]
        if fields:
            with trace(network.model, stop=start) as t:
                assert torch.equal(network.model(points.clone()), expected)
            assert t.codes == whole.codes.field(*fields)


def _block(module: str) -> int:
    return int(module.split(".")[1])


def test_run_ends_after_the_last_selected() -> None:
    model = _dense(nn.ReLU(), nn.ReLU(), nn.ReLU())
    count: list[int] = []
    model[4].register_forward_hook(lambda *args: count.append(1))
    x = torch.randn(6, 4)
    with trace(model, select=["1", "3"]) as t:
        for part in x.split(2):
            t.run(part)
        assert len(count) == 1  # the first pass finds out where the last one is
        model(x[:2])
        assert len(count) == 2
    assert t.codes[:6] == codes_of(model, x, select=["1", "3"])
    with pytest.raises(UsageError, match="trace is closed"):
        t.run(x)


def test_a_module_called_from_outside_is_a_pass() -> None:
    model = nn.ModuleDict({"encoder": _dense(nn.ReLU()), "head": _dense(nn.ReLU())}).eval()
    x = torch.randn(3, 4)
    with trace(model) as t:
        model["encoder"](x)
        model["encoder"](x)
    assert [f.module for f in t.layout.fields] == ["encoder.1"]
    assert t.codes[:3] == t.codes[3:]


def test_several_calls_of_one_module() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.act = nn.Linear(4, 4), nn.ReLU()

        def forward(self, x: Tensor, times: int = 2) -> Tensor:
            for _ in range(times):
                x = self.act(self.linear(x))
            return F.relu(-x)

    model = Twice().eval()
    with trace(model) as t:
        model(torch.randn(2, 4))
        assert [f.name for f in t.layout.fields] == ["act", "act#1", ""]
        with pytest.raises(UsageError, match="meets act#2"):
            model(torch.randn(2, 4), times=3)
        with pytest.raises(UsageError, match=r"meets  \[4\] where the first met act#1"):
            model(torch.randn(2, 4), times=1)
        model(torch.randn(2, 4))
    assert len(t.codes) == 4


# --- the model ---------------------------------------------------------------------------------------


def test_the_model_does_not_notice() -> None:
    model = _dense(nn.ReLU(inplace=True), nn.GELU())
    before, weights = state(model), copy.deepcopy(model.state_dict())
    x = torch.randn(3, 4, requires_grad=True)
    with trace(model, values=True, pools=True):
        model(x).sum().backward()
    assert state(model) == before
    assert x.grad is not None
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), model.state_dict().values(), strict=True))
    with pytest.raises(RuntimeError, match="by the user"), trace(model):
        raise RuntimeError("by the user")
    assert state(model) == before


def test_an_interrupted_pass_leaves_nothing() -> None:
    class Moody(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(x)
            if float(x.sum()) == 0:
                raise RuntimeError("moody")
            return F.gelu(x)

    model = Moody().eval()
    with trace(model) as t:
        model(torch.ones(2, 3))
        with pytest.raises(RuntimeError, match="moody"):
            model(-torch.ones(2, 3))
        try:
            raise KeyError
        except KeyError:
            model(torch.ones(1, 3))  # an exception of someone else
    assert len(t.codes) == 3
    assert t.codes.bits().all()


def test_points_are_not_overwritten() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)).eval()
    points = torch.randn(3, 4)
    kept = points.clone()
    codes_of(model, points)
    assert torch.equal(points, kept)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_float(dtype: torch.dtype) -> None:
    """Bits are signs of pre-activations: the outputs of a GELU underflow to -0."""
    model = _dense(nn.GELU(), nn.ReLU()).to(dtype)
    points = 40 * torch.randn(64, 4)
    with trace(model, values=True) as t:
        model(points.to(dtype))
    assert t.values["1"].dtype == dtype
    assert torch.equal(t.codes.bits(), torch.cat([t.values["1"] > 0, t.values["3"] > 0], 1))
    assert codes_of(model, points) == t.codes


def test_nan_is_named() -> None:
    model = _dense(nn.ReLU(), nn.ReLU())
    points = torch.zeros(3, 4)
    points[2] = torch.nan
    with pytest.raises(CorruptError, match="pre-activations of 1 hold NaN"):
        codes_of(model, points)
    with trace(model) as t:
        with pytest.raises(CorruptError, match="pre-activations of 1 hold NaN"):
            model(points)
        model(points[:2])
    assert len(t.codes) == 2


def test_infinities_are_ordinary() -> None:
    points = torch.tensor([[torch.inf, -torch.inf, 0.0, -0.0]])
    assert codes_of(nn.ReLU().eval(), points).bits().tolist() == [[True, False, False, False]]


# --- refusals -----------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    model, x = _dense(nn.ReLU()), torch.randn(2, 4)
    with pytest.raises(UsageError, match="nothing has been traced"):
        assert Trace(model).codes
    with pytest.raises(UsageError, match="training mode"):
        trace(_dense(nn.ReLU()).train())
    with pytest.raises(UsageError, match="no module '9'"):
        trace(model, start="9")
    with trace(model, select="7"), pytest.raises(UsageError, match="no nonlinearity is called '7'"):
        model(x)
    with trace(model, start="1", stop="0"), pytest.raises(UsageError, match="'0' is not reached behind '1'"):
        model(x)
    with trace(model, stop="0"), pytest.raises(UsageError, match="no nonlinearity between 'the input' and '0'"):
        model(x)
    both = nn.ModuleDict({"a": model, "b": nn.ReLU()}).eval()
    with trace(both, start="b"), pytest.raises(UsageError, match="start module 'b' is not reached"):
        both["a"](x)
    with pytest.raises(UsageError, match='"items" or "tokens"'):
        trace(model, rows="words")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no tokens"):
        trace(model, rows="tokens", pools=True)
    with pytest.raises(UsageError, match=r"shape \[5\], the input of the model has \[4\]"):
        codes_of(Tail(model, torch.zeros(1, 4)), torch.randn(2, 5))


def test_another_shape_is_another_layout() -> None:
    model = nn.ReLU().eval()
    with trace(model) as t:
        model(torch.ones(2, 3))
        with pytest.raises(UsageError, match=r"meets  \[4\] where the first met  \[3\]"):
            model(torch.ones(2, 4))
    assert len(t.codes) == 2


def test_no_points() -> None:
    model = _dense(nn.ReLU())
    codes = codes_of(model, torch.zeros(0, 4))
    assert (len(codes), codes.layout.bits) == (0, 4)
    with trace(model) as t:
        for n in (2, 0, 1):
            model(torch.zeros(n, 4))
    assert (len(t.codes), t.layout) == (3, codes.layout)


@pytest.mark.parametrize("act", [torch.relu, F.gelu, torch.abs, torch.clamp_min])
def test_a_nonlinearity_that_is_called_by_keyword_is_met(act: Any) -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            more = {"min": 0} if act is torch.clamp_min else {}
            found: Tensor = act(input=x, **more)
            return found

    x = torch.randn(5, 4)
    with trace(Named().eval()) as t:
        t.model(x)
    assert torch.equal(t.codes.bits(), x > 0)


# --- tokens -------------------------------------------------------------------------------------------


def test_tokens_are_rows() -> None:
    model = _dense(nn.ReLU(), nn.GELU())
    x = torch.randn(2, 5, 4)
    with trace(model, rows="tokens", values=True) as t:
        model(x)
        model(x[:1, :3])  # another number of tokens
    assert [f.shape for f in t.layout.fields] == [(4,), (4,)]
    assert t.codes[:10] == codes_of(model, x.flatten(0, 1))
    assert t.codes[10:] == t.codes[:3]
    assert t.values["3"].shape == (13, 4)
    with trace(model) as t:
        model(x)
    assert t.layout.fields[0].shape == (5, 4)
    with trace(nn.ReLU().eval(), rows="tokens") as t, pytest.raises(UsageError, match="no axis of tokens"):
        t.model(x[0, 0])


def test_heads_without_tokens_are_named() -> None:
    class Pooled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(F.gelu(x)[:, 0])

    for batch in (1, 2):
        told = f"#1 has {batch} rows where others have {5 * batch}"
        with trace(Pooled().eval(), rows="tokens") as t, pytest.raises(UsageError, match=told):
            t.model(torch.randn(batch, 5, 4))

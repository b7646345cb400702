"""linear: codes of a product are those of exact sums; what may differ lies within the stated bound."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from polykern_kernels import grid, linear, narrow, pack
from polykern_kernels.grid import GridTotals
from tests.kernels.conftest import Way, triton_way
from tests.kernels.test_grid import KINDS
from tests.kernels.test_narrow import same

VALUES = {"hardtanh": -0.1}  # of the activation at its first kink; 0 elsewhere
TORCH: dict[str, Any] = {
    "relu": F.relu,
    "leaky": lambda z: F.leaky_relu(z, 0.01),
    "relu6": F.relu6,
    "hardtanh": lambda z: F.hardtanh(z, -0.1, 0.3),
}
# rows, inputs, units: one, odd, a tile less and more one, several steps of a product and a rest, nothing at all
SHAPES = [(1, 1, 1), (5, 7, 33), (63, 16, 127), (65, 65, 129), (0, 3, 4), (3, 4, 0), (2, 0, 40)]


@pytest.fixture(params=["reference", "interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def way(request: pytest.FixtureRequest) -> Way:
    """Plain torch, Triton's interpreter, and Triton on a GPU."""
    return Way("reference", "cpu") if request.param == "reference" else triton_way(request.param)


def layer(rows: int, inputs: int, units: int, rng: torch.Generator, whole: bool = True) -> tuple[torch.Tensor, ...]:
    """Points, weights, a bias: small integers, whose sums are exact in any order, or not."""
    shapes = (rows, inputs), (units, inputs), (units,)
    if whole:
        return tuple(torch.randint(-4, 5, shape, generator=rng).float() for shape in shapes)
    return tuple(torch.randn(shape, generator=rng) for shape in shapes)


# --- signs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("thresholds", [(0.0,), (-3.0, 2.0)], ids=str)
def test_signs_of_exact_sums_equal_reference(
    way: Way, shape: tuple[int, int, int], thresholds: tuple[float, ...], rng: torch.Generator
) -> None:
    x, weight, bias = (way.place(t) for t in layer(*shape, rng))
    words, out = linear.signs(x, weight, bias, thresholds, backend=way.backend)
    assert out is None
    assert torch.equal(words, pack.signs(F.linear(x, weight, bias), thresholds)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_those_of_torch(way: Way, kind: str, rng: torch.Generator) -> None:
    x, weight, bias = (way.place(t) for t in layer(9, 5, 40, rng))
    thresholds, slopes = KINDS[kind]
    words, out = linear.signs(
        x, weight, bias, thresholds, slopes=slopes, value=VALUES.get(kind, 0.0), backend=way.backend
    )
    z = F.linear(x, weight, bias)
    assert out is not None
    assert torch.equal(out, TORCH[kind](z))
    assert torch.equal(words, pack.signs(z, thresholds)[0])


def test_only_what_lies_within_the_bound_may_differ(way: Way, rng: torch.Generator) -> None:
    x, weight, bias = layer(70, 37, 140, rng, whole=False)
    bias -= F.linear(x, weight).mean(0)
    exact = x.double() @ weight.double().T + bias.double()
    bound = 39 * 2.0**-23 * (x.abs().double() @ weight.abs().double().T + bias.abs().double())
    words, out = linear.signs(*(way.place(t) for t in (x, weight, bias)), slopes=(-1.0, 1.0), backend=way.backend)
    wrong = pack.unpack(words.cpu(), 140) != (exact > 0)
    assert not (wrong & (exact.abs() > bound)).any()
    assert out is not None
    assert ((out.cpu().double() - exact.abs()).abs() <= bound).all()


@pytest.mark.filterwarnings("ignore:invalid value")  # the interpreter's
def test_infinity_and_flat_pieces(way: Way) -> None:
    x = way.place(torch.tensor([[torch.inf], [-torch.inf], [0.0]]))
    weight = way.place(torch.ones(1, 1))
    words, out = linear.signs(x, weight, thresholds=(0, 6), slopes=(0, 1, 0), backend=way.backend)
    assert out is not None
    assert (words.tolist(), out.tolist()) == ([[3], [0], [0]], [[6.0], [0.0], [0.0]])


def test_a_nan_has_no_sign(way: Way, rng: torch.Generator) -> None:
    x, weight, bias = layer(3, 4, 5, rng)
    x[1, 2] = torch.nan
    with pytest.raises(ValueError, match=r"linear\.signs: 5 pre-activations are NaN, and NaN has no sign"):
        linear.signs(*(way.place(t) for t in (x, weight, bias)), backend=way.backend)


def test_views_that_are_not_contiguous(way: Way, rng: torch.Generator) -> None:
    x, weight, bias = layer(12, 14, 18, rng)
    cut = x[::2, 1::2], weight.T.contiguous().T[::3, ::2], bias[::3]
    words, _ = linear.signs(*(way.place(t) for t in cut), backend=way.backend)
    assert torch.equal(words.cpu(), pack.signs(F.linear(*cut))[0])


# --- step ------------------------------------------------------------------------------------------

# groups, height, width, inputs, units: one point, odd, beyond a tile, several steps and a rest, nothing at all
STEPS = [
    (1, 1, 1, 1, 1),
    (2, 3, 4, 7, 33),
    (1, 1, 130, 80, 66),
    (1, 1, 3, 65, 130),
    (1, 1, 2, 16, 260),
    (0, 2, 2, 3, 5),
    (2, 2, 2, 3, 0),
]


Tile = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def tile(shape: tuple[int, ...], rng: torch.Generator) -> Tile:
    """Anchors anywhere, differences and weights whose sums are exact in float32 and in float16."""
    groups, height, width, inputs, units = shape
    anchor = torch.randn((groups, units), generator=rng, dtype=torch.float64)
    delta = torch.randint(-1, 2, (groups, height * width, inputs), generator=rng) / 16
    return anchor, delta.half(), torch.randint(-2, 3, (units, inputs), generator=rng).half()


def stepped(
    way: Way | None, given: Tile, shape: tuple[int, ...], kind: str, **more: Any
) -> tuple[torch.Tensor, GridTotals]:
    device, backend = (way.device, way.backend) if way else ("cpu", "reference")
    total = GridTotals.zeros(len(given[0]), shape[1], shape[2], device)
    thresholds, slopes = KINDS[kind]
    out = linear.step(
        *(x.to(device) for x in given),
        height=shape[1],
        width=shape[2],
        thresholds=thresholds,
        slopes=slopes,
        bit_offset=2**32 + 1,
        total=total,
        backend=backend,
        **more,
    )
    return out, total


@pytest.mark.parametrize("shape", STEPS, ids=str)
def test_step_equals_reference(way: Way, shape: tuple[int, ...], rng: torch.Generator) -> None:
    anchor, delta, weight = tile(shape, rng)
    given = (8 * anchor, delta, weight)  # few bits differ, as between neighbours
    same(*(stepped(w, given, shape, "relu", unit=0.5, unit_out=0.25) for w in (way, None)))


@pytest.mark.parametrize("kind", ["leaky", "relu6", "hardtanh"])
def test_every_step_equals_reference(way: Way, kind: str, rng: torch.Generator) -> None:
    shape = (1, 2, 2, 5, 45)
    anchor, delta, weight = tile(shape, rng)
    same(*(stepped(w, (4 * anchor, 16 * delta, weight), shape, kind) for w in (way, None)))


def test_step_is_that_of_narrow_behind_the_product(way: Way, rng: torch.Generator) -> None:
    """The same bits and differences where the product is exact in float16 as well; one tile for all groups."""
    shape = (3, 2, 4, 9, 40)
    anchor, delta, weight = tile(shape, rng)
    delta = delta[:1].expand(3, -1, -1)
    thresholds, slopes = KINDS["relu"]
    total = GridTotals.zeros(3, 2, 4)
    raster: dict[str, Any] = {"height": 2, "width": 4, "thresholds": thresholds, "slopes": slopes}
    product = (delta.double() @ weight.double().T).half()
    out = narrow.step(anchor, product, **raster, bit_offset=2**32 + 1, total=total, unit=0.5, backend="reference")
    same(stepped(way, (anchor, delta, weight), shape, "relu", unit=0.5), (out, total))


def test_only_points_within_the_bound_may_count_other_bits(way: Way, rng: torch.Generator) -> None:
    shape = (2, 3, 3, 90, 60)
    anchor = torch.randn((2, 60), generator=rng, dtype=torch.float64)
    delta, weight = torch.randn((2, 9, 90), generator=rng).half(), torch.randn((60, 90), generator=rng).half()
    _, total = stepped(way, (anchor, delta, weight), shape, "relu")
    exact = anchor[:, None] + delta.double() @ weight.double().T
    bound = 92 * 2.0**-23 * (delta.abs().double() @ weight.abs().double().T)
    clear = (exact.abs() > bound).all(2)
    truth = GridTotals.zeros(2, 3, 3)
    raster: dict[str, Any] = {"height": 3, "width": 3, "thresholds": [0.0]}
    grid.tally(exact, **raster, bit_offset=2**32 + 1, total=truth, backend="reference")
    assert clear.any()
    assert torch.equal(total.digest.cpu().flatten(1, -2)[clear], truth.digest.flatten(1, -2)[clear])


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:All-NaN")  # the interpreter's
def test_what_is_not_finite_is_counted(way: Way) -> None:
    delta = torch.tensor([[[torch.inf, 1.0], [1.0, 1.0]]], dtype=torch.float16)
    anchor, weight = torch.zeros(1, 3, dtype=torch.float64), torch.ones(3, 2).half()
    _, total = stepped(way, (anchor, delta, weight), (1, 1, 2), "relu")
    assert total.nans.tolist() == [3]


# --- both --------------------------------------------------------------------------------------------


def test_the_refusal_names_what_is_wrong(rng: torch.Generator) -> None:
    x, weight, bias = layer(2, 3, 4, rng)
    with pytest.raises(ValueError, match=r"linear.signs: x must be float32 \(rows, inputs\), got float64"):
        linear.signs(x.double(), weight)
    with pytest.raises(ValueError, match=r"weight must be float32\[4, 3\], got float32\[4, 2\]@cpu"):
        linear.signs(x, weight[:, :2])
    with pytest.raises(ValueError, match=r"bias must be float32\[4\], got float32\[3\]@cpu"):
        linear.signs(x, weight, bias[:3])
    with pytest.raises(ValueError, match=r"thresholds must be numbers, got \[\]"):
        linear.signs(x, weight, bias, ())
    with pytest.raises(ValueError, match="slopes must be one more than thresholds, got 1 and 1"):
        linear.signs(x, weight, bias, slopes=(1.0,))
    with pytest.raises(ValueError, match="the activation must be finite"):
        linear.signs(x, weight, bias, slopes=(0.0, 1.0), value=torch.inf)
    shape = (1, 2, 2, 3, 4)
    anchor, delta, narrowed = tile(shape, rng)
    with pytest.raises(ValueError, match=r"linear.step: delta must be float16\[1, 4, 3\], got float16\[1, 4, 2\]"):
        stepped(None, (anchor, delta[..., :2], narrowed), shape, "relu")
    with pytest.raises(ValueError, match=r"weight must be float16\[4, 3\], got float16\[3, 3\]@cpu"):
        stepped(None, (anchor, delta, narrowed[:3]), shape, "relu")


def test_costs_count_compulsory_work() -> None:
    c = linear.cost(5, 7, 33, thresholds=2, activated=True)
    assert (c.bytes, c.flops) == (4 * (5 * 7 + 33 * 7 + 33) + 5 * (4 * 3 + 4 * 33), 2 * 5 * 7 * 33)
    assert linear.cost(5, 7, 33).bytes == 4 * (5 * 7 + 33 * 7 + 33) + 5 * 4 * 2
    c = linear.cost_step(2, 3, 4, 7, 33)
    pairs = 2 * (3 * 3 + 2 * 4)
    assert c.bytes == 8 * 2 * 33 + 2 * 24 * (7 + 33) + 2 * 33 * 7 + 2 * (4 * pairs + 20 * 24)
    assert (c.popcounts, c.flops) == (pairs * 2, 24 * 33 * 14 + 2 * 24 * 33 * 7)

"""The map of GoogLeNet at tensor-core precision: float16 about anchors is right where plain TF32 is wrong."""

from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from polykern import models
from polykern.anchored import Anchored, AnchoredEngine, met
from polykern.arithmetic import Arithmetic, ieee
from polykern.block import Block
from polykern.codes import packed
from polykern.counting import Counts
from polykern.dense import codes
from polykern.plane import Grid, Plane, Window
from polykern.tail import Meeting, Tail
from polykern_kernels import hamming, pack
from tests.engine.hooked import entering
from tests.engine.rounding import Rounded, bfloat16, tf32

pytestmark = pytest.mark.slow

TILE, ROW = 16, 5  # pixels of a tile's side, row of the strip that is looked at
ROUNDED = {"tf32": tf32, "bfloat16": bfloat16}
PLACES = ((0, 0), (0, 1024), (600, 600))  # row and column of strips of two tiles
MAPPED = (2, 1, 1)  # tiles of each that a map takes: one seam


@dataclass
class Case:
    """inception5a to the output of GoogLeNet with random weights, and a plane through three images."""

    tail: Tail
    grid: Grid
    truth: list[Tensor]  # int32 (33, words) of every place: codes of the strip's row in float64

    def row(self, place: tuple[int, int]) -> Tensor:
        """float64 (33, *shape): the points of the strip's row."""
        columns = torch.arange(2 * TILE + 1) + place[1]
        return self.grid.points(torch.full_like(columns, place[0] + ROW), columns)


@pytest.fixture(scope="module")
def case() -> Case:
    if find_spec("torchvision") is None:
        pytest.skip("needs torchvision")
    subject = models.load("googlenet-random")
    images = torch.stack([subject.examples.at(k).input for k in range(3)])
    plane = Plane.through(entering(subject.model, "inception5a", images).double())
    tail = Tail(subject.model, images[:1], "inception5a").to(torch.float64)
    case = Case(tail, Grid(plane, Window(0.0, 0.0, 2 * float(plane.uv[1, 0])), 4096), [])
    case.truth = [codes(tail, case.row(place)) for place in PLACES]
    return case


def steps(words: Tensor) -> Tensor:
    """int32 (n - 1): distances of neighbours."""
    return hamming.aligned(words[1:].contiguous(), words[:-1].contiguous())


def anchored(case: Case, place: tuple[int, int], arithmetic: Arithmetic) -> tuple[Tensor, Tensor]:
    """Codes int32 (34, words) of the strip's row, the seam twice, and their truth."""
    corner = torch.tensor([[place[0], place[1] + k * TILE] for k in range(2)])
    centres = case.grid.points(*(corner + TILE / 2).unbind(1))
    u = (torch.arange(TILE + 1, dtype=torch.float64) - TILE / 2) * case.grid.step
    at = torch.stack([u, torch.full_like(u, (ROW - TILE / 2) * case.grid.step)], 1)
    points = Anchored.along(centres, torch.stack([case.grid.plane.e1, case.grid.plane.e2]), at, arithmetic)
    counts = Counts(case.tail.layout, 2, 1, TILE + 1)
    words: list[Tensor] = []

    def reach(meeting: Meeting) -> Anchored | Tensor:
        assert meeting.field is not None
        words.append(packed(meeting.field, meeting.z.full()))
        return met(meeting, counts)

    with ieee():
        case.tail.run(points, reach, output=False)
    ours = pack.join(words, [f.bits for f in case.tail.layout.fields])
    true = case.truth[PLACES.index(place)]
    return ours, torch.cat([true[: TILE + 1], true[TILE:]])


@pytest.mark.parametrize("narrow", [False, True], ids=["float32 between", "float16 between"])
def test_float16_about_anchors_maps_googlenet_as_float64_does(case: Case, narrow: bool) -> None:
    assert case.tail.layout.bits == 112_112
    engine = AnchoredEngine(case.tail, arithmetic="float16", tile=TILE, memory_budget=1 << 30, narrow=narrow)
    widths = [tiles * TILE for tiles in MAPPED]
    maps = engine.blocks(case.grid, [Block(*p, TILE, w) for p, w in zip(PLACES, widths, strict=True)])
    true = torch.cat([steps(t[: w + 1]).double() for t, w in zip(case.truth, widths, strict=True)])
    ours = torch.cat([torch.from_numpy(m.right[:, ROW].sum(0)) for m in maps]).double()
    wrong = [float(hamming.aligned(*anchored(case, p, engine.arithmetic)).double().mean()) for p in PLACES]
    print(f"\nmean neighbouring distance, float64 {true.mean():.3f}, anchored float16 {ours.mean():.3f}")
    print(f"wrong bits a point of 112,112 {[f'{x:.3f}' for x in wrong]}")
    assert len(ours) == len(true)
    assert abs(ours.mean() / true.mean() - 1) < 0.002
    assert max(wrong) <= 0.3


@pytest.mark.parametrize(("name", "least"), [("tf32", 1.1), ("bfloat16", 2.0)])
def test_plain_low_precision_is_wrong(case: Case, name: str, least: float) -> None:
    """What the anchors are for: were this to pass as a map, the test above would show nothing."""
    ratios = []
    for place, true in zip(PLACES, case.truth, strict=True):
        with Rounded(ROUNDED[name]):
            got = codes(case.tail, case.row(place))
        wrong = hamming.aligned(got, true).double().mean()
        ratios.append(float(steps(got).sum() / steps(true).sum()))
        print(f"\nplain {name}: {ratios[-1]:.2f} times the true distance, {wrong:.1f} wrong bits a point")
    assert min(ratios) > least


def test_float32_about_anchors_has_at_most_one_wrong_bit_on_a_strip(case: Case) -> None:
    ours, true = anchored(case, PLACES[0], Arithmetic("float32", case.tail.model))
    assert hamming.aligned(ours, true).sum() <= 1

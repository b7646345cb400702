"""Densities between points: counted as they are defined, drawn as they are said to be; planted gaps are found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import nn

import polykern as pk
from polykern.cli.app import run
from polykern.codes import Codes
from polykern.densities import flow, pairs, retrieval
from polykern.densities.draw import Drawn, drawn
from polykern.densities.representational import QUADRANTS
from polykern.densities.result import Pairs, Stage
from polykern.densities.stages import places
from polykern.errors import UsageError
from polykern.layout import Field, Layout
from polykern.points import codes_of
from polykern_kernels import pack
from tests.engine.folders import told
from tests.engine.refusals import refused


@pytest.fixture(scope="module")
def found() -> Pairs:
    return pairs(pk.load("digits"), count=300)


# --- which pairs ---------------------------------------------------------------------------------------


@example(34798, 2, 8)  # too few items to part them by class, and none is drawn twice
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(8, 200))
def test_pairs_are_of_the_kind_they_say_and_all_different(seed: int, count: int, n: int) -> None:
    classes = np.random.default_rng(seed).integers(0, 4, n)
    try:
        found = drawn(classes, count, seed)
    except UsageError:
        sizes = np.bincount(classes)
        within = int((sizes * (sizes - 1) // 2).sum())
        assert min(within, n * (n - 1) // 2 - within) < count or (sizes > 0).sum() < 2
        return
    assert np.array_equal(found.same, classes[found.first] == classes[found.second])
    assert found.same.sum() == (~found.same).sum() == count
    assert (found.first != found.second).all()
    both = np.sort(np.stack([found.first, found.second], 1), 1)
    assert len(np.unique(both, axis=0)) == 2 * count
    items = np.bincount(both.ravel())
    assert (items.max() > 1) == found.reused


def test_items_are_not_reused_where_there_are_enough() -> None:
    assert not drawn(np.arange(4000) % 10, 900).reused
    assert drawn(np.arange(300) % 10, 900).reused


# --- what is counted -----------------------------------------------------------------------------------


def test_densities_are_their_definition(found: Pairs) -> None:
    """By plain forward passes, stage by stage, each code computed from its own stage on."""
    subject = pk.load("digits")
    model: Any = subject.model
    batch = torch.stack([subject.examples.at(k).input for k in range(297)])
    relus = {"conv1": ("relu1", "relu2", "relu3", "relu4"), "conv2": ("relu2", "relu3", "relu4"),
             "conv3": ("relu3", "relu4"), "fc1": ("relu4",)}  # fmt: skip
    with torch.no_grad():
        seen = {"": batch}
        x = batch
        for name, module in model.named_children():
            seen[name] = x
            x = module(x)
    for stage in found.networks["trained"]:
        a, b = (torch.from_numpy(k) for k in (stage.pairs.first, stage.pairs.second))
        bits = torch.cat([(seen[r] > 0).flatten(1) for r in relus[stage.name]], 1)
        x = seen[stage.name].flatten(1).double()
        hamming = (bits[a] != bits[b]).sum(1)
        assert abs(torch.from_numpy(stage.hamming.sum(0)) - hamming).max() <= 1  # batches round otherwise
        assert np.allclose(stage.distance, (x[a] - x[b]).norm(dim=1))
        cosine = torch.nn.functional.cosine_similarity(x[a], x[b])
        assert np.allclose(stage.angle, cosine.arccos(), atol=1e-7)
        union = (bits[a] | bits[b]).sum(1)
        assert np.allclose(stage.jaccard, hamming / union, atol=2e-3)
        assert stage.bits == bits.shape[1]


def test_the_effect_of_training(found: Pairs) -> None:
    for stage in found.networks["trained"]:
        assert stage.within.high < 1 < stage.between.low
        assert stage.welch.t < -5
        assert stage.gap.low > 0
        assert stage.matched.low > 0
    assert found.trend("trained").value == 1
    assert max(s.gap.value for s in found.networks["untrained"]) < 0.1
    assert [s.gap.value for s in found.networks["trained"]] == sorted(
        s.gap.value for s in found.networks["trained"]
    )


def test_intervals_and_tests_are_of_the_pairs(found: Pairs) -> None:
    stage = found.networks["trained"][0]
    same = stage.pairs.same
    assert stage.within.value == pytest.approx(stage.normalised[same].mean())
    assert stage.within.value + stage.between.value == pytest.approx(2)
    targets = np.array(pk.load("digits").examples.targets)
    first, second = np.triu_indices(297, 1)
    share = (targets[first] == targets[second]).mean()
    within, between = stage.of_all_pairs
    assert share * within + (1 - share) * between == pytest.approx(1)
    assert within / between == pytest.approx(stage.within.value / stage.between.value)
    theirs: Any = stats.ttest_ind(stage.density[same], stage.density[~same], equal_var=False)
    assert stage.welch.t == pytest.approx(theirs.statistic)
    assert stage.gap.value == pytest.approx(stage.between.value - stage.within.value)
    assert stage.gap.low < stage.gap.value < stage.gap.high


# --- planted -------------------------------------------------------------------------------------------


def made(density: NDArray[Any], distance: NDArray[Any], same: NDArray[Any], *items: NDArray[Any]) -> Stage:
    """A stage of pairs of these densities; items of their own where none are given."""
    n = len(density)
    first, second = items or (np.arange(n), n + np.arange(n))
    pairs_of = Drawn(first, second, same, bool(items), 0.1, 0)
    hamming = np.round(density * distance).astype(np.int64)[None]
    return Stage("", 1000, pairs_of, distance, np.full(n, 1.0), hamming, np.zeros(n))


def test_a_gap_that_distance_makes_is_gone_at_equal_distance() -> None:
    """Density falls with distance and pairs between classes are farther: a gap, none at equal distance."""
    rng = np.random.default_rng(0)
    same = np.arange(1000) < 500
    distance = np.where(same, rng.uniform(1, 2, 1000), rng.uniform(1.2, 2.2, 1000))
    found = made(1e5 / distance + rng.normal(0, 500, 1000), distance, same)
    assert found.gap.high < 0
    assert found.matched.low - 0.03 < 0 < found.matched.high + 0.03
    planted = made(1e5 / distance * np.where(same, 1, 1.2), distance, same)
    assert 0.15 < planted.matched.low < planted.matched.high < 0.25


def test_items_in_many_pairs_widen_the_interval_of_the_gap() -> None:
    """40 items, each in one kind of pair only: their own effects do not average out as those of pairs do."""
    rng = np.random.default_rng(1)
    own = rng.normal(0, 1, 40)
    first, second = (rng.integers(0, 20, 1000) + 20 * (np.arange(1000) < 500) for _ in range(2))
    values = 1e4 * (5 + own[first] + own[second])
    same = np.arange(1000) < 500
    shared = made(values, np.ones(1000), same, first, second)
    lone = made(values, np.ones(1000), same, np.arange(1000), 1000 + np.arange(1000))
    assert shared.gap.value == lone.gap.value
    assert shared.gap.high - shared.gap.low > 2 * (lone.gap.high - lone.gap.low)


def test_random_hyperplanes_are_their_null() -> None:
    """Bias-free first layers of random weights: bits that differ follow the angle."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 30)) + 2
    weight = rng.normal(size=(20_000, 30))
    a, b = x[:100], x[100:]
    hamming = ((a @ weight.T > 0) != (b @ weight.T > 0)).sum(1)
    angle = np.arccos((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    chosen = Drawn(np.arange(100), 100 + np.arange(100), np.arange(100) < 50, False, 0.5, 0)
    found = Stage("", 20_000, chosen, np.linalg.norm(a - b, axis=1), angle, hamming[None], np.zeros(100))
    within, between = found.hyperplanes
    assert within == pytest.approx(found.within.value, abs=5e-3)
    assert between == pytest.approx(found.between.value, abs=5e-3)


# --- flow and retrieval --------------------------------------------------------------------------------


def test_flow_from_a_stage_to_itself_is_none(found: Pairs) -> None:
    still = flow(found, "conv2", "conv2")
    assert still.correlation.value == pytest.approx(1)
    assert still.within["converges"] == still.within["diverges"] == still.between["converges"] == 0
    for by in ("distance", "hamming", "jaccard"):
        moved = flow(found, "conv1", "fc1", by=by)
        assert list(moved.within) == list(QUADRANTS)
        assert sum(moved.within.values()) == pytest.approx(1)
        assert sum(moved.between.values()) == pytest.approx(1)
    # what is of one class converges, what is not diverges
    moved = flow(found, "conv1", "fc1")
    assert moved.within["converges"] > moved.between["converges"]
    assert moved.between["diverges"] > moved.within["diverges"]
    with pytest.raises(UsageError, match="choose one of conv1"):
        flow(found, "conv1", "fc9")


def test_codes_know_the_class_as_well_as_the_network() -> None:
    subject = pk.load("digits")
    batch = torch.stack([subject.examples.at(k).input for k in range(297)])
    targets = np.array(subject.examples.targets)
    accuracy = float((subject.model(batch).argmax(1).numpy() == targets).mean())
    codes = codes_of(subject.model, batch)
    assert retrieval(codes, targets) > accuracy - 0.05
    assert retrieval(codes, np.random.default_rng(0).permutation(targets)) < 0.25
    with pytest.raises(UsageError, match="5 neighbours of 3 items"):
        retrieval(codes[:3], targets[:3])


def test_of_equally_common_classes_the_nearest_wins() -> None:
    bits = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    layout = Layout.of([Field("", 0, "relu", (4,), (0.0,), 0)])
    codes = Codes(pack.signs(bits.float())[0], layout)
    assert retrieval(codes, [7, 7, 8, 9], k=2) == 0.5  # 0: 7 by the nearest; 1: 7 by the earlier; 2: 7; 3: 8


# --- stages and bad input ------------------------------------------------------------------------------


def test_stages_are_the_children_with_parameters_lists_opened() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(2)])
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = block(x)
            return self.head(x)  # type: ignore[no-any-return]

    subject = pk.Subject(Net(), "net", "of a test", torch.zeros(1, 3), examples=None)  # type: ignore[arg-type]
    found = places(subject)
    assert [p.name for p in found] == ["stem", "blocks.0", "blocks.1"]
    assert [len(p.fields) for p in found] == [3, 2, 1]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--pairs", "90000"], "297 items in 10 classes make 4278 and 39678"),
        (["--stage", "conv9"], "conv9"),
        (["--data", "nowhere"], "holds no folders of pictures"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert what in refused(capsys, "pairs", "--out", str(tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_items_without_classes_are_refused() -> None:
    subject = pk.load("digits")

    class Nameless:
        noun, targets = "item", None

        def __len__(self) -> int:
            return 9

    mute = pk.Subject(subject.model, "mute", "of a test", subject.sample, Nameless())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="nobody knows the classes of mute's examples"):
        pairs(mute)


def test_one_class_has_no_pairs_between() -> None:
    with pytest.raises(UsageError, match="all items are of one class"):
        drawn(np.zeros(50), 5)


def test_the_command_writes_every_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    subject = pk.load("digits")
    folder, out = tmp_path / "data", tmp_path / "out"
    for k in range(60):
        example = subject.examples.at(k)
        (folder / example.label).mkdir(parents=True, exist_ok=True)
        ink = (example.input[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(ink).save(folder / example.label / f"{k}.png")
    assert (
        run(["pairs", "--data", str(folder), "--pairs", "100", "--no-controls", "--out", str(out), "--json"]) == 0
    )
    said = json.loads(capsys.readouterr().out)["found"]
    assert said == told(out / "pairs.json")
    assert list(said["numbers"]) == ["trained"]
    assert said["settings"]["items"] == 60
    lines = (out / "pairs.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 200
    assert (out / "depth.png").exists()


def test_the_parts_of_nonlinearities_add_up(found: Pairs) -> None:
    for stage in found.networks["trained"]:
        parts = stage.layers()
        assert sum(e.value for e in parts["gap"]) == pytest.approx(stage.gap.value)
        assert sum(e.value for e in parts["within"]) == pytest.approx(stage.within.value)
        assert sum(e.value for e in parts["between"]) == pytest.approx(stage.between.value)
        if len(stage.hamming) == 1:  # the whole code: the same draws of items
            assert parts["gap"][0] == stage.gap
        same, fixed = stage.pairs.same, stage.hamming / stage.distance / stage.density.mean()
        for k, e in enumerate(parts["within"]):
            wide = 2.576 * fixed[k, same].std() / np.sqrt(same.sum())  # the normal one, 99 %
            assert (e.high - e.low) / 2 == pytest.approx(wide, rel=0.15)

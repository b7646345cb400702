"""The clusters' benches: planted codes, plain trees, and a process that tells what it measured."""

import sys
from pathlib import Path

import numpy as np
import pytest

from polykern_benches import _planted, bench_euclidean, bench_hdbscan
from polykern_benches._child import apart
from polykern_benches._harness import Setting


def test_a_process_tells_what_it_measured(tmp_path: Path) -> None:
    words, _ = _planted.flips(320, bench_hdbscan.BITS, clusters=3)
    np.save(tmp_path / "words.npy", words.numpy())
    found = apart("bench_hdbscan", "cpu", tmp_path, "cpu", 1)
    assert found.seconds > 0
    assert found.told["cpu_s"] > 0
    assert {"duplicates", "neighbours", "spanning tree"} == found.told["stages_s"].keys()
    assert 0 <= found.told["passes"] < 2
    assert (found.added is not None) == (sys.platform == "linux")
    assert np.array_equal(found.result["weights"], bench_hdbscan.plain_tree(words))


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"the process of cpu failed: FileNotFoundError.*words\.npy"):
        apart("bench_hdbscan", "cpu", tmp_path, "cpu", 1)


def test_the_gate_sees_one_wrong_edge() -> None:
    (case,) = bench_euclidean.cases(Setting("cpu", small=True))
    rows, truth = bench_euclidean.planted(400, 3)
    right = {
        "labels": truth,
        "weights": bench_euclidean.plain_tree(rows),
        "warm_weights": bench_euclidean.plain_tree(rows[: bench_euclidean.WARM]),
    }
    wrong = {**right, "warm_weights": right["warm_weights"] * (1 + 1e-3)}
    for found, holds in ((right, True), (wrong, False)):
        trial = case.setup()
        assert trial.holds(found) == holds
        trial.close()


@pytest.mark.parametrize("world", [*bench_hdbscan.WORLDS, "copies"])
def test_planted_codes_are_the_same_every_time(world: str) -> None:
    (words, truth), (again, labels) = (getattr(_planted, world)(300, 70, clusters=3, seed=5) for _ in range(2))
    assert words.shape == (300, 3)
    assert bool((words == again).all())
    assert np.array_equal(truth, labels)
    assert set(truth.tolist()) == {-1, 0, 1, 2}
    assert not (words[:, 2] >> 6).any()
    other, _ = getattr(_planted, world)(300, 70, clusters=3, seed=6)
    assert not bool((words == other).all())

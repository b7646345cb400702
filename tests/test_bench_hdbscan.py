"""The bench of clusters runs at toy size: its gate holds, its processes tell what they measured."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from polykern_benches import _planted, bench_hdbscan


@pytest.mark.slow
def test_writes_what_every_process_measured(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    command = [sys.executable, "-m", "polykern", "bench", "--small", "--threads", "1", "--device", "cpu"]
    command += ["--filter", "hdbscan.codes", "--out", str(path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(path.read_text())
    assert told["schema"] == "polykern-bench/1"
    ours = [row for row in told["results"] if row["backend"] == "cpu"]
    assert {row["params"]["world"] for row in ours} == set(bench_hdbscan.WORLDS)
    for row in ours:
        assert row["median_ms"] > 0
        assert row["added_bytes"] >= 0
        assert {"neighbours", "spanning tree"} <= row["told"]["stages_s"].keys()
        assert 0 <= row["told"]["passes"] < 2


@pytest.mark.parametrize("world", bench_hdbscan.WORLDS)
def test_planted_codes_are_the_same_every_time(world: str) -> None:
    (words, truth), (again, labels) = (getattr(_planted, world)(300, 70, clusters=3, seed=5) for _ in range(2))
    assert words.shape == (300, 3)
    assert bool((words == again).all())
    assert np.array_equal(truth, labels)
    assert set(truth.tolist()) == {-1, 0, 1, 2}
    assert not (words[:, 2] >> 6).any()
    other, _ = getattr(_planted, world)(300, 70, clusters=3, seed=6)
    assert not bool((words == other).all())

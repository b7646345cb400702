"""The targets and `make gpu`, as far as they go without a device."""

import json
from pathlib import Path

import pytest
import torch

from polykern_benches import _jobs, gpu, targets
from polykern_benches._jobs import Found, Where
from polykern_benches.ceilings import Survey
from polykern_benches.targets import Target, judge
from polykern_kernels import hamming

TOY = Where("cpu", small=True)
CEILINGS = Survey(rates={"copy": 100.0})


@pytest.mark.parametrize(
    ("limit", "ceiling", "met", "share"), [(0.5, "copy", True, 0.6), (0.7, "copy", False, 0.6), (2, "", True, None)]
)
def test_met_or_not(limit: float, ceiling: str, met: bool, share: float | None) -> None:
    row = judge(Target("x", limit, ceiling, "", lambda where: Found(1.0, 60.0)), TOY, CEILINGS)
    assert (row.met, row.share) == (met, share)
    assert ("NOT met" in row.line()) != met


def test_what_fails_is_told() -> None:
    def job(where: Where) -> Found:
        _jobs.require(False, "a bit")
        return Found(1.0)

    row = judge(Target("x", 1, "", "", job), TOY, CEILINGS)
    assert row.met is None
    assert "wrong answer, so no time: a bit" in row.line()


@pytest.mark.parametrize("job", [_jobs.packed, _jobs.covariances, _jobs.nearest_of_all, _jobs.clusters])
def test_jobs_are_right_on_toys(job: object) -> None:
    assert job(TOY).seconds > 0  # type: ignore[operator]


def test_the_table_is_whole() -> None:
    assert len({t.name for t in targets.TARGETS}) == len(targets.TARGETS)
    for target in targets.TARGETS:
        assert 0 < target.limit <= (1 if target.ceiling else 300)


def test_a_step_that_fails_leaves_the_others(tmp_path: Path) -> None:
    wanted: list[gpu.Step] = [
        ("bad", 9, ["-c", "print('spoken'); raise SystemExit(3)"]),
        ("slow", 0.5, ["-c", "import time; time.sleep(60)"]),
        ("good", 9, ["-c", "print('done')"]),
    ]
    done = gpu.run(wanted, tmp_path, 60)
    assert [step["state"] for step in done] == ["failed", "out of time", "ok"]
    assert done[0]["said"] == ["spoken"]
    assert json.loads((tmp_path / "gpu.json").read_text())["steps"] == done
    assert gpu.run(wanted[2:], tmp_path, 0)[0]["state"] == "no time left"


def test_prim_is_the_tree_of_scipy() -> None:
    from scipy.sparse.csgraph import minimum_spanning_tree

    x = _jobs.planted(60, "cpu", 3)
    d = (hamming.pairwise(x, x)).double()
    core = d.sort(1).values[:, _jobs.SIZE]
    reach = torch.maximum(torch.maximum(d, core[:, None]), core).triu(1)
    assert _jobs.prim(x) == minimum_spanning_tree(reach.numpy()).sum()

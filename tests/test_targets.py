"""The targets and `make gpu`, as far as they go without a device."""

import json
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polykern_benches import _suite, bench_hdbscan, gpu, targets
from polykern_benches._harness import Case, Setting, Trial
from polykern_benches._jobs import Found, Job, done
from polykern_benches.ceilings import Survey
from polykern_benches.targets import TARGETS, Target, judge
from polykern_kernels import hamming
from polykern_kernels._cost import Cost

TOY = Setting("cpu", small=True)
CEILINGS = Survey(rates={"copy": 100.0})


@pytest.mark.parametrize(
    ("limit", "ceiling", "met", "share"), [(0.5, "copy", True, 0.6), (0.7, "copy", False, 0.6), (2, "", True, None)]
)
def test_met_or_not(limit: float, ceiling: str, met: bool, share: float | None) -> None:
    target = Target("x", limit, ceiling, "", Job(case))
    row = judge(target, TOY, CEILINGS, lambda *given: Found(1.0, 60.0))
    assert (row.met, row.share) == (met, share)
    assert ("NOT met" in row.line()) != met


def case(setting: Setting, *, right: bool = True) -> Case:
    """Distances of two codes, judged as the test says."""
    x = torch.tensor([[1], [6]], dtype=torch.int32)

    def run(way: str) -> Tensor:
        return hamming.pairwise(x, x, backend=way)

    def setup() -> Trial:
        return Trial((x,), run, lambda got: right)

    return Case("hamming.toy", {}, "int32", Cost(bytes=48, popcounts=4), hamming.IMPLS["pairwise"], setup)


def test_work_is_in_the_unit_of_the_ceiling() -> None:
    assert done(Job(case, way="cpu"), TOY, "copy").work == 48
    assert done(Job(case, way="cpu", charged=2), TOY, "popcount").work == 8
    assert done(Job(case), TOY).work == 0


def test_what_fails_is_told() -> None:
    wrong = judge(Target("x", 1, "", "", Job(partial(case, right=False))), TOY, CEILINGS)
    assert wrong.met is None
    assert "wrong answer, so no time" in wrong.line()
    elsewhere = judge(Target("x", 1, "", "", Job(case, way="b1")), TOY, CEILINGS)
    assert "LookupError: b1 cannot run: " in elsewhere.line()


TOYS = ("pack bf16", "covariance", "nearest 1e6", "map digits", "hdbscan 1e6")


@pytest.mark.parametrize("target", [t for t in TARGETS if t.name in TOYS], ids=lambda target: target.name)
def test_cases_are_right_on_toys(target: Target) -> None:
    found = done(target.job, TOY, target.ceiling.replace("bf16_gemm", "float32"))
    assert found.seconds > 0
    assert (found.work > 0) == bool(target.ceiling)


def test_the_table_is_whole() -> None:
    assert len({t.name for t in targets.TARGETS}) == len(targets.TARGETS)
    for target in targets.TARGETS:
        assert 0 < target.limit <= (1 if target.ceiling else 300)


def test_steps_fit_their_time_and_their_filters_a_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = gpu.steps(tmp_path)
    assert sum(limit for _, limit, _ in wanted) <= gpu.ALL
    monkeypatch.setattr(bench_hdbscan, "_own", lambda setting: bench_hdbscan.HDBSCAN)
    cases = _suite.cases(Setting("cuda", small=False))
    filters = [b for _, _, arguments in wanted for a, b in pairwise(arguments) if a == "--filter"]
    chosen = _suite.chosen(cases, filters)
    assert filters
    assert not any(case.heavy for case in chosen)
    assert len(chosen) == len([case for case in cases if not case.heavy and case.operation != "hdbscan.codes"])


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

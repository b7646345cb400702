"""The targets and `make gpu`, as far as they go without a device."""

import json
import os
import select
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from polykern_benches import _measure, _memory, _suite, bench_hdbscan, gpu, targets
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
    assert sum(step.seconds for step in wanted) <= gpu.ALL
    monkeypatch.setattr(bench_hdbscan, "_own", lambda setting: bench_hdbscan.HDBSCAN)
    cases = _suite.cases(Setting("cuda", small=False))
    filters = [b for step in wanted for a, b in pairwise(step.arguments) if a == "--filter"]
    chosen = _suite.chosen(cases, filters)
    assert filters
    assert not any(case.heavy for case in chosen)
    assert len(chosen) == len([case for case in cases if not case.heavy and case.operation != "hdbscan.codes"])


def test_a_step_that_fails_leaves_the_others(tmp_path: Path) -> None:
    wanted = [
        gpu.Step("bad", 9, ["-c", "print('spoken'); raise SystemExit(3)"]),
        gpu.Step("slow", 0.5, ["-c", "import time; time.sleep(60)"]),
        gpu.Step("good", 9, ["-c", "print('done')"]),
    ]
    done = gpu.run(wanted, tmp_path, 60)
    assert [step["state"] for step in done] == ["failed", "out of time", "ok"]
    assert done[0]["said"] == ["spoken"]
    assert json.loads((tmp_path / "gpu.json").read_text())["steps"] == done
    assert gpu.run(wanted[2:], tmp_path, 0)[0]["state"] == "no time left"


def test_tests_that_were_out_of_time_get_what_is_left(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    code = f"import pathlib, time; p = pathlib.Path({str(begun)!r}); p.exists() or (p.touch(), time.sleep(60))"
    wanted = [gpu.Step("tests", 2, ["-c", code], noted=True), gpu.Step("good", 9, ["-c", "print('done')"])]
    done = gpu.run(wanted, tmp_path, 60)
    said = [(step["step"], step["state"]) for step in done]
    assert said == [("tests", "out of time"), ("good", "ok"), ("tests 2", "ok")]
    begun.unlink()
    assert [step["state"] for step in gpu.run(wanted[:1], tmp_path, 2)] == ["out of time", "no time left"]


def test_every_test_of_a_device_is_in_a_file_that_is_run() -> None:
    """A mark is in the file of its test, or in the fixture of the kernels' tests."""
    marking = {p for p in (gpu.ROOT / "tests").rglob("*.py") if gpu.MARK in p.read_text()}
    elsewhere = {p.relative_to(gpu.ROOT).as_posix() for p in marking if not p.name.startswith("test_")}
    assert elsewhere == {"tests/kernels/conftest.py"}
    named = set(gpu.tests_of_a_device())
    assert {p.relative_to(gpu.ROOT).as_posix() for p in marking} - elsewhere <= named
    assert all((gpu.ROOT / name).exists() for name in named)


@pytest.mark.slow
def test_no_child_of_a_step_outlives_it(tmp_path: Path) -> None:
    """The child holds one end of a pipe: at the other one reads its end."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    child = f"import time; held = open({str(pipe)!r}, 'wb', buffering=0); held.write(b'x'); time.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    (done,) = gpu.run([gpu.Step("slow", 5, ["-c", code])], tmp_path, 60)
    assert done["state"] == "out of time"
    assert os.read(end, 2) == b"x"
    assert select.select([end], [], [], 10)[0]
    assert os.read(end, 1) == b""
    os.close(end)


# --- a device that is lost ---------------------------------------------------------------------------


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A device that is lost when its list is not empty."""
    lost: list[bool] = []
    monkeypatch.setattr(_memory, "lost", lambda device: bool(lost))
    return lost


def test_a_lost_device_is_told_case_by_case(gone: list[bool]) -> None:
    def run(way: str) -> Tensor:
        gone.append(True)
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    bad = replace(case(TOY), setup=lambda: Trial((torch.zeros(2, 1).int(),), run, lambda got: True))
    first, second = ([r["failed"] for r in _measure.records(c, TOY)] for c in (bad, case(TOY)))
    assert first == ["RuntimeError: CUDA error: an illegal memory access was encountered"]
    assert second == [_memory.LOST]
    assert judge(TARGETS[0], TOY, CEILINGS).why == _memory.LOST
    assert _memory.LOST.startswith(gpu.LOST)


def test_what_had_no_turn_runs_again(tmp_path: Path) -> None:
    """The benches' cases, the targets' rows; a case that was tried itself does not come again."""
    record = {"case": "a.b", "params": {"n": 3, "kind": "x"}, "dtype": "int32"}
    tried, lost = {**record, "failed": "RuntimeError: CUDA error"}, {**record, "failed": _memory.LOST}
    results = [tried, lost, {**lost, "params": {"n": 4}}, {**record, "params": {"n": 5}, "median_ms": 1.0}]
    (tmp_path / "bench-codes-cuda.json").write_text(json.dumps({"results": results}))
    again = gpu._cases_left(tmp_path, "codes", 1)
    assert again[-2:] == ["--filter", "a.b n=4 int32"]
    assert again.count("--filter") == 1
    assert str(tmp_path / "bench-codes-cuda-2.json") in again
    assert gpu._cases_left(tmp_path, "codes", 2) == []
    rows = [{"name": "pack bf16", "why": "RuntimeError"}, {"name": "covariance", "why": _memory.LOST}]
    (tmp_path / "targets-cuda.json").write_text(json.dumps({"rows": rows}))
    again = gpu._targets_left(tmp_path, 1)
    assert again[-2:] == ["--only", "covariance"]
    with pytest.raises(SystemExit):
        targets.main(["--only", "no such row"])


def test_a_step_goes_on_behind_what_lost_the_device(tmp_path: Path) -> None:
    left = {1: ["-c", "raise SystemExit(1)"], 2: ["-c", "print('rest')"], 3: ["-c", "print('never')"]}
    step = gpu.Step("cases", 30, ["-c", "raise SystemExit(1)"], lambda before: left.get(before, []))
    done = gpu.run([step], tmp_path, 60)
    assert [(d["step"], d["state"]) for d in done] == [
        ("cases", "failed"), ("cases 2", "failed"), ("cases 3", "ok"),
    ]  # fmt: skip
    assert done[-1]["said"] == ["rest"]


TESTS = """
import torch
from polykern_benches import _memory
lost = []
torch.cuda.is_available = lambda: True
_memory.lost = lambda device: bool(lost)
def test_a(): pass
def test_b(): lost.append(1); assert False
def test_c(): pass
"""


def test_tests_go_on_behind_one_that_lost_the_device(tmp_path: Path) -> None:
    (tmp_path / "test_device.py").write_text(TESTS)
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "polykern_benches._noted", "test_device.py"]
    environment = {**os.environ, "POLYKERN_NOTED": str(tmp_path / "noted.txt")}
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        said.append(done.stdout)
    assert gpu.LOST in said[0]
    assert "1 failed, 1 passed" in said[0]
    assert "1 passed, 2 deselected" in said[1]

"""Every bench runs at toy size and writes its schema; a wrong or impossible number stops it."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polykern_benches import _harness, _roof
from polykern_benches.__main__ import bench as bench_all
from polykern_benches._harness import Case, Setting
from polykern_benches.bench_hamming import cases
from polykern_kernels._cost import Cost, Roof

BENCHES = sorted(path.stem for path in Path(_harness.__file__).parent.glob("bench_*.py"))
KERNELS = [name for name in BENCHES if hasattr(importlib.import_module(f"polykern_benches.{name}"), "cases")]
RECORD = {
    "operation": str,
    "backend": str,
    "device": str,
    "shape": dict,
    "dtype": str,
    "median_s": float,
    "p90_s": float,
    "repetitions": int,
    "bytes": int,
    "popcounts": int,
    "flops": int,
    "share": float,
    "bound": str,
}
TOY = Setting("cpu", small=True)
HIGH = Roof(1e15, 1e15, 1e15)


@pytest.fixture
def quick_roof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A roof that nothing reaches, at no time."""
    monkeypatch.setattr(_harness, "measured", lambda device, small: HIGH)


@pytest.mark.usefixtures("quick_roof")
def test_all_benches_write_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "all.json"
    bench_all(["--small", "--device", "cpu", "--json", str(path)])
    written: dict[str, Any] = json.loads(path.read_text())
    assert written["schema"] == "polykern-bench/1"
    assert written["small"] is True
    assert written["benches"] == [name.removeprefix("bench_") for name in KERNELS]
    assert {"cpu", "cores", "threads", "system"} <= written["machine"].keys()
    assert written["versions"]["torch"] == torch.__version__
    assert set(written["roof"]) == {"bytes_per_s", "popcounts_per_s", "flops_per_s"}
    assert {record["operation"].partition(".")[0] for record in written["results"]} >= {"pack", "hamming", "grid"}
    for record in written["results"]:
        assert {key: type(value) for key, value in record.items()} == RECORD, record["operation"]
        assert 0 < record["median_s"] <= record["p90_s"]
        assert 0 < record["share"] <= 1
    assert str(tmp_path) not in path.read_text()


@pytest.mark.usefixtures("quick_roof")
@pytest.mark.parametrize("name", KERNELS)
def test_each_bench_runs_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(f"polykern_benches.{name}").bench(["--small", "--device", "cpu"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("roof: ")
    assert len(lines) > 1
    assert all("ms" in line and "% of " in line for line in lines[1:])


def test_a_wrong_answer_is_not_timed() -> None:
    case: Case = replace(cases(TOY)[0], holds=lambda got: False)
    with pytest.raises(SystemExit, match=r"hamming.pairwise/cpu: wrong answer, so no timing"):
        _harness.time_case(case, "cpu", TOY)


def test_faster_than_light_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    low = Roof(1.0, 1.0, 1.0)
    monkeypatch.setattr(_harness, "measured", lambda device, small: low)
    record = _harness.time_case(cases(TOY)[0], "cpu", TOY)
    with pytest.raises(SystemExit, match=r"hamming.pairwise/cpu: \d+% of the roof: the roof or the cost is wrong"):
        _harness.weigh([record], low, TOY)


def test_the_roof_is_measured_again_before_it_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_harness, "measured", lambda device, small: HIGH)
    record = _harness.time_case(cases(TOY)[0], "cpu", TOY)
    assert _harness.weigh([record], Roof(1.0, 1.0, 1.0), TOY) == HIGH
    assert 0 < record["share"] <= 1


def test_the_gate_sees_one_wrong_bit() -> None:
    case = cases(TOY)[0]
    right = case.run("cpu")
    assert case.holds(right)
    right[-1, -1] += 1
    assert not case.holds(right)


def test_the_bound_is_the_slowest_resource() -> None:
    roof = Roof(bytes_per_s=10, popcounts_per_s=100, flops_per_s=1000)
    assert _harness.bound(Cost(bytes=10, popcounts=10, flops=10), roof) == "bytes"
    assert _harness.bound(Cost(bytes=1, popcounts=100, flops=10), roof) == "popcounts"
    assert _harness.bound(Cost(bytes=1, popcounts=1, flops=1000), roof) == "flops"


def test_a_small_roof_is_positive() -> None:
    roof = _roof.measured("cpu", small=True)
    assert min(roof.bytes_per_s, roof.popcounts_per_s, roof.flops_per_s) > 0

"""Every bench runs at toy size through the command; a wrong or impossible number stops it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polykern.cli.app import run
from polykern_benches import _clock, _measure, _memory, _suite, _work
from polykern_benches._board import Reading
from polykern_benches._clock import Sample
from polykern_benches._document import document, key, read, write
from polykern_benches._harness import Case, Measured, Setting, Trial
from polykern_benches.ceilings import NAMES
from polykern_kernels._cost import Cost
from polykern_kernels._dispatch import Impl
from tests.test_house import keys

ROOT = Path(__file__).parents[1]
TOY = Setting("cpu", small=True)
HIGH = dict.fromkeys(NAMES, 1e18)
TIMED = {
    "samples_ms", "throttled", "samples", "median_ms", "p20_ms", "p80_ms", "cv", "added_bytes", "gpu", "told",
    "work", "roofline",
}  # fmt: skip
NAMED = {"case", "params", "dtype", "backend", "peer", "device"}


@pytest.fixture
def high(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings that nothing reaches, at no time."""
    monkeypatch.setattr(_work, "measured", lambda device, small, units: HIGH)


def toy(operation: str = "toy.case", **more: Any) -> Case:
    """A case that gives 1."""
    given: dict[str, Any] = {
        "operation": operation,
        "params": {"n": 3},
        "dtype": "int32",
        "cost": Cost(bytes=8, popcounts=2),
        "ways": (Impl("cpu", lambda: None, lambda *args: None),),
        "setup": lambda: Trial((torch.empty(0),), lambda way: 1, lambda got: got == 1),
    }
    return Case(**{**given, **more})


def only(case: Case) -> dict[str, Any]:
    (record,) = _measure.records(case, TOY)
    return record


@pytest.fixture
def these(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """these(cases...) are the only ones there are."""
    return lambda *cases: monkeypatch.setattr(_suite, "cases", lambda setting: list(cases))


# --- all of them -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("high")
def test_every_case_runs_at_toy_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command, once; what is written has the keys of docs/FORMAT.md and opens again."""
    out = tmp_path / "folder" / "toy.json"
    words = ["bench", "--small", "--full", "--device", "cpu", "--threads", "1", "--json", "--quiet"]
    assert run([*words, "--out", str(out), "--plot", str(tmp_path / "plots")]) == 0
    said, written = json.loads(capsys.readouterr().out), read(out)
    assert said == {**written, "ok": True, "plots": said["plots"], "settings": said["settings"]}
    assert [Path(p).name for p in said["plots"]] == ["roofline.png", "scaling.png"]
    cases = _suite.cases(TOY)
    assert {r["case"] for r in written["results"]} == {c.operation for c in cases}
    assert len({key(record) for record in written["results"]}) == len(written["results"])
    for record in written["results"]:
        assert record.keys() == NAMED | ({"skipped"} if "skipped" in record else TIMED), record
        if "skipped" in record:
            assert record["peer"]
            continue
        assert 0 < record["p20_ms"] <= record["median_ms"] <= record["p80_ms"]
        assert record["roofline"] is None or 0 < record["roofline"]["share"] <= 1
    assert written["env"]["threads"] == 1
    assert written["settings"]["threads"] == {"value": 1, "from": "command line"}
    assert written["settings"]["filter"] == {"value": None, "from": "default"}
    assert "threads = 1  # command line" in (tmp_path / "plots" / "settings.toml").read_text()
    assert str(tmp_path) not in out.read_text()


@pytest.mark.usefixtures("high")
def test_what_was_measured_before_an_interruption_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, these: Callable[..., None]
) -> None:
    def interrupted() -> Trial:
        signal.raise_signal(signal.SIGTERM)
        return toy().setup()

    out, draft = tmp_path / "toy.json", tmp_path / "toy.partial.json"
    words = ["bench", "--small", "--device", "cpu", "--threads", "1", "--out", str(out)]
    these(toy("toy.first"), toy("toy.second", setup=interrupted), toy("toy.third"))
    assert run(words) == 143
    assert f"{draft} holds what was reached before" in capsys.readouterr().err
    assert not out.exists()
    assert run(["bench", "--from", str(draft)]) == 0
    assert "2 cases had no turn" in capsys.readouterr().err
    held = read(draft)
    assert [(r["case"], r["roofline"]["share"] > 0) for r in held["results"]] == [("toy.first", True)]
    assert held["settings"]["small"] == {"value": True, "from": "command line"}
    these(toy("toy.first"), toy("toy.second"))
    assert run(words) == 0
    assert "left" not in read(out)
    assert [r["case"] for r in read(out)["results"]] == ["toy.first", "toy.second"]
    assert list(tmp_path.iterdir()) == [out]


def test_cases_have_names_of_their_own() -> None:
    names = [case.name for small in (True, False) for case in _suite.cases(Setting("cpu", small))]
    assert len(set(names)) == len(names)


def test_listing_makes_no_data(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_measure, "records", lambda *args: pytest.fail("measured"))
    assert run(["bench", "--list", "--device", "cpu", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "polykern-bench-list/1"
    assert {case["case"].partition(".")[0] for case in said["cases"]} >= {"pack", "hamming", "heatmap", "hdbscan"}
    assert {"reference", "triton"} & {b for case in said["cases"] for b in case["backends"]} == set()
    assert run(["bench", "--list", "--device", "cpu", "--filter", "heatmap*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("heatmap.digits") for line in lines)
    assert "when named, or --full" in lines[-1]


def test_the_package_is_the_command() -> None:
    words = [sys.executable, "-m", "polykern_benches", "--filter", "no.such"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no such case" in done.stderr


# --- which cases -----------------------------------------------------------------------------------


def test_heavy_cases_run_when_they_are_asked_for() -> None:
    light, heavy = toy("a.light"), toy("a.heavy", heavy=True)
    assert _suite.chosen([light, heavy], []) == [light]
    assert _suite.chosen([light, heavy], [], full=True) == [light, heavy]
    assert _suite.chosen([light, heavy], ["*.heavy"]) == [heavy]
    assert _suite.chosen([light, heavy], ["a.light n=3 int32"]) == [light]


def test_an_unknown_case_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--filter", "haming.pairwise", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert "--filter haming.pairwise: there is no such case" in said
    assert "hamming.pairwise" in said
    assert "polykern bench --list" in said


def test_a_run_from_a_file_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "--from", "x.json", "--small"]) == 2
    assert "--from takes a run that was measured" in capsys.readouterr().err


# --- the gate --------------------------------------------------------------------------------------


def test_a_wrong_answer_is_not_timed() -> None:
    record = only(toy(setup=lambda: Trial((torch.empty(0),), lambda way: 2, lambda got: got == 1)))
    assert record["failed"] == "wrong answer, so no time"
    assert "samples_ms" not in record


@pytest.mark.usefixtures("high")
def test_a_wrong_answer_is_exit_code_1(these: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    wrong = toy("toy.wrong", setup=lambda: Trial((torch.empty(0),), lambda way: 2, lambda got: got == 1))
    these(wrong, toy("toy.right"))
    assert run(["bench", "--small", "--device", "cpu", "--json"]) == 1
    said = capsys.readouterr()
    whole = json.loads(said.out)
    assert not whole["ok"]
    assert ["failed" in r for r in whole["results"]] == [True, False]
    assert "toy.wrong n=3, cpu: wrong answer, so no time" in said.err


def test_the_gate_sees_one_wrong_bit() -> None:
    (case,) = [c for c in _suite.cases(TOY) if c.operation == "hamming.pairwise"]
    trial = case.setup()
    right = trial.run("cpu")
    assert trial.holds(right)
    right[-1, -1] += 1
    assert not trial.holds(right)


def test_faster_than_light_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_work, "measured", lambda device, small, units: {"copy": 1.0, "popcount": 1.0})
    (record,), _ = _suite.run([toy()], TOY, None, lambda *args: None)
    assert "of the ceiling of bytes: the ceiling or the cost is wrong" in record["failed"]
    assert record["samples_ms"]


def test_ceilings_are_measured_again_before_they_are_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{"copy": 1.0}, {"copy": 1.0}, {"copy": 2.0}, {"copy": 1e15}])
    monkeypatch.setattr(_work, "measured", lambda device, small, units: next(found))
    (record,), ceilings = _suite.run([toy()], TOY, None, lambda *args: None)
    assert ceilings == {"copy": 1e15}
    assert 0 < record["roofline"]["share"] <= 1


def test_an_error_of_one_way_does_not_end_the_others() -> None:
    def setup() -> Trial:
        def run(way: str) -> int:
            if way == "cpu":
                raise RuntimeError("no\nreason")
            return 1

        return Trial((torch.empty(0),), run, lambda got: got == 1)

    other = Impl("other", lambda: None, lambda *args: None)
    first, second = _measure.records(toy(setup=setup, peers=(other,)), TOY)
    assert first["failed"] == "RuntimeError: no"
    assert second["median_ms"] > 0
    assert second["peer"]


def test_a_peer_is_given_the_same_data() -> None:
    peer = Impl("theirs", lambda x: x + 1, lambda *args: None)
    trial = Trial((torch.empty(0),), lambda way: 1, lambda got: got == 1, beside=lambda run: run(0))
    ours, theirs = _measure.records(toy(setup=lambda: trial, peers=(peer,)), TOY)
    assert ours["median_ms"] > 0
    assert theirs["median_ms"] > 0


def test_a_peer_that_is_not_there_says_how_to_get_it() -> None:
    peer = Impl("theirs", lambda: None, lambda *args: "not installed: pip install theirs")
    _, record = _measure.records(toy(peers=(peer,)), TOY)
    assert record["skipped"] == "not installed: pip install theirs"


# --- memory ----------------------------------------------------------------------------------------


def test_a_case_too_large_for_the_memory_is_not_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "available", lambda device: 2 << 30)
    record = only(toy(memory=3 << 30, setup=lambda: pytest.fail("set up")))
    assert record["skipped"] == "needs 3 GiB of memory, 2 GiB are free"


def test_out_of_memory_is_a_skip() -> None:
    def setup() -> Trial:
        raise MemoryError

    assert only(toy(setup=setup))["skipped"] == "out of memory: MemoryError"


def test_what_a_case_holds_is_let_go_of() -> None:
    closed = []
    trial = Trial((torch.empty(0),), lambda way: 1, lambda got: True, close=lambda: closed.append(1))
    for _ in range(2):
        next(iter(_measure.records(toy(setup=lambda: trial), TOY)))
    assert closed == [1, 1]


@pytest.mark.skipif(not _memory.FORGET.exists(), reason="the system does not tell the peak of a process")
def test_the_peak_of_memory_is_seen() -> None:
    peak = _memory.Peak("cpu")
    torch.ones(1 << 24, dtype=torch.float32).sum()
    added = peak.added()
    assert added is not None
    assert 60 << 20 < added < 80 << 20


# --- time ------------------------------------------------------------------------------------------


def test_throttled_samples_are_marked_and_left_out() -> None:
    slow = Reading(throttled=("power cap",))
    found = _clock.statistics_of([Sample(0.001), Sample(0.009, slow), Sample(0.003, Reading(sm_mhz=1980))])
    assert found["samples_ms"] == [1.0, 9.0, 3.0]
    assert (found["throttled"], found["samples"], found["median_ms"]) == ([1], 2, 2.0)
    assert _clock.statistics_of([Sample(0.009, slow)])["median_ms"] == 9.0


def test_a_run_that_measured_itself_is_taken_at_its_word() -> None:
    runs = iter([0.5, 0.7, 0.6])
    trial = Trial((torch.empty(0),), lambda way: Measured(1, next(runs), 7, {"a": 1}), lambda got: got == 1)
    (record,) = _measure.records(toy(setup=lambda: trial, samples=3), Setting("cpu", small=False))
    assert record["samples_ms"] == [500.0, 700.0, 600.0]
    assert (record["median_ms"], record["added_bytes"], record["told"]) == (600.0, 7, {"a": 1})


# --- work ------------------------------------------------------------------------------------------


def test_the_bound_is_the_slowest_resource() -> None:
    ceilings = {"copy": 10.0, "read": 5.0, "popcount": 100.0, "float64_gemm": 1000.0}

    def bound(cost: Cost) -> Any:
        found = _work.roofline(_work.amounts(cost, "cpu", "float64"), 2.0, ceilings)
        assert found
        return found["bound"], found["share"]

    assert bound(Cost(bytes=10, popcounts=10, flops=10)) == ("bytes", 0.5)
    assert bound(Cost(bytes=1, popcounts=100, flops=10)) == ("words", 0.5)
    assert bound(Cost(bytes=1, popcounts=1, flops=1000)) == ("float64", 0.5)


def test_one_bit_tensor_cores_have_a_ceiling_of_their_own() -> None:
    cost = Cost(bytes=1, popcounts=100)
    ceilings = {"copy": 1e9, "popcount": 100.0, "b1_mma": 6400.0}
    found = {w: _work.roofline(_work.amounts(cost, w, "float64"), 1.0, ceilings) for w in ("triton", "b1", "faiss")}
    assert {w: (f["bound"], f["share"]) for w, f in found.items() if f} == {
        "triton": ("words", 1.0), "b1": ("bit pairs", 0.5), "faiss": ("words", 1.0),
    }  # fmt: skip


def test_a_peer_is_held_against_the_unit_of_ours() -> None:
    peer = Impl("theirs", lambda: None, lambda *args: None)
    ours = Impl("b1", lambda: None, lambda *args: None)
    case = toy(ways=(ours,), peers=(peer,))
    trial, gpu = case.setup(), Setting("cuda", small=True)
    held = [_measure._Run(case, trial, way, way is peer, gpu, None).held_against() for way in (ours, peer)]
    assert held == ["b1", "b1"]


def test_ceilings_are_positive() -> None:
    assert min(_work.measured("cpu", small=True, units=("bytes", "words")).values()) > 0


# --- the file --------------------------------------------------------------------------------------


def printed() -> dict[str, Any]:
    """The run in docs/FORMAT.md."""
    page = (ROOT / "docs/FORMAT.md").read_text(encoding="utf-8").partition("## `polykern-bench/1`")[2]
    found: dict[str, Any] = json.loads(page.partition("```json\n")[2].partition("```")[0])
    return found


def test_the_example_of_the_format_opens(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write(path, printed())
    assert read(path) == printed()


def test_the_writer_writes_what_the_format_says() -> None:
    record = only(toy())
    _measure.weigh(record, {"popcount": 1e18})
    whole, expected = document(TOY, None, [record], {"popcount": 1e18}), printed()
    # what differs from case to case and from processor to processor
    at = ".results[]"
    open_ended = (f"{at}.params.", f"{at}.work.", f"{at}.skipped", f"{at}.throttled", ".ceilings.", ".env.vector[")
    found, said = ({k for k in keys(x) if not k.startswith(open_ended)} for x in (whole, expected))
    assert found == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": "polykern-bench/9"}, "its schema is 'polykern-bench/9'"),
        ({"env": None}, "env is missing or of another type"),
        ({"results": [{"case": "a.b"}]}, "does not say what was measured"),
        ({"results": [{**printed()["results"][0], "samples_ms": []}]}, "has no times"),
        ({"results": [{**printed()["results"][0], "samples_ms": [0.0]}]}, "has no times"),
        ({"results": [{**printed()["results"][0], "median_ms": None}]}, "has no statistics"),
        ({"results": [{**printed()["results"][0], "throttled": [5]}]}, "which samples were throttled"),
    ],
)
def test_another_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({**printed(), **change}))
    assert run(["bench", "--from", str(path)]) == 3
    assert said in capsys.readouterr().err


def test_a_torn_file_and_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    assert run(["bench", "--from", str(path)]) == 2
    path.write_text('{"schema": "polyk')
    assert run(["bench", "--from", str(path)]) == 3
    assert "cannot be read" in capsys.readouterr().err


def test_a_way_is_a_record_whatever_the_device() -> None:
    """On a GPU the ways of the CPU are no competitors, nor is Triton's interpreter on a CPU."""
    names = ("b1", "triton", "cpu", "torch", "reference")
    ways = tuple(Impl(name, lambda: None, lambda *args: None) for name in names)
    case = replace(toy(), ways=ways)
    assert _measure.ways(case, TOY)[0] == ["cpu", "torch"]
    assert _measure.ways(case, Setting("cuda", small=True))[0] == ["b1", "triton", "torch"]

"""Two runs: what became faster, slower, or neither; what is refused, and with which exit code."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.cli.app import run
from polykern_benches import _compare, _measure
from polykern_benches._clock import Sample, statistics_of
from polykern_benches._document import Document, document, read, write
from polykern_benches._harness import Setting

TOY = Setting("cpu", small=True)
Save = Callable[..., str]


def normal(median: float, cv: float = 0.01, n: int = 15, seed: int = 0) -> list[float]:
    """Times, ms, with some noise."""
    return [median * (1 + cv * x) for x in np.random.default_rng(seed).normal(size=n).tolist()]


def record(times: Sequence[float], case: str = "a.b", backend: str = "cpu", **more: Any) -> dict[str, Any]:
    named = {"case": case, "params": {"n": 3}, "dtype": "int32", "backend": backend, "peer": False, "device": "cpu"}
    measured = {"added_bytes": 4096, "gpu": None, "told": {}, "work": {"bytes": 1000, "words": 8}}
    found = {**named, **statistics_of([Sample(ms / 1e3) for ms in times]), **measured, **more}
    _measure.weigh(found, {"copy": 1e12, "popcount": 1e12})
    return found


def whole(*records: dict[str, Any], **more: Any) -> Document:
    return {**document(TOY, None, records, {"copy": 1e12, "popcount": 1e12}), **more}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """save(name, run) -> where it lies."""

    def saved(name: str, of: Document) -> str:
        write(tmp_path / name, of)
        return str(tmp_path / name)

    return saved


def verdict(new: Sequence[float], base: Sequence[float]) -> str:
    (change,) = _compare.compare(whole(record(new)), whole(record(base)))
    return change.verdict


@pytest.mark.parametrize(
    ("new", "base", "said"),
    [
        (normal(20, seed=1), normal(10), "slower"),
        (normal(10.7, seed=1), normal(10), "slower"),
        (normal(5, seed=1), normal(10), "faster"),
        (normal(10, seed=1), normal(10), "same"),
        (normal(10.3, cv=0.001, seed=1), normal(10), "same"),  # the interval excludes 1, the change is no 5%
        (normal(11, cv=0.6, seed=2), normal(10, cv=0.6), "same"),  # a change above 5% that is noise
        (normal(20, n=2), normal(10), "too few samples"),
    ],
)
def test_verdicts(new: list[float], base: list[float], said: str) -> None:
    assert verdict(new, base) == said


def test_noise_is_rarely_a_regression() -> None:
    """Two runs of the same distribution, 10% apart from sample to sample, fifty times."""
    said = [verdict(normal(10, 0.1, seed=2 * k), normal(10, 0.1, seed=2 * k + 1)) for k in range(50)]
    assert said.count("same") >= 45


def test_the_interval_is_the_same_every_time_and_holds_the_ratio() -> None:
    new, base = normal(12, 0.05, seed=1), normal(10, 0.05, seed=2)
    ratio, low, high = _compare.ratio(new, base)
    assert (ratio, low, high) == _compare.ratio(new, base)
    assert ratio == np.median(new) / np.median(base)
    assert low <= ratio <= high
    assert high - low < 0.2


def test_throttled_samples_do_not_count() -> None:
    times = [*normal(10, n=5), 90.0, 90.0, 90.0, 90.0, 90.0, 90.0]
    (change,) = _compare.compare(whole(record(times, throttled=list(range(5, 11)))), whole(record(normal(10))))
    assert change.verdict == "same"


def test_a_regression_is_exit_code_7(save: Save, capsys: pytest.CaptureFixture[str]) -> None:
    base = save("base.json", whole(record(normal(10)), record(normal(10), case="a.c")))
    new = save("new.json", whole(record(normal(10, seed=1)), record(normal(20, seed=1), case="a.c")))
    assert run(["bench", "--from", new, "--compare", base]) == 7
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == ["case", "a.b", "a.c"]
    assert lines[1].endswith("same")
    assert lines[2].endswith("slower")
    assert "1 of 2 became slower" in said.err
    assert run(["bench", "--from", new, "--compare", base, "--json", "--quiet"]) == 7
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert [c["verdict"] for c in told["comparison"]] == ["same", "slower"]
    assert run(["bench", "--from", base, "--compare", new]) == 0
    assert "faster" in capsys.readouterr().out


def test_a_run_that_is_copied_keeps_the_settings_it_was_measured_with(save: Save, tmp_path: Path) -> None:
    measured = {"threads": {"value": 3, "from": "POLYKERN_THREADS"}}
    old = save("old.json", {**whole(record(normal(10))), "settings": measured})
    assert run(["bench", "--from", old, "--out", str(tmp_path / "copy.json"), "-q"]) == 0
    assert read(tmp_path / "copy.json")["settings"] == measured


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "cuda"}, "another device"),
        ({"small": False}, "another size"),
        ({"env": {"cpu": "another", "threads": 1}}, "another processor"),
    ],
)
def test_another_machine_is_refused_unless_forced(
    save: Save, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    base, new = save("base.json", whole(record(normal(10)), **change)), save("new.json", whole(record(normal(10))))
    assert run(["bench", "--from", new, "--compare", base]) == 6
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "--across-machines" in complaint
    assert run(["bench", "--from", new, "--compare", base, "--across-machines"]) == 0


def test_a_run_is_not_begun_that_cannot_be_compared(
    save: Save, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_measure, "records", lambda *args: pytest.fail("measured"))
    words = ["bench", "--small", "--device", "cpu", "--filter", "hamming.pairwise", "--compare"]
    assert run([*words, save("gpu.json", whole(record(normal(10)), device="cuda"))]) == 6
    assert run([*words, save("other.json", whole(record(normal(10))))]) == 2
    assert "no case in common" in capsys.readouterr().err


def test_nothing_in_common_and_no_run_at_all(
    tmp_path: Path, save: Save, capsys: pytest.CaptureFixture[str]
) -> None:
    new = save("new.json", whole(record(normal(10))))
    assert run(["bench", "--from", new, "--compare", save("base.json", whole(record(normal(10), case="b.b")))]) == 2
    assert "no case in common" in capsys.readouterr().err
    other = tmp_path / "other.json"
    other.write_text('{"schema": "polykern-heatmap/1"}')
    assert run(["bench", "--from", new, "--compare", str(other)]) == 3
    assert "polykern-heatmap/1" in capsys.readouterr().err
    assert run(["bench", "--from", new, "--compare", str(tmp_path / "none.json")]) == 2

"""What is made of runs: tables of README, and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.cli.app import run
from polykern_benches import _plots, table
from polykern_benches._document import write
from tests.test_bench_compare import normal, record, whole

ROOT = Path(__file__).parents[1]
PAGE = "# Page\n\n<!-- bench run.json: a.* -->\nold\n<!-- /bench -->\n\nText\n"


def sized(n: int, bits: int, ms: float, **more: Any) -> dict[str, Any]:
    return record(normal(ms), params={"n": n, "bits": bits}, **more)


def test_readme_is_what_the_runs_say() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table.MARKED.search(text)
    assert table.rendered(text, ROOT / "benches" / "results") == text


def test_a_table_is_made_of_a_run(tmp_path: Path) -> None:
    peer = record(normal(40, cv=0), backend="theirs", peer=True)
    records = record(normal(10, cv=0)), peer, record(normal(20, cv=0), backend="other"), record([1.0], case="b.b")
    write(tmp_path / "run.json", whole(*records, created="2026-01-31T12:00:00Z", git="0123456789abcdef"))
    made = table.rendered(PAGE, tmp_path)
    rows = [line for line in made.splitlines() if line.startswith("| `")]
    assert len(rows) == 2
    assert rows[0].startswith("| `a.b` int32 cpu | n=3 | 10.0 ms |")
    assert rows[0].endswith("| theirs 40.0 ms, ratio 4.0 |")
    assert rows[1].endswith("|  |")
    assert "old" not in made
    assert "commit 0123456789" in made
    assert "toy sizes" in made
    assert made.startswith("# Page\n\n<!-- bench run.json: a.* -->\n")
    assert made.endswith("<!-- /bench -->\n\nText\n")
    assert table.rendered(made, tmp_path) == made


def test_the_page_is_written_or_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results"
    page.write_text(PAGE)
    words = [str(page), "--results", str(results)]
    with pytest.raises(SystemExit, match="2"):
        table.main(words)
    assert "run.json" in capsys.readouterr().err
    write(results / "run.json", whole(record(normal(10))))
    assert table.main([*words, "--check"]) == 1
    assert page.read_text() == PAGE
    assert table.main(words) == 0
    assert table.main([*words, "--check"]) == 0


def test_pictures_are_drawn_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    records = [sized(n, 96, n**2 / 1e4) for n in (100, 200, 400)]
    records += [sized(100, bits, bits / 96) for bits in (192, 384)]
    records += [sized(n, 96, n**2 / 5e3, backend="theirs", peer=True) for n in (100, 400)]
    write(tmp_path / "run.json", whole(*records))
    assert run(["bench", "--from", str(tmp_path / "run.json"), "--plot", str(tmp_path / "plots")]) == 0
    for name in ("roofline.png", "scaling.png"):
        with Image.open(tmp_path / "plots" / name) as picture:
            assert picture.size == (_plots.WIDTH, _plots.HEIGHT)
            grey = np.asarray(picture.convert("L"))
            assert grey.min() < 64 < 250 < grey.max()
    assert "a.b" in capsys.readouterr().out


def test_series_grow_along_one_size_each() -> None:
    records = [sized(n, 96, n) for n in (400, 100, 200)] + [sized(100, bits, bits) for bits in (192, 384)]
    found = _plots._series(whole(*records, sized(100, 96, 1, case="b.b")))
    (along_n,), (along_bits,) = found["n"], found["bits"]
    assert along_n.sizes == [100, 200, 400]
    assert along_bits.sizes == [96, 192, 384]
    assert along_n.times == sorted(along_n.times)


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    assert _plots.write(whole(record([1.0], work=None, params={"kind": "x"})), tmp_path / "plots") == []
    assert not (tmp_path / "plots").exists()

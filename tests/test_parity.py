"""`make parity` stops what takes long, passes over what a backend objects to, and fails where an answer differs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRIED = """
import torch
from polykern_kernels import hamming, pack
from polykern_kernels._dispatch import BackendError

A = torch.zeros((3, 2), dtype=torch.int32)
hamming.pairwise(A, A)  # what is compiled, before any test

def test_that_the_bits_are_right():
    assert int(hamming.pairwise(A, A ^ 3).sum()) == 36

def test_that_the_reference_is_wrong(monkeypatch):
    every = hamming.IMPLS["pairwise"]
    wrong = [i if i.name == "cpu" else type(i)(i.name, lambda a, b: A, i.objection) for i in every]
    monkeypatch.setitem(hamming.IMPLS, "pairwise", tuple(wrong))
    assert int(hamming.pairwise(A, A ^ 3).sum()) == 36

def test_that_the_reference_objects(monkeypatch):
    every = hamming.IMPLS["pairwise"]
    shy = [i if i.name == "cpu" else type(i)(i.name, i.run, lambda *a: "is shy") for i in every]
    monkeypatch.setitem(hamming.IMPLS, "pairwise", tuple(shy))
    hamming.pairwise(A, A)

def test_that_lasts():
    while True:
        pass
"""


def run(folder: Path, backend: str) -> subprocess.CompletedProcess[str]:
    """The tests of a folder on one backend."""
    line = [sys.executable, "-m", "pytest", "-q", "-p", "tests.parity", "--parity", backend, "--stop", "1"]
    line += ["-o", f"cache_dir={folder / 'cache'}", "--rootdir", str(folder), str(folder)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_becomes_of_the_tests(tmp_path: Path) -> None:
    (tmp_path / "test_tried.py").write_text(TRIED)
    (tmp_path / "test_idle.py").write_text("def test_that_reaches_no_kernel():\n    pass\n")
    for backend, code, counts in [("cpu", 0, [4, 1, 0, 0, 0]), ("reference", 1, [1, 1, 1, 0, 1])]:
        found = run(tmp_path, backend)
        assert found.returncode == code, found.stdout + found.stderr
        table = re.search(r"passed +stopped.*\n([ \d,]+)", found.stdout)
        assert table
        assert [int(n) for n in table[1].split()[:5]] == counts, found.stdout
        assert f"the suite on {backend}, 1 files reach" in found.stdout
    assert "1 deselected" in found.stdout

"""Corpora: every format, what is hostile in them, what is passed over, and going on from any place."""

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from polykern.capturing import readers, standard
from polykern.capturing.corpus import Corpus
from polykern.errors import CorruptError, MissingExtra, UsageError

TEXTS = ["one\n", "", "two words", "naïve 漢字", "line\nline\n" * 9, "long " * 40]
HOSTILE = ["\x00\x01\x1b[31m", "\u202eevil\u2066", "</script><script>", "\ufeff", "\r\n\u2028\x85", "a" * 500]


def texts(corpus: Corpus) -> list[str]:
    """Whole documents, joined from their parts."""
    found: list[str] = []
    for part in corpus.parts():
        found = [*found, part.text] if part.first else [*found[:-1], found[-1] + part.text]
    return found


def lines(records: Sequence[object]) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in records)


def written(folder: Path, ending: str, documents: Sequence[str]) -> Path:
    """A file of this ending with the documents in it; plain text holds one."""
    path = folder / f"corpus{ending}"
    records = [{"text": d, "id": k} for k, d in enumerate(documents)]
    if ending == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(records), path, row_group_size=2)
        return path
    data = "".join(documents).encode() if ".txt" in ending else lines(records)
    if ending.endswith(".zst"):
        half = len(data) // 2  # two frames, as some corpora have
        data = zstandard.compress(data[:half]) + zstandard.compress(data[half:])
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    return path


FORMATS = [".txt", ".txt.gz", ".jsonl", ".jsonl.zst", ".jsonl.gz", ".ndjson", ".parquet"]


@pytest.fixture(params=[1 << 20, 16])
def long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """What counts as a long document: so little that most are, or nothing is."""
    monkeypatch.setattr(readers, "PART", request.param)
    return int(request.param)


@pytest.mark.parametrize("ending", FORMATS)
def test_formats_hold_the_same_documents(tmp_path: Path, ending: str, long: int) -> None:
    documents = [*TEXTS, *HOSTILE] if ".txt" not in ending else ["".join(TEXTS)]
    corpus = Corpus([written(tmp_path, ending, documents)])
    assert texts(corpus) == documents
    found = list(corpus.parts())
    assert (max(len(p.text.encode()) for p in found) <= 4 * 16) == (long == 16)
    assert [p.place["document"] for p in found if p.last] == list(range(len(documents)))
    assert corpus.tally.passed == corpus.tally.replaced == 0


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize("ending", FORMATS)
def test_going_on_from_any_part(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending, TEXTS)
    (tmp_path / "z.txt").write_text("the next file")
    whole = list(Corpus([path, tmp_path / "z.txt"]).parts())
    for k, part in enumerate(whole):
        rest = list(Corpus([path, tmp_path / "z.txt"]).parts(part.place))
        assert [p._replace(tally=part.tally) for p in rest] == [p._replace(tally=part.tally) for p in whole[k:]]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.integers(4, 20))
@settings(max_examples=80, deadline=None)
def test_plain_text_in_parts_is_itself(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "PART", size)
        found = list(readers.plain(io.BytesIO(text.encode()), 0))
    assert "".join(f.text or "" for f in found) == text.removeprefix("\ufeff")
    assert [f.first for f in found] == [k == 0 for k in range(len(found))]
    assert [f.last for f in found] == [k == len(found) - 1 for k in range(len(found))]
    assert not any(f.damaged for f in found)


@given(st.binary(max_size=80), st.integers(4, 20))
@settings(max_examples=80, deadline=None)
def test_no_bytes_end_the_reading(data: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "PART", size)
        plain = list(readers.plain(io.BytesIO(data), 0))
        list(readers.records(io.BytesIO(data), 0, 0, "text"))
    sound = data.decode("utf-8", "replace").count("\ufffd") == data.count(b"\xef\xbf\xbd")
    assert any(f.damaged for f in plain) == (not sound)


def test_damaged_bytes_are_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good \xff\xfe bad")
    (tmp_path / "b.jsonl").write_bytes(b'{"text": "caf\xe9"}\n{"text": "lone \\ud800 half"}\n')
    corpus = Corpus([tmp_path])
    assert texts(corpus) == ["good \ufffd\ufffd bad", "caf\ufffd", "lone \ud800 half"]
    assert corpus.tally == (0, (), 2)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{broken", "no JSON"),
        (b'{"title": "x"}', "no 'text' in it"),
        (b'{"text": 3}', "'text' is no text"),
        (b'["text"]', "no 'text' in it"),
        (b"[" * 100_000, "no JSON: RecursionError"),
        (b'{"text": "' + b"x" * 3000 + b'"}', "a line of 3013 bytes"),
        (b"1" * 2000, "no 'text' in it"),
    ],
)
def test_a_bad_record_is_passed_over(
    tmp_path: Path, line: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if len(line) < 10_000:
        monkeypatch.setattr(readers, "LONGEST", 2500)
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"text": "before"}\n' + line + b'\n\n{"text": "behind"}')
    corpus = Corpus([path])
    assert texts(corpus) == ["before", "behind"]
    assert corpus.tally.passed == 1
    assert why in corpus.tally.listed[0]
    assert "c.jsonl: byte 19" in corpus.tally.listed[0]
    with pytest.raises(CorruptError, match="byte 19"):
        texts(Corpus([path], strict=True))


@pytest.mark.parametrize("ending", [".jsonl.zst", ".jsonl.gz", ".parquet"])
def test_a_torn_file_in_the_middle_is_passed_over(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.txt").write_text("first")
    path = written(tmp_path, ending, ["some text " * 99] * 9)
    path.write_bytes(path.read_bytes()[:-20] if ending != ".parquet" else b"PAR1 no table PAR1")
    (tmp_path / "z.txt").write_text("last")
    corpus = Corpus([tmp_path])
    found = texts(corpus)
    assert (found[0], found[-1]) == ("first", "last")
    assert corpus.tally.passed == 1
    assert corpus.tally.listed[0].startswith(path.name)
    with pytest.raises(CorruptError, match=path.name):
        texts(Corpus([tmp_path], strict=True))


def test_a_document_that_breaks_off_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PART", 64)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(bytes(range(48, 122)) * 300)[:-30])
    (tmp_path / "z.txt").write_text("last")
    found = list(Corpus([tmp_path]).parts())
    assert found[-2] == found[-3]._replace(text="", last=True, first=False)
    assert [p.place["document"] for p in found if p.last] == [0, 1]


def test_only_so_much_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"x\n" * 50)
    corpus = Corpus([path])
    assert texts(corpus) == []
    assert (corpus.tally.passed, len(corpus.tally.listed)) == (50, 20)
    assert len(caplog.messages) == 21


def test_a_folder_gives_its_text_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/z.txt", "a.md", "B.txt", "b/a.py", ".hidden.txt", ".git/x.txt", "picture.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    corpus = Corpus([tmp_path])
    assert texts(corpus) == ["B.txt", "a.md", "b/a.py", "b/z.txt"]
    assert corpus.size == sum(f.size for f in corpus.files) > 0
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="holds no text"):
        Corpus([tmp_path / "none"])
    with pytest.raises(UsageError, match="no corpus"):
        Corpus([tmp_path / "nowhere"])


def test_what_a_corpus_is_known_by_holds_no_path(tmp_path: Path) -> None:
    def at(place: Path, text: str) -> Any:
        place.mkdir(parents=True)
        (place / "a.txt").write_text(text)
        return Corpus([place]).identity()

    first = at(tmp_path / "x" / "corpus", "abc")
    assert first == at(tmp_path / "y" / "corpus", "xyz")
    assert first != at(tmp_path / "z" / "corpus", "longer")
    assert str(tmp_path) not in json.dumps(first)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "PART", 4)
    path = written(tmp_path, ".jsonl", TEXTS)
    assert texts(Corpus([path], limit=3)) == TEXTS[:3]
    assert texts(Corpus([path, path], limit=9)) == [*TEXTS, *TEXTS[:3]]


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"plain text\nof two lines", ["plain text\nof two lines"]),
        (lines([{"text": "a"}, {"text": "b"}]), ["a", "b"]),
    ],
)
def test_standard_input(data: bytes, wanted: list[str]) -> None:
    corpus = Corpus(["-"], stdin=io.BufferedReader(io.BytesIO(data)))
    assert (corpus.again, corpus.size) == (False, None)
    assert texts(corpus) == wanted
    with pytest.raises(UsageError, match="read alone"):
        Corpus(["-", "stdlib"])


def test_parquet_without_the_column(tmp_path: Path) -> None:
    table = pyarrow.table(
        {"text": [1, 2], "body": ["a", None], "kind": pyarrow.array(["k", "k"]).dictionary_encode()}
    )
    path = tmp_path / "t.parquet"
    parquet.write_table(table, path)
    bodies, kinds, numbers, none = (Corpus([path], key=k) for k in ("body", "kind", "text", "nothing"))
    assert [texts(c) for c in (bodies, kinds, numbers, none)] == [["a"], ["k", "k"], [], []]
    assert [c.tally.passed for c in (bodies, kinds, numbers, none)] == [1, 0, 2, 1]
    assert "no column 'nothing'" in none.tally.listed[0]


@pytest.mark.parametrize(("ending", "package"), [(".jsonl.zst", "zstandard"), (".parquet", "pyarrow")])
def test_a_missing_package_is_named(
    tmp_path: Path, ending: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, ending, TEXTS)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=f"{package} is not installed") as told:
        texts(Corpus([path]))
    assert told.value.fix == "pip install 'polykern[data]'"


def test_the_interpreters_own_texts() -> None:
    corpus = Corpus(["stdlib"])
    found = list(corpus.parts())
    assert sum(len(p.text.encode("utf-8", "surrogatepass")) for p in found) == corpus.size
    assert {p.corpus for p in found[:60]} >= {0, 1}  # soon of several kinds
    assert [p.text for p in Corpus(["stdlib"]).parts(found[700].place)] == [p.text for p in found[700:]]
    assert corpus.names == list(standard.KINDS)


def test_they_are_the_same_in_another_process() -> None:
    code = "from polykern.capturing import standard; print(standard.digest(), standard._texts()[7])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == f"{standard.digest()} {standard._texts()[7]}".split()


def test_what_cannot_be_read_in_a_folder_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "z.txt").write_text("last")
    corpus = Corpus([tmp_path])
    assert texts(corpus) == ["first", "last"]
    assert corpus.tally.listed == ("gone.txt: No such file or directory",)
    with pytest.raises(CorruptError, match=r"gone\.txt"):
        Corpus([tmp_path], strict=True)


def test_a_pipe_is_read_once() -> None:
    read, write = os.pipe()
    os.write(write, b"through a pipe")
    os.close(write)
    try:
        corpus = Corpus([f"/dev/fd/{read}"])
        assert texts(corpus) == ["through a pipe"]
        assert (corpus.again, corpus.size) == (False, None)
    finally:
        os.close(read)

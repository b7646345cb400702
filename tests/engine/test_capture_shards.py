"""Captures that are killed, gone on with, or of another configuration: whole shards, the same bytes."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from polykern.capturing import capture
from polykern.errors import MismatchError
from polykern.store import Writer
from tests.engine.languages import TEXT, documents, files, small


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return documents(tmp_path)


class Killed(BaseException):
    """Stands for what ends a process."""


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """killing(n): the next capture dies when it has committed n more shards; None: none does."""
    real = Writer.write

    def after(count: int | None) -> None:
        left = count

        def write(self: Writer, *args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                raise Killed
            left = None if left is None else left - 1
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Writer, "write", write)

    return after


@pytest.mark.parametrize(
    "options",
    [
        {"length": 16}, {"length": 24, "pack": False}, {"length": 24, "limit_tokens": 150},
        {"length": 16, "activations": ["fp16"], "limit_documents": 4}, {"length": 16, "limit_documents": 7},
    ],
)  # fmt: skip
def test_a_killed_run_is_finished_with_the_same_bytes(
    options: dict[str, Any], corpus: Path, tmp_path: Path, killing: Callable[[int | None], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("polykern.capturing.readers.PART", 16)
    (corpus / "3b.jsonl").write_bytes(b'{"text": "in the th\\ud800e"}\nbroken\n{"text": "caf\xe9, other"}')
    options = {**options, "shard_bytes": 1500, "batch": 48}
    whole = capture(small(), corpus, tmp_path / "whole", **options)
    assert whole.shards > 3
    for kills in ([k] for k in range(whole.shards)), ([1] * (whole.shards - 1),):
        for number, times in enumerate(kills):
            out = tmp_path / f"torn-{number}-{len(times)}"
            for count in times:
                killing(count)
                with pytest.raises(Killed):
                    capture(small(), corpus, out, **options)
            killing(None)
            done = capture(small(), corpus, out, **options)
            assert files(out) == files(tmp_path / "whole")
            assert done.rows == whole.rows


def test_a_finished_store_is_left_alone(
    corpus: Path, tmp_path: Path, killing: Callable[[int | None], None]
) -> None:
    first = capture(small(), corpus, tmp_path / "s")
    killing(0)
    again = capture(small(), corpus, tmp_path / "s")
    assert (again.rows, again.fresh, first.fresh) == (first.rows, 0, first.rows)


def test_a_run_goes_on_with_the_batch_it_was_begun_with(
    corpus: Path, tmp_path: Path, killing: Callable[[int | None], None]
) -> None:
    killing(1)
    with pytest.raises(Killed):
        capture(small(), corpus, tmp_path / "s", length=16, shard_bytes=2500, batch=32)
    killing(None)
    done = capture(small(), corpus, tmp_path / "s", length=16, shard_bytes=2500, batch=512)
    assert done.manifest.about["batch"] == 32


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"length": 32}, "config.length"), ({"blocks": [0]}, "layout"), ({"pack": False}, "config.pack"),
        ({"limit_tokens": 9}, "config.limit_tokens"), ({"activations": ["fp16"]}, "activations"),
        ({"shard_bytes": 5000}, "config.shard_bytes"), ({"text_key": "body"}, "config.text_key"),
        ({"seed": 1}, "config.model.weights"), ({"more": True}, "config.corpus"),
    ],
)  # fmt: skip
def test_another_run_is_refused(other: dict[str, Any], named: str, corpus: Path, tmp_path: Path) -> None:
    capture(small(), corpus, tmp_path / "s", length=16)
    other = dict(other)
    reader = small(seed=other.pop("seed", 0))
    if other.pop("more", False):
        (corpus / "new.txt").write_text("new")
    with pytest.raises(MismatchError, match=named):
        capture(reader, corpus, tmp_path / "s", **{"length": 16, **other})
    assert capture(reader, corpus, tmp_path / "s", overwrite=True, **{"length": 16, **other}).fresh


def test_standard_input_cannot_be_gone_on_with(tmp_path: Path, killing: Callable[[int | None], None]) -> None:
    def read() -> Any:
        return io.BytesIO(TEXT.encode() * 3)

    words: dict[str, Any] = {"length": 16, "shard_bytes": 2500}
    killing(1)
    with pytest.raises(Killed):
        capture(small(), "-", tmp_path / "s", stdin=read(), **words)
    killing(None)
    with pytest.raises(MismatchError, match="cannot be gone on with"):
        capture(small(), "-", tmp_path / "s", stdin=read(), **words)
    made = capture(small(), "-", tmp_path / "s", stdin=read(), overwrite=True, **words)
    assert made.rows == 3 * len(small().vocabulary.pieces([TEXT])[0].ids)


def test_batches_are_gone_on_with(tmp_path: Path, killing: Callable[[int | None], None]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 40), nn.ReLU()).eval()
    data = [torch.randn(k, 4) for k in (3, 1, 4, 2)]
    capture(model, data, tmp_path / "whole", shard_bytes=1)
    for count in range(4):
        killing(count)
        with pytest.raises(Killed):
            capture(model, iter(data), tmp_path / f"torn{count}", shard_bytes=1)
        killing(None)
        capture(model, iter(data), tmp_path / f"torn{count}", shard_bytes=1)
        assert files(tmp_path / f"torn{count}") == files(tmp_path / "whole")

"""Result folders from strangers: whatever their JSON says, they open or are refused as corrupt, by name."""

import copy
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from polykern.errors import CorruptError
from polykern.store.mapped import mapped_array
from polykern.store.sealed import sealed, unsealed
from polykern.verification import examine
from tests.trust.ledger import scaled, trial
from tests.trust.writers import EVERY

PROMISE = "R11 hostile names and sizes: refused"
EVIL: list[Any] = [
    None, True, -1, 0, 1 << 62, 1 << 200, 1e308, "", "../../etc/passwd", "/etc/passwd", "a\0b", "\ud800",
    "x" * 9999, [], {}, [[]], [None], {"": {}},
]  # fmt: skip


def changed(value: Any, rng: random.Random) -> Any:
    """The same tree with something evil somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        if rng.random() < 0.15:
            return {k: v for k, v in value.items() if k != key}
        return {**value, key: changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        k = rng.randrange(len(value))
        return [*value[:k], changed(value[k], rng), *value[k + 1 :]]
    return copy.deepcopy(rng.choice(EVIL))


@pytest.mark.parametrize("name", ["map", "clusters", "partition", "findings", "embeddings"])
def test_any_account_is_read_or_refused(folder: Path, name: str) -> None:
    EVERY[name].write(folder / "a")
    path = next(p for p in sorted((folder / "a").glob("*.json")) if p.name != "pieces.json")
    body, rng = unsealed(path.read_bytes()), random.Random(name)
    for _ in range(scaled(40)):
        key = rng.choice(sorted(body))
        path.write_bytes(sealed({**body, key: changed(body[key], rng)}))
        with trial(PROMISE), suppress(CorruptError):  # anything else is a bug
            examine(folder / "a")


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 8)", "(-1, 8)", "(9223372036854775807, 9)", "(8,)", "((8, 8),)", "__import__('os')"]
)
def test_any_header_of_an_array_is_refused(folder: Path, shape: str) -> None:
    header = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".encode()
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(128)
    (folder / "a.npy").write_bytes(data)
    with trial(PROMISE), pytest.raises(CorruptError, match=r"a\.npy"):
        mapped_array(folder / "a.npy", np.uint16, (8, 8))


def test_an_array_of_objects_does_not_run(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (folder / "ran",)

    np.save(folder / "a.npy", np.array([Evil()], object), allow_pickle=True)
    with trial("R9 data is never code"), pytest.raises(CorruptError):
        mapped_array(folder / "a.npy", np.uint16, (1,))
    assert not (folder / "ran").exists()


def test_weights_that_are_a_pickle_do_not_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (folder / "ran",)

    torch.save({"weight": Evil()}, folder / "a.pt")
    with trial("R9 data is never code"), pytest.raises(Exception, match="Weights only"):
        torch.load(folder / "a.pt", weights_only=True)
    assert not (folder / "ran").exists()


def test_numbers_of_an_account_that_are_no_json(folder: Path) -> None:
    EVERY["map"].write(folder / "a")
    path = folder / "a" / "map.json"
    for text in (
        b"[" * 100_000,
        b'{"a":{"a":',
        b'{"schema": NaN}',
        b"\xff\xfe",
        b"",
        b"[]",
    ):
        path.write_bytes(text)
        with trial(PROMISE):
            assert examine(folder / "a").problems[0].file == "map.json"

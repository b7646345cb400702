"""Stores whose every row is known: shard k of a made-up corpus, the same in every process."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from polykern.codes import Codes
from polykern.layout import Field, Layout
from polykern.store import Activation, Manifest, Rows, Texts, Writer

LAYOUT = Layout.of(
    [
        Field("blocks.0.mlp", 0, "gelu", (40,), (0.0,), 0),
        Field("blocks.1.mlp", 1, "gelu", (7, 3), (-0.5, 0.0), 0),
    ]
)
COLUMNS = ("doc", "pos", "token")
VERSIONS = {"polykern": "0", "torch": None}
CONFIG: dict[str, Any] = {
    "model": "made-up",
    "layers": ["blocks.*"],
    "seed": 0,
    "corpus": {"name": "none", "rows": 7},
}


def manifest(**changes: Any) -> Manifest:
    """Of a store of the made-up corpus."""
    what: dict[str, Any] = {
        "config": CONFIG,
        "layout": LAYOUT,
        "columns": COLUMNS,
        "activations": {"blocks.0.mlp": Activation(torch.bfloat16, (40,))},
        "items": "text",
        "about": {"note": "an example; the rows mean nothing"},
        "versions": VERSIONS,
    }
    return Manifest(**(what | changes))


def codes(n: int, seed: int, layout: Layout = LAYOUT) -> Codes:
    """n random codes, packed by numpy: bit j is bit j % 32 of word j // 32."""
    bits = np.zeros((n, layout.words * 32), np.bool_)
    bits[:, : layout.bits] = np.random.default_rng(seed).random((n, layout.bits)) < 0.3
    words = np.packbits(bits, axis=1, bitorder="little").view("<i4")
    return Codes(torch.from_numpy(words.copy()), layout)


def shard(k: int) -> dict[str, Any]:
    """What `Writer.write` is given for shard k: the n tokens of document k."""
    rng, n = np.random.default_rng([7, k]), 5 + k
    token = rng.integers(0, 50_000, n).astype(np.int32)
    pieces = [f" w{t}".encode() for t in token[:-2]] + ["é".encode()[:1], "é".encode()[1:]]
    columns = {"doc": np.full(n, k, np.int32), "pos": np.arange(n, dtype=np.int32), "token": token}
    kept = torch.from_numpy(rng.standard_normal((n, 40), np.float32)).bfloat16()
    return {
        "codes": codes(n, k),
        "columns": columns,
        "activations": {"blocks.0.mlp": kept},
        "items": Texts.of([(k, token.tolist(), pieces)]),
        "source": {"next_document": k + 1},
    }


def write(path: Path, shards: int = 3, *, overwrite: bool = False, finish: bool = True) -> None:
    """Begin, or go on with, a store of so many shards."""
    with Writer.open(path, manifest(), overwrite=overwrite) as writer:
        while writer.next < shards:
            assert (writer.resume or {"next_document": 0})["next_document"] == writer.next
            writer.write(**shard(writer.next))
        if finish:
            writer.finish()


def contents(path: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def require_rows(rows: Rows, shards: int) -> None:
    """Fail unless these are the rows of the first shards."""
    truth = [shard(k) for k in range(shards)]
    if not truth:
        assert len(rows) == 0
        return
    assert rows.codes == Codes.cat([t["codes"] for t in truth])
    for name in COLUMNS:
        np.testing.assert_array_equal(rows.columns[name], np.concatenate([t["columns"][name] for t in truth]))
    for name, kept in rows.activations.items():
        assert torch.equal(kept, torch.cat([t["activations"][name] for t in truth]))

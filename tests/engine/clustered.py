"""Clusterings with planted labels over codes, texts or photos, as the writers leave them."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from polykern import store as stores
from polykern.clustering import medoids, result
from polykern.codes import Codes
from polykern.layout import Field, Layout

WORDS = (" the", " cat", " sat", "ing", "http", " 42", "\n", " naïve", " Therapy", " theory", "ther")
LAYERS = (("encoder.layer.0.mlp", 40), ("encoder.layer.1.mlp", 30))


def layout(layers: Sequence[tuple[str, int]] = LAYERS) -> Layout:
    return Layout.of(Field(name, 0, "relu", (units,), (0.0,), 0) for name, units in layers)


def store(
    folder: Path,
    n: int = 240,
    *,
    words: Sequence[str] = WORDS,
    layers: Sequence[tuple[str, int]] = LAYERS,
    kind: str | None = "text",
    about: dict[str, Any] | None = None,
    groups: NDArray[np.int64] | None = None,
    shards: int = 2,
    documents: int = 1 << 30,
) -> stores.Store:
    """A store of n random rows: texts of 60 tokens or photos of a 4 x 4 grid; rows of one group share most bits.

    documents  at most; rows go round them
    """
    rng, shape = np.random.default_rng(n), layout(layers)
    groups = rng.integers(0, 4, n) if groups is None else groups
    centres = rng.random((int(groups.max()) + 2, shape.bits)) < 0.5
    bits = centres[groups] ^ (rng.random((n, shape.bits)) < 0.05)
    codes = Codes(_packed(bits), shape)
    length, each = (60, 20) if kind == "text" else (16, 2)
    doc, pos = np.divmod(np.arange(n) * (length // each) % (documents * length), length)
    tokens = (groups * 3 + rng.integers(0, 3, n)) % len(words)
    said = {"model": {"name": "made-up net", "weights": "f00d" * 16}, **(about or {})}
    columns = ("doc", "pos", "token") if kind else ()
    manifest = stores.Manifest({"seed": 0, "made": "up"}, shape, columns, items=kind, about=said)
    with stores.Writer.open(folder, manifest) as writer:
        for rows in np.array_split(np.arange(n), shards):
            cells = {"doc": doc[rows], "pos": pos[rows], "token": tokens[rows]} if kind else {}
            items = _items(kind, doc, pos, tokens, rows, words, length)
            writer.write(codes[torch.from_numpy(rows)], cells, items=items)
        writer.finish()
    return stores.Store.open(folder)


def clustering(
    folder: Path,
    of: stores.Store,
    labels: NDArray[np.int64],
    *,
    model: str = "made-up net",
    metric: str = "hamming",
) -> result.Clusters:
    """The folder of a clustering with these labels, its tree a complete binary one."""
    folder.mkdir(parents=True)
    n, c = len(labels), int(labels.max()) + 1
    words = of.rows().codes.words
    found = medoids.of_codes(words, of.layout.bits, labels, metric=metric)
    members = {
        name: getattr(found, name) for name in ("size", "medoid", "mean_distance", "distance", "order", "starts")
    }
    rng = np.random.default_rng(1)
    probability = np.where(labels < 0, 0.0, rng.integers(1, 65, n) / 64)
    points = {"label": labels, "probability": probability, "outlier_score": rng.random(n), "core": np.ones(n)}
    noise = int((labels < 0).sum())
    about = {
        "store": {
            "path": f"../{Path(of.path).name}", "fingerprint": of.fingerprint, "config_hash": of.config_hash,
            "rows": n, "of": "codes", "bits": of.layout.bits, "fields": [f.name for f in of.layout.fields],
            "items": of.items,
        },
        "model": {"name": model, "weights": "f00d" * 16},
        "parameters": {
            "metric": metric, "min_cluster_size": 5, "min_samples": 5, "cluster_selection_method": "eom",
            "max_cluster_size": 0, "tie_order": "multiway", "backend": None,
        },
        "counts": {"rows": n, "distinct": n, "clusters": c, "noise": noise, "noise_share": noise / n},
        "tree": {"weight": 1234, "rounds": 7, "passes": 0.9},
        "timings": {"neighbours": 1.5, "tree": 0.25},
        "versions": {"polykern": "0.1.0", "torch": "2"},
    }  # fmt: skip
    trees = _trees(labels, np.asarray(found.size))
    persistence = {"persistence": 1 / (1 + np.arange(c))}
    return result.write(folder, about, points, trees, {**members, **persistence})


def photo(k: int, side: int = 32) -> bytes:
    """A PNG of its own colour and pattern."""
    from PIL import Image

    y, x = np.mgrid[:side, :side]
    pixels = np.stack((x * 7 + 31 * k, y * 5 + 17 * k, (x ^ y) * 3 + 90), -1).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def _packed(bits: NDArray[np.bool_]) -> torch.Tensor:
    wide = np.zeros((len(bits), -(-bits.shape[1] // 32) * 32), np.uint8)
    wide[:, : bits.shape[1]] = bits
    return torch.from_numpy(np.packbits(wide, axis=1, bitorder="little").view(np.int32))


def _items(
    kind: str | None,
    doc: NDArray[np.int64],
    pos: NDArray[np.int64],
    tokens: NDArray[np.int64],
    rows: NDArray[np.int64],
    words: Sequence[str],
    length: int,
) -> stores.Texts | stores.Pictures | None:
    here = np.unique(doc[rows])
    if kind == "image":
        return stores.Pictures.of((int(d), photo(int(d))) for d in here)
    if kind is None:
        return None
    told = np.tile(np.arange(length) % len(words), (int(doc.max()) + 1, 1))
    told[doc, pos] = tokens
    return stores.Texts.of(_text(d, told[d].tolist(), words) for d in here.tolist())


def _text(doc: int, ids: list[int], words: Sequence[str]) -> tuple[int, list[int], list[str]]:
    return doc, ids, [words[i] for i in ids]


def _trees(labels: NDArray[np.int64], sizes: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """A complete binary tree whose leaves are the clusters; noise leaves at the root."""
    n, c = len(labels), len(sizes)
    nodes = max(1, 2 * c - 1)
    at = np.arange(nodes)
    many = np.zeros(nodes + 2, np.int64)
    many[nodes - c : nodes] = sizes
    for i in range(c - 2, -1, -1):
        many[i] = many[2 * i + 1] + many[2 * i + 2]
    depth = np.floor(np.log2(at + 1)).astype(np.int64)
    distance = 40.0 - 2 * depth  # at which a node splits or its rows leave
    leaf = np.maximum(c - 1 + labels, 0)
    rows = np.arange(n)
    inner = at[1:]
    above = (inner - 1) // 2
    return {
        "mst_source": np.zeros(n - 1, np.int64), "mst_target": np.arange(1, n), "mst_weight": np.ones(n - 1),
        "condensed_parent": np.concatenate((above, np.where(labels < 0, 0, leaf))) + n,
        "condensed_child": np.concatenate((inner + n, rows)),
        "condensed_lambda": np.concatenate((1 / distance[above], np.where(labels < 0, 1 / 60, 1 / distance[leaf]))),
        "condensed_size": np.concatenate((many[1:nodes], np.ones(n, np.int64))),
        "selected": n + c - 1 + np.arange(c),
    }  # fmt: skip

"""The explorer: every neuron of a network with its features, as pages that open from a disk.

The page starts with a few numbers a neuron and reads what it shows in packed parts, when it shows it. Text of
strangers travels inside those parts and becomes text nodes only.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from polykern.neurons.clusters import METRICS
from polykern.neurons.examples import AHEAD, BACK
from polykern.neurons.result import Embeddings, Layer
from polykern.progress import Progress, silent
from polykern.report import pages
from polykern.report.clusters import parts
from polykern.report.clusters.parts import Chunks, compact, rounded
from polykern.report.script import json_for_script

PACKAGES = ("polykern.neurons", "polykern.report.clusters")
SCRIPTS = ("parts.js", "marks.js", "neuron.js", "overview.js", "app.js")
STYLES = ("report.css", "neurons.css")
SHOWN = 20  # examples of a feature
SNIPPET = (10, 5)  # tokens before and behind, of a similar feature
NEAREST = 8  # similar features shown
LIMIT = 120_000  # bytes of JSON a part holds
ABOUT = "explorer.json"


def write(found: Embeddings, folder: Path | str, *, progress: Progress | None = None) -> Path:
    """The explorer of some embeddings as `folder`; returns the page to open, `folder`/index.html.

    found     what `pk.embeddings` gave, or `pk.Embeddings.open` opened
    folder    an explorer already there is replaced as a whole; any other folder that is not empty is refused
    progress  called with (stage, done, total)

    Equal embeddings give equal bytes. A part that one neuron needs is at most 200 KB. Raises UsageError where
    `folder` holds something else.
    """
    target = Path(folder)
    pages.require_place(target, "an explorer", ABOUT)
    tell = progress or silent
    return pages.replace(target, ".explorer-", lambda made: _fill(found, made, tell))


def _fill(found: Embeddings, folder: Path, tell: Progress) -> None:
    data = folder / "data"
    firsts = []
    for k, layer in enumerate(found.layers):
        tell("layers", k, len(found.layers))
        chunks = Chunks(data, f"neurons/{k}", LIMIT)
        for record in _records(found, layer):
            chunks.add(compact(record))
        chunks.close()
        firsts.append(chunks.firsts)
        parts.write_columns(data, f"ranking/{k}", _ranking(layer))
    parts.write_json(data, "words", compact(_words(found)))
    tell("layers", len(found.layers), len(found.layers))
    about = found.about
    neurons = [len(x.value) for x in found.layers]
    important = max((0 if x.importance is None else x.importance.shape[1]) for x in found.layers)
    whole = {
        "fields": [{"name": x.name} for x in found.layers],
        "neurons": neurons,
        "dead": [int(x.dead.sum()) for x in found.layers],
        "firsts": firsts,
        "metrics": list(METRICS),
        "important": important,
    }
    model, settings = about["model"], about["settings"]
    rows = [("model", model["name"]), ("weights", model["weights"]), ("note", model["note"])]
    rows += [(k, str(v)) for k, v in settings.items() if k != "corpus"]
    rows += [(k, str(v)) for x in found.layers for k, v in (x.autoencoder or {}).items()]
    for name, content in pages.files(
        PACKAGES, SCRIPTS, STYLES, json_for_script(whole), name=str(model["name"]), rows=rows,
        important=important > 0, subtitle=f"{sum(neurons):,} neurons, {settings['tokens']:,} tokens",
        credit=f"polykern {about['versions']['polykern']}: neuron embeddings, cut {settings['cut']:g}",
    ).items():  # fmt: skip
        (folder / name).write_bytes(content)
    (folder / ABOUT).write_text(compact({"schema": "polykern-explorer/1"}) + "\n")


def _ranking(layer: Layer) -> dict[str, np.ndarray[Any, Any]]:
    f = layer.features
    largest = np.where(layer.dead, 0, layer.activation[:, 0]).astype(np.float32)
    columns = {"clusters": f.count.astype(np.int32), "examples": f.size.astype(np.int32), "largest": largest}
    return columns | {name: f.metrics[:, k].astype(np.float32) for k, name in enumerate(METRICS)}


def _words(found: Embeddings) -> dict[str, list[list[int]]]:
    """The token that each feature fires for most, its blanks left out -> (layer, neuron) pairs."""
    words: dict[str, list[list[int]]] = {}
    for k, layer in enumerate(found.layers):
        for neuron, _, example in layer.features.central.tolist():
            word = found.piece[int(layer.row[neuron, example])].strip().lower()
            places = words.setdefault(word, [])
            if word and [k, neuron] not in places[-1:]:
                places.append([k, neuron])
    words.pop("", None)
    return dict(sorted(words.items()))


def _records(found: Embeddings, layer: Layer) -> Iterator[dict[str, Any]]:
    f = layer.features
    owner = f.central[:, 0]
    firsts = np.searchsorted(owner, np.arange(len(layer.value) + 1))
    for n in range(len(layer.value)):
        mine = range(int(firsts[n]), int(firsts[n + 1]))
        yield {
            "n": n,
            "size": int(f.size[n]),
            "capped": bool(layer.capped[n]),
            "largest": rounded(float(layer.activation[n, 0])),
            "metrics": [rounded(float(v)) for v in f.metrics[n]],
            "features": [_feature(found, layer, c) for c in mine],
        }


def _feature(found: Embeddings, layer: Layer, c: int) -> dict[str, Any]:
    f = layer.features
    n = int(f.central[c, 0])
    shown = f.ordered(c)[:SHOWN]
    return {
        "members": int(f.members[c]),
        "examples": [_example(found, layer, n, e) | _importance(layer, c, k) for k, e in enumerate(shown)],
        "similar": [
            _similar(found, layer, int(j), float(s))
            for j, s in zip(layer.similar_index[c, :NEAREST], layer.similar_cosine[c, :NEAREST], strict=True)
            if j >= 0
        ],
    }


def _example(found: Embeddings, layer: Layer, n: int, e: int) -> dict[str, Any]:
    """Tokens around one with the activation at each, in hundredths of the neuron's largest."""
    tokens, at = found.context(int(layer.row[n, e]), BACK, AHEAD)
    window = layer.window[n, e].astype(np.float32)
    seen = window[BACK - at : BACK - at + len(tokens)]
    share = np.clip(seen / max(float(layer.value[n, 0]), 1e-30), 0, 1)
    return {
        "tokens": tokens, "at": at, "value": rounded(float(layer.activation[n, e])),
        "shares": np.round(100 * np.nan_to_num(share)).astype(int).tolist(),
    }  # fmt: skip


def _importance(layer: Layer, c: int, slot: int) -> dict[str, list[int]]:
    """How important the tokens up to an example's are, in hundredths; nothing where that was not looked at."""
    if layer.importance is None or slot >= layer.importance.shape[1]:
        return {}
    share = layer.importance[c, slot]
    return {"importance": np.round(100 * share[~np.isnan(share)].astype(np.float32)).astype(int).tolist()}


def _similar(found: Embeddings, layer: Layer, j: int, cosine: float) -> list[Any]:
    n, number, central = layer.features.central[j].tolist()
    tokens, at = found.context(int(layer.row[n, central]), *SNIPPET)
    return [n, number, round(cosine, 3), tokens, at]

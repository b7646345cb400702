"""The page of a partition: a folder that opens from a disk; faces come as they are looked at.

Faces and sides lie in the cells of a quadtree, by their middle, at the level where the cell is 2**DETAIL times as
long as they are: what is smaller than a pixel is not asked for. A cell is a script that hands over its numbers,
deflated and in base64. Text of strangers (model, module, class and anchor names) reaches the page as JSON through
`json_for_script` or through jinja2's escaping, and is shown as text only.
"""

import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.errors import UsageError
from polykern.report import colours, pages
from polykern.report.script import json_for_script, visible, visible_all
from polykern.subdivision import drawing
from polykern.subdivision.drawing import hexadecimal
from polykern.subdivision.result import Partition
from polykern.viewer.tiles import packed

PACKAGES = ("polykern.subdivision", "polykern.viewer")
SCRIPTS = ("numbers.js", "marks.js", "cells.js", "gestures.js", "faces.js")
STYLES = ("viewer.css", "faces.css")
DETAIL = 6
FULL = 1024  # faces of a cell on the average; more levels than that takes would be many small files
MOST = 4_000_000  # faces of a page

Cells = NDArray[np.int64]


def write(found: Partition, folder: Path | str) -> Path:
    """The page of a partition as `folder`; returns the page to open, `folder`/index.html.

    found   a partition
    folder  a page already there is replaced as a whole; any other folder that is not empty is refused

    Raises UsageError where `folder` holds something else, and for more faces than a page can hold.
    """
    target = Path(folder)
    if len(found) > MOST:
        raise UsageError(f"a page of {len(found):,} faces", fix=f"zoom in: {MOST:,} are the most")
    pages.require_place(target, "a page")
    return pages.replace(target, ".page-", lambda folder: _fill(found, folder))


def _fill(found: Partition, folder: Path) -> None:
    (folder / "cells").mkdir()
    deepest = max(0, math.ceil(math.log(max(1, len(found)) / FULL, 4)))
    keys = []
    for key, faces, sides in _cells(found, deepest):
        name = "-".join(map(str, key))
        keys.append(name)
        told = json_for_script([name, _columns(found, key, faces, sides)])
        (folder / "cells" / f"{name}.js").write_text(f"polykern.cell({told});\n", encoding="ascii")
    title, count, note = drawing.texts(found)
    rows = [(visible(str(k)), visible(str(v))) for k, v in _rows(found).items() if v]
    files = pages.files(
        PACKAGES, SCRIPTS, STYLES, json_for_script(visible_all(_data(found, keys))),
        name=title, subtitle=count, credit=note, rows=rows,
    )  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _data(found: Partition, keys: list[str]) -> dict[str, Any]:
    about = found.about
    u, v, side = about["window"]
    table = [hexadecimal(c) for c in colours.depths(len(about["layers"])).tolist()]
    seen = set(np.unique(found.what).tolist())
    names = [(f["module"] or "the model") + (f" ({f['call']})" if f["call"] else "") for f in about["layers"]]
    kinds = [{"kind": k + 2, "name": names[k], "colour": table[k]} for k in sorted(seen) if k >= 0]
    kinds += [{"kind": 0, "name": "class changes", "colour": hexadecimal(drawing.INK)}] if -2 in seen else []
    kinds += [{"kind": 1, "name": "pools, others", "colour": hexadecimal(drawing.OTHER)}] if -1 in seen else []
    classes = sorted(set(np.unique(found.winner).tolist()) - {-1})
    return {
        "window": {"u": u, "v": v, "side": side},
        "cells": keys,
        "detail": DETAIL,
        "kinds": kinds,
        "classes": [
            {"class": k, "name": _class(about, k), "colour": hexadecimal(drawing.tint(k))} for k in classes
        ],
        "anchors": [
            {"label": a, "u": x, "v": y} for a, (x, y) in zip(about["labels"], about["anchors"], strict=True)
        ],
    }


def _class(about: dict[str, Any], k: int) -> str:
    names = about["class_names"]
    return str(names[k]) if names and k < len(names) else f"class {k}"


def _rows(found: Partition) -> dict[str, Any]:
    about = found.about
    return {
        "weights": about["model"]["weights"],
        "note": about["model"]["note"],
        "window": "u {:.6g}, v {:.6g}, side {:.6g}".format(*about["window"]),
        "codes": f"{found.codes:,}",
        "boundary": ", ".join(f"{x:.4g} L2 of {name}" for name, x in found.layers.items() if x),
        "made by": ", ".join(f"{k} {v}" for k, v in about["versions"].items()),
    }


def _cells(found: Partition, deepest: int) -> Iterator[tuple[tuple[int, int, int], Cells, Cells]]:
    """(level, row, column) of every cell that holds something, with its faces and its sides."""
    first = found.first[:-1]
    low, high = (f.reduceat(found.corner, first) for f in (np.minimum, np.maximum))
    faces = _placed(found, low, high, deepest)
    sides = _placed(found, found.ends.min(1), found.ends.max(1), deepest)
    keys = np.union1d(faces, sides)
    for key, some, others in zip(keys.tolist(), _dealt(faces, keys), _dealt(sides, keys), strict=True):
        yield (key >> 40, key >> 20 & 0xFFFFF, key & 0xFFFFF), some, others


def _dealt(cells: Cells, keys: Cells) -> list[Cells]:
    """For each key, ascending, the places that have it."""
    order = np.argsort(cells, kind="stable")
    return np.split(order, np.searchsorted(cells[order], keys[1:]))


def _placed(found: Partition, low: NDArray[np.float64], high: NDArray[np.float64], deepest: int) -> Cells:
    """int64 (n): the cell of each box, level, row and column in 20 bits each."""
    u, v, side = found.about["window"]
    extent = np.maximum((high - low).max(1), 1e-12 * side)
    level = np.clip(np.floor(np.log2(side / extent)).astype(np.int64) - DETAIL, 0, deepest)
    across = np.int64(1) << level
    column, row = (
        np.clip(((low[:, k] + high[:, k]) / 2 - origin) / side * across, 0, across - 1).astype(np.int64)
        for k, origin in ((0, u), (1, v))
    )
    return np.asarray((level << 40) + (row << 20) + column)


def _columns(found: Partition, key: tuple[int, int, int], faces: Cells, sides: Cells) -> dict[str, Any]:
    """What a cell hands over; corners in lengths of the cell, from its centre."""
    level, row, column = key
    u, v, side = found.about["window"]
    length = side / 2**level
    centre = np.array([u + (column + 0.5) * length, v + (row + 0.5) * length])
    columns: dict[str, NDArray[Any]] = {}
    if len(faces):
        count = found.first[faces + 1] - found.first[faces]
        at = np.repeat(found.first[faces] - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
        columns |= {
            "face": faces, "count": count, "winner": found.winner[faces] + 1,
            "area": found.area[faces], "corner": ((found.corner[at] - centre) / length).ravel(),
            "digest": np.ascontiguousarray(found.digest[faces]).view(np.uint32).ravel().astype(np.int64),
        }  # fmt: skip
    if len(sides):
        columns |= {"what": found.what[sides] + 2, "ends": ((found.ends[sides] - centre) / length).ravel()}
    return {name: _handed(values) for name, values in columns.items()}


def _handed(values: NDArray[Any]) -> list[Any]:
    kind, content = packed(values)
    return [kind, len(values), base64.b64encode(content).decode("ascii")]

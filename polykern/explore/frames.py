"""What goes over the wire for a tile: a line of JSON, then deflated numbers.

    {"tile": [level, row, column], "counts": [kind, bytes], "classes": [kind, bytes] or null, "uncertain": bits,
     "seconds": s, "engine": "tiles, float64"}
    counts, then classes

Numbers are packed as in the viewer's tiles (`polykern.viewer.tiles.packed`): the narrowest unsigned integers that
hold every value, so no count overflows. A tile that cannot be is a line {"tile", "error": {what, why, fix}};
{} says that the server is still at work.
"""

from polykern.errors import PolykernError
from polykern.explore.evaluation import Values
from polykern.explore.pyramid import Tile
from polykern.report.script import json_for_script, visible
from polykern.viewer.tiles import packed

PULSE = b"{}\n"


def frame(tile: Tile, values: Values) -> bytes:
    """The bytes of a finished tile."""
    parts = {"counts": values.counts, "classes": values.classes}
    blobs = {name: packed(part) for name, part in parts.items() if part is not None}
    head = {
        "tile": [tile.level, tile.row, tile.column],
        **{name: [blobs[name][0], len(blobs[name][1])] if name in blobs else None for name in parts},
        "uncertain": values.uncertain,
        "seconds": values.seconds,
        "engine": values.engine,
    }
    return _line(head) + b"".join(blob for _, blob in blobs.values())


def refusal(tile: Tile, error: PolykernError) -> bytes:
    """The bytes that say why there is no such tile."""
    return _line({"tile": [tile.level, tile.row, tile.column], "error": told(error)})


def told(error: PolykernError) -> dict[str, str]:
    """What, why and the fix, fit to be seen."""
    return {"what": visible(error.what), "why": visible(error.why), "fix": visible(error.fix)}


def _line(value: object) -> bytes:
    return json_for_script(value).encode("ascii") + b"\n"

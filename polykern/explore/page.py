"""The page of an exploration: what it is told, and the files it is made of.

Text of strangers (model, class and anchor names) reaches it as JSON through `json_for_script` or through jinja2's
escaping, and is shown as text only.
"""

import shlex
from collections.abc import Sequence
from typing import Any

from polykern import __version__
from polykern.explore.evaluation import OVERVIEW, Evaluation
from polykern.explore.pyramid import TILE, WIDEST, Pyramid
from polykern.maps.compute import Recipe
from polykern.report import colours, pages, pictures
from polykern.report.script import json_for_script, visible, visible_all
from polykern.report.wording import short
from polykern.viewer.tiles import CLIPS

SCRIPTS = tuple(
    f"{name}.js"
    for name in ("numbers", "stream", "colours", "marks", "plane", "shade", "live", "gestures", "explore")
)
STYLES = ("viewer.css", "explore.css")
THUMBNAIL = 128  # px


def files(pyramid: Pyramid, evaluation: Evaluation, token: str, command: Sequence[str]) -> dict[str, bytes]:
    """The files of the page by name, index.html among them.

    token    that the page sends with every request for tiles
    command  words of the `polykern heatmap` that maps this plane; the page adds window, resolution and folder
    """
    data = visible_all(
        {
            "tile": TILE,
            "widest": WIDEST,
            "deepest": pyramid.deepest,
            "window": {"u": pyramid.window.u, "v": pyramid.window.v, "side": pyramid.window.side},
            "clips": CLIPS,
            "palettes": {n: colours.hexadecimal(n) for n in colours.NAMES},
            "anchors": _anchors(evaluation),
            "classes": _classes(evaluation),
            "token": token,
        }
    )
    data["command"] = shlex.join(command)  # to be copied: shown as it is
    return pages.files(
        ["polykern.explore", "polykern.viewer"], SCRIPTS, STYLES, json_for_script(data),
        name=name(evaluation.recipe), subtitle=_subtitle(evaluation), credit=_credit(evaluation),
        rows=_rows(evaluation),
    )  # fmt: skip


def name(recipe: Recipe) -> str:
    """The model's name, fit to be seen."""
    return visible(str(recipe.about.get("name", type(recipe.tail.model).__name__)))


def _subtitle(evaluation: Evaluation) -> str:
    tail = evaluation.recipe.tail
    start, stop = (short(visible(name), 40) for name in (tail.start, tail.stop))
    return f"from {start or 'the input'} to {stop or 'the output'} · {tail.layout.bits:,} bits"


def _credit(evaluation: Evaluation) -> str:
    recipe = evaluation.recipe
    weights = visible(str(recipe.about.get("weights", "?")))[:16]
    return f"on {recipe.device} · seed {recipe.seed} · weights {weights} · polykern {__version__}"


def _rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    recipe, level = evaluation.recipe, evaluation.level(OVERVIEW)
    found = [
        ("weights", recipe.about.get("weights")),
        ("note", recipe.about.get("note")),
        ("engine", f"{recipe.engine}; at level 0 {level.engine.name} ({level.engine.dtype}): {level.reason}"),
        ("deepest level", f"{evaluation.pyramid.deepest}: a pixel is 256 times wider than float64 places it there"),
    ]
    return [(what, visible(str(value))) for what, value in found if value]


def _anchors(evaluation: Evaluation) -> list[dict[str, Any]]:
    about = evaluation.recipe.about
    labels, images = about.get("labels", ["A", "B", "C"]), about.get("pictures", [None] * 3)
    return [
        {
            "label": label,
            "class": None if k is None else _class_name(about, k),
            "u": u,
            "v": v,
            "thumbnail": None if image is None else pictures.embedded(image, THUMBNAIL),
        }
        for label, k, (u, v), image in zip(
            labels, _anchor_classes(about), evaluation.pyramid.plane.uv.tolist(), images, strict=True
        )
    ]


def _classes(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Every class there can be, with a colour that is the same on every tile: the anchors' classes differ first."""
    tail, about = evaluation.recipe.tail, evaluation.recipe.about
    if not evaluation.recipe.classes or tail.output_shape is None:
        return []
    count = tail.output_shape[0]
    first = [k for k in dict.fromkeys(_anchor_classes(about)) if k is not None and k < count]
    order = [*first, *(k for k in range(count) if k not in set(first))]
    colour = {k: colours.CLASSES[i % len(colours.CLASSES)] for i, k in enumerate(order)}
    return [{"index": k, "name": _class_name(about, k), "colour": colour[k]} for k in range(count)]


def _anchor_classes(about: dict[str, Any]) -> list[int | None]:
    return list(about.get("anchor_classes", [None] * 3))


def _class_name(about: dict[str, Any], index: int) -> str:
    names = about.get("classes")
    return str(names[index]) if names and index < len(names) else f"class {index}"

"""`polykern partition`: the exact polytopes of a plane through three inputs, as polygons."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, finding, options, values
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.subdivision import Partition

RESULT = "polykern-partition-result/1"
EXAMPLES = (
    "polykern partition --model digits --zoom 40 --out partition",
    "polykern partition --model digits --classes --regions 100000 --seconds 60 --out partition",
)

Regions = Annotated[
    int,
    options.option("--regions", panel=options.HOW, env="REGIONS", metavar="N", help="Stop after so many pieces."),
]
Seconds = Annotated[
    float | None,
    options.option("--seconds", panel=options.HOW, env="SECONDS", metavar="S", help="Stop after this time."),
]
Cut = Annotated[
    bool,
    options.option("--classes/--no-classes", panel=options.HOW, metavar="",
                   help="Also cut where the class of the output changes."),
]  # fmt: skip
Pictures = Annotated[
    bool,
    options.option("--figures/--no-figures", panel=options.SAID, metavar="",
                   help="Write partition.png, and partition.svg where it is small enough to open."),
]  # fmt: skip
SMALL = 50_000  # faces of an SVG that a browser still scrolls


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.Model = "digits",
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    images: options.Images = None,
    indices: options.Indices = None,
    window: options.WindowOf = None,
    zoom: options.Zoom = 1.0,
    classes: Cut = False,
    regions: Regions = 1_000_000,
    seconds: Seconds = None,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: Pictures = True,
    viewer: options.Viewer = True,
) -> None:
    """Cut the plane through three inputs into the polytopes of a piecewise-linear network, exactly.

    Each face is a convex polygon with one affine map. The result is a folder with the polygons, the sides between
    them and the layer each side belongs to, pictures, a page to look around in, and the numbers in partition.json.
    It is written as it is found, and may be larger than memory. A budget that runs out leaves the part that was
    done, and says so.
    """
    talk: Talk = ctx.obj
    values.positive("--zoom", zoom)
    values.positive("--regions", regions)
    if seconds is not None:
        values.positive("--seconds", seconds)
    square, inputs = asked.window(window, None), asked.inputs(images, indices)

    from polykern.subdivision import partition
    from polykern.subdivision.columns import require_free

    require_free(out, overwrite=overwrite)
    subject = asked.subject(talk, model, seed)
    with talk.progress("tiles") as progress:
        found = partition(
            subject, inputs, start=start, stop=stop, select=select or "*", window=square, zoom=zoom,
            classes=classes, regions=regions, seconds=seconds or float("inf"), out=out, overwrite=overwrite,
            progress=progress,
        )  # fmt: skip
    if not found.about["complete"]:
        talk.say(f"the budget ran out: {found.about['covered']:.1%} of the window is done", "warning")
    written = [p for p in sorted(out.iterdir()) if p.suffix in (".npy", ".json")]
    _say(talk, found, out, written + _shown(talk, found, out, figures=figures, viewer=viewer))


def _shown(talk: Talk, found: "Partition", out: Path, *, figures: bool, viewer: bool) -> list[Path]:
    """Pictures and the page, where there are not too many faces for them."""
    from polykern.subdivision.drawing import DRAWN
    from polykern.subdivision.page import MOST

    shown = []
    if figures and len(found.what) > DRAWN:
        talk.say(f"no picture: {len(found.what):,} sides are too many; zoom in, or look at the page")
    elif figures:
        talk.say("drawing", "debug")
        shown.append(found.plot(out / "partition.png"))
        if len(found) <= SMALL:
            shown.append(found.plot(out / "partition.svg"))
    if viewer and len(found) > MOST:
        talk.say(f"no page: {len(found):,} faces are too many; zoom in")
    elif viewer:
        talk.say("writing the page", "debug")
        shown.append(found.view(out / "viewer"))
    return shown


def _say(talk: Talk, found: "Partition", out: Path, written: list[Path]) -> None:
    about = json.loads((out / "partition.json").read_bytes())
    files = [str(p.relative_to(out)) for p in written]
    rows = [
        ("faces", f"{len(found):,}, of {found.codes:,} codes"),
        ("covered", f"{about['covered']:.1%} of the window"),
        ("neighbours", f"{about['adjacent_pairs']:,} pairs"),
        *(
            ("boundary", f"{length:.4g} L2 of {name}")
            for name, length in about["boundary_length"].items()
            if length
        ),
        *([("class changes", f"{about['decision_length']:.4g} L2")] if about["decision_length"] else []),
        ("time", f"{about['seconds']:.1f} s"),
        ("folder", str(out)),
        ("files", " ".join(files)),
    ]
    talk.result(rows, {"schema": RESULT, "folder": str(out), "files": files, "partition": about})

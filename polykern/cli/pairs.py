"""`polykern pairs`: how densely boundaries lie between inputs of one class, and of different ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, finding, options
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.densities import Pairs

EXAMPLES = (
    "polykern pairs --model digits --out pairs",
    "polykern pairs --model googlenet --data photographs --pairs 500 --no-controls --out pairs",
)

Stages = Annotated[
    list[str] | None,
    options.option("--stage", panel=options.WHAT, metavar="MODULE",
                   help="Module in whose input space pairs are taken; repeatable. Default: all."),
]  # fmt: skip
Data = Annotated[
    Path | None,
    options.option(
        "--data", panel=options.WHAT, metavar="DIR", help="Folder with a folder of files for each class."
    ),
]
Count = Annotated[
    int,
    options.option(
        "--pairs", panel=options.WHAT, min=2, metavar="N", help="Pairs within classes, and as many between."
    ),
]
Controls = Annotated[
    bool,
    options.option(
        "--controls/--no-controls", panel=options.HOW, metavar="", help="Also measure untrained weights."
    ),
]


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.Model = "digits",
    data: Data = None,
    stage: Stages = None,
    count: Count = 1000,
    controls: Controls = True,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Compare the density of boundaries between inputs of one class with that between classes, at every stage.

    Beside the trained network stand its untrained twins, the gap between pairs of equal distance, and what random
    hyperplanes would give.
    """
    talk: Talk = ctx.obj
    finding.require_free(out, overwrite=overwrite)

    from polykern.densities import pairs

    subject = asked.subject(talk, model, seed)
    with talk.progress("done") as progress:
        found = pairs(
            subject, data=data, stages=stage, count=count, controls=controls, seed=seed, progress=progress
        )  # fmt: skip
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Pairs") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, stages in found.networks.items():
        for s in stages:
            said = f"within {s.within.value:.3f}, between {s.between.value:.3f}, t {s.welch.t:.1f}"
            rows.append((f"{name}, {s.name or 'input'}", f"{said}, gap at equal distance {s.matched}"))
        if len(stages) > 1:
            rows.append((f"{name}, trend", f"Spearman of depth and gap {found.trend(name)}"))
    return rows

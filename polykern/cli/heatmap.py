"""`polykern heatmap`: a density map of the plane through three inputs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from polykern.cli import asked, options, values
from polykern.cli.pace import spelled
from polykern.cli.talk import Talk, shared
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.maps.compute import Recipe
    from polykern.maps.result import HeatMap

RESULT, PLAN = "polykern-heatmap-result/1", "polykern-heatmap-plan/1"
EXAMPLES = (
    "polykern heatmap --model digits --out demo  # a map of 4096 x 4096 pixels, its pictures and its page",
    "polykern heatmap --model digits --indices 0 1 2 --resolution 2048 --zoom 4 --out demo",
    "polykern heatmap --model googlenet --start inception5a --images a.jpg b.jpg c.jpg --dry-run",
    "polykern heatmap --model nets.py:ournet --engine float64 --out ours",
)
LEFT_OUT = {"weights", "seed", "versions"}  # of what the pictures say; --json has all of it
MAX_RESOLUTION = 1 << 16


def command(
    ctx: typer.Context,
    out: options.Out = None,
    model: options.Model = "digits",
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    images: options.Images = None,
    indices: options.Indices = None,
    resolution: options.Resolution = 4096,
    window: options.WindowOf = None,
    zoom: options.Zoom = 1.0,
    centre: options.Centre = None,
    sigma: options.Sigma = None,
    engine: options.Engine = "auto",
    arithmetic: options.Arithmetic = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    memory_budget: options.Memory = "2GiB",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    viewer: options.Viewer = True,
    figures: options.Figures = True,
) -> None:
    """Map the density of polytope boundaries on the plane through three inputs.

    A network of ReLUs cuts its input space into polytopes; in each it is one affine map. The map counts the
    boundaries between neighbouring pixels of the plane through three activations at --start, splits them by layer,
    audits itself in float64, and comes as arrays, pictures and a page to explore.

    An interrupted run is finished by the same command. A folder with another run's map is refused (exit code 6).
    """
    talk: Talk = ctx.obj
    if out is None and not dry_run:
        raise UsageError("no folder for the result", fix="--out DIR, or --dry-run to see what it would take")
    budget, where = values.size(memory_budget), values.device(device, backend)
    asked.require_engine(engine, arithmetic)
    _require(resolution, zoom, sigma)
    square, inputs = asked.window(window, centre), asked.inputs(images, indices)

    from polykern.heat import prepare

    recipe = prepare(
        asked.subject(talk, model, seed), inputs, start=start, stop=stop, select=select or "*",
        resolution=resolution, window=square, zoom=zoom if centre is None else 1.0, sigma=sigma, engine=engine,
        arithmetic=arithmetic, device=where, seed=seed, classes=classes,
    )  # fmt: skip
    recipe = _fitted(_centred(recipe, zoom, centre), budget)
    if out is None or dry_run:
        _say_plan(talk, recipe, budget)
        return
    result = _made(talk, recipe, out, overwrite=overwrite)
    if not talk.first:
        return
    _say(talk, result, _drawn(talk, result, figures=figures, viewer=viewer))


def _require(resolution: int, zoom: float, sigma: float | None) -> None:
    """Refuse what cannot be, before a network is loaded."""
    if not 2 <= resolution <= MAX_RESOLUTION:
        raise UsageError(f"--resolution must be within 2 .. {MAX_RESOLUTION}, got {resolution}")
    values.positive("--zoom", zoom)
    if sigma is not None:
        values.finite("--sigma", sigma)
        if sigma < 0:
            raise UsageError(f"--sigma must not be negative, got {sigma:g}")


def _centred(recipe: "Recipe", zoom: float, centre: tuple[float, float] | None) -> "Recipe":
    """The recipe magnified about a point of its plane."""
    if centre is None:
        return recipe
    return replace(recipe, grid=replace(recipe.grid, window=recipe.grid.window.zoomed(zoom, centre)))


def _fitted(recipe: "Recipe", budget: int) -> "Recipe":
    from polykern.maps.plan import fitted

    return fitted(recipe, budget)


def _made(talk: Talk, recipe: "Recipe", out: Path, *, overwrite: bool) -> "HeatMap":
    """The finished map; from here on an interruption leaves something to go on with."""
    from polykern.maps.compute import compute
    from polykern.maps.plan import require_disk

    require_disk(recipe, out)
    talk.started = True
    talk.say(f"{recipe.tail.layout.bits:,} bits in {len(recipe.tail.layout.fields)} layers", "debug")
    with talk.progress("rows") as progress:
        return compute(recipe, out, overwrite=overwrite, progress=progress)


def _drawn(talk: Talk, result: "HeatMap", *, figures: bool, viewer: bool) -> list[Path]:
    """Pictures and page that were wanted, written."""
    written: list[Path] = []
    if figures:
        from polykern.report import figures as drawing

        talk.say("drawing", "debug")
        written += drawing.write(result, result.folder)
    if viewer:
        from polykern.viewer import write

        talk.say("writing the viewer", "debug")
        written.append(write(result, result.folder / "viewer"))
    return written


def _say(talk: Talk, result: "HeatMap", written: list[Path]) -> None:
    from polykern.report import wording

    arrays = sorted(p for p in result.folder.glob("*.npy"))
    pages = [p for p in written if p.suffix == ".html"]
    pictures = [p for p in written if p.suffix != ".html"]
    rows = [(what, value) for what, value in wording.rows(result) if what not in LEFT_OUT]
    rows.append(("folder", str(result.folder)))
    rows += [("maps", " ".join(p.name for p in arrays))]
    rows += [("pictures", " ".join(p.name for p in pictures))] if pictures else []
    rows += [("to explore", str(p)) for p in pages]
    files = [str(p.relative_to(result.folder)) for p in (result.folder / "map.json", *arrays, *written)]
    talk.result(
        rows,
        {
            "schema": RESULT,
            "folder": str(result.folder),
            "files": files,
            "viewer": str(pages[0]) if pages else None,
            "map": result.provenance,
        },
    )


def _say_plan(talk: Talk, recipe: "Recipe", budget: int) -> None:
    from polykern.amounts import shown
    from polykern.maps.plan import plan

    found = plan(recipe)
    left = found.memory.left(budget)
    n, fields = found.rows, len(recipe.tail.layout.fields)
    rows = [
        ("map", f"{n} x {n} pixels, {found.bits:,} bits in {fields} layers"),
        ("engine", f"{found.engine} ({found.dtype}), {found.reason}"),
        (
            "rows",
            f"{n} in {-(-n // found.band_rows)} bands of {found.band_rows}; an interrupted run loses one at most",
        ),
        *shared(found.ranks, found.share),
        ("disk", shown(found.disk)),
        ("memory", f"{shown(found.memory.needed)} at least; {shown(left)} of the budget go to batches"),
        ("time", f"about {spelled(found.seconds)} on {recipe.device}, audit and pictures aside"),
    ]
    talk.result(rows, {"schema": PLAN, "budget": budget, "device": recipe.device, **found.as_dict()})

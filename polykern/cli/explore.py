"""`polykern explore`: the plane through three inputs, live in a browser of this machine."""

import signal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from polykern.cli import asked, options, values
from polykern.cli.failures import Interrupted
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.explore import Exploration
    from polykern.maps.compute import Recipe

SCHEMA = "polykern-explore/1"
EXAMPLES = (
    "polykern explore --model digits",
    "polykern explore --model digits --indices 0 1 2 --port 8080",
)

ZoomAtFirst = Annotated[
    float, options.option("--zoom", panel=options.WHERE, metavar="X", help="Magnification the page opens at.")
]
CentreAtFirst = Annotated[
    tuple[float, float] | None,
    options.option("--centre", panel=options.WHERE, metavar="U V",
                   help="Where the page opens. Default: the window's middle."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    model: options.Model = "digits",
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    images: options.Images = None,
    indices: options.Indices = None,
    window: options.WindowOf = None,
    zoom: ZoomAtFirst = 1.0,
    centre: CentreAtFirst = None,
    engine: options.Engine = "auto",
    arithmetic: options.Arithmetic = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    memory_budget: options.Memory = "2GiB",
    seed: options.Seed = 0,
    port: options.Port = 0,
) -> None:
    """Pan and zoom in the density map of a plane, live: http on 127.0.0.1 until Ctrl-C; nothing else can reach it.

    Every tile in view is computed at its own resolution, exactly where `polykern heatmap` would be exact, down to
    where float64 ends. Zooming in makes tiles cheaper. The page shows the `polykern heatmap` that makes a file of
    what it shows.

    For a machine without a browser, through a tunnel: ssh -L 8080:127.0.0.1:8080 HOST.
    """
    talk: Talk = ctx.obj
    budget, where = values.size(memory_budget), values.device(device, backend)
    asked.require_engine(engine, arithmetic)
    values.positive("--zoom", zoom)
    square, inputs = asked.window(window, centre), asked.inputs(images, indices)

    from polykern.heat import prepare

    recipe = prepare(
        asked.subject(talk, model, seed), inputs, start=start, stop=stop, select=select or "*", resolution=256,
        window=square, engine=engine, arithmetic=arithmetic, device=where, seed=seed, classes=classes,
    )  # fmt: skip
    words = _words(
        model=model, start=start, stop=stop or None, select=select, images=images, indices=indices, engine=engine,
        arithmetic=arithmetic, classes=classes, device=device, backend=backend, memory_budget=memory_budget,
        seed=seed,
    )  # fmt: skip
    talk.say("trying the engines", "debug")
    _served(talk, _explored(recipe, budget, words), port, zoom, centre)


def _explored(recipe: "Recipe", budget: int, words: list[str]) -> "Exploration":
    """The exploration within a memory budget: finished tiles take an eighth of it at most."""
    from polykern.explore import Exploration
    from polykern.explore.exploration import CACHE
    from polykern.maps.plan import fitted

    cache = min(CACHE, budget // 8)
    return Exploration(fitted(recipe, budget - cache), command=words, cache=cache)


def _served(
    talk: Talk, exploration: "Exploration", port: int, zoom: float, centre: tuple[float, float] | None
) -> None:
    from polykern.explore import bound

    place = _place(exploration, zoom, centre)
    level = exploration.overview
    with exploration, bound(exploration, port) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/{place}"
        whole = {
            "schema": SCHEMA,
            "url": url,
            "model": exploration.name,
            "engine": level.engine.name,
            "reason": level.reason,
            "deepest_level": exploration.pyramid.deepest,
        }
        talk.result([(url,)], whole)
        talk.say("Ctrl-C ends it")
        try:
            server.serve_forever()
        except Interrupted as end:
            if end.number != signal.SIGINT:
                raise


def _place(exploration: "Exploration", zoom: float, centre: tuple[float, float] | None) -> str:
    """Where the page opens, as the part of its address behind #; nothing for the whole window."""
    deepest, window = exploration.pyramid.deepest, exploration.pyramid.window
    if zoom > 2.0**deepest:
        raise UsageError(
            f"--zoom {zoom:g} is too deep",
            why=f"float64 ends at level {deepest}, a magnification of {2.0**deepest:.3g}",
            fix="a smaller --zoom",
        )
    if zoom == 1 and centre is None:
        return ""
    u, v = centre or (window.u + window.side / 2, window.v + window.side / 2)
    return f"#{u!r},{v!r},{zoom!r}"


def _words(**given: Any) -> list[str]:
    """The words of the `polykern heatmap` with these options, but for those that say what it does by default."""
    usual = {
        "model": "digits", "engine": "auto", "device": "auto", "backend": "auto", "memory_budget": "2GiB",
        "seed": 0,
    }  # fmt: skip
    words = ["polykern", "heatmap"]
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if value is None or value == usual.get(name):
            continue
        if name == "classes":
            words.append("--classes" if value else "--no-classes")
        elif name == "select":
            words += [word for glob in value for word in (option, glob)]
        elif isinstance(value, tuple):
            words += [option, *map(str, value)]
        else:
            words += [option, str(value)]
    return words

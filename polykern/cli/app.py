"""The commands, put together and run."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from polykern.cli import (
    adversarial,
    bench,
    capture,
    cluster,
    complexity,
    directions,
    doctor,
    embeddings,
    explore,
    heatmap,
    info,
    layers,
    pairs,
    partition,
    path,
    projections,
    ray,
    report,
    score,
    spectrum,
    verify,
    view,
)
from polykern.cli.failures import exit_code, watched
from polykern.cli.options import BACKEND
from polykern.cli.talk import Talk

ABOUT = """The polytope lens on neural networks: maps of how densely a network changes its linear map, and exact
clusters of the spline codes of its data.

Every command takes --help and shows an example. The result goes to stdout, everything else to stderr. An option
with an environment variable beside it may be set there; what is given on the command line goes first.
"""


def _flowing(text: str | None) -> str:
    """Paragraphs with a line each, to be broken where the terminal ends."""
    return "\n\n".join(" ".join(p.split()) for p in (text or "").split("\n\n"))


app = typer.Typer(
    name="polykern",
    help=_flowing(ABOUT),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: polykern heatmap --model digits --resolution 1024 --out demo",
)
for _module in (
    heatmap,
    explore,
    partition,
    path,
    ray,
    adversarial,
    pairs,
    directions,
    complexity,
    capture,
    cluster,
    report,
    score,
    spectrum,
    projections,
    embeddings,
    layers,
    info,
    verify,
    bench,
    doctor,
    view,
):
    _name = _module.__name__.rpartition(".")[2]
    app.command(_name, help=_flowing(_module.command.__doc__), epilog=_module.EXAMPLE)(_module.command)


def run(words: Sequence[str]) -> int:
    """Carry out one command line and give its exit code; nothing but SystemExit of the shell completion escapes.

    words  what stands behind `polykern`
    """
    talk = Talk(json="--json" in words, command=("polykern", *words))
    named = os.environ.get(BACKEND)
    try:
        with watched():
            code = app(list(words), standalone_mode=False, prog_name="polykern", obj=talk)
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return exit_code(error, talk)
    finally:
        talk.close()
        os.environ.pop(BACKEND, None)  # a run names the backend of its own kernels only
        if named is not None:
            os.environ[BACKEND] = named


def _version(wanted: bool) -> None:
    if wanted:
        from polykern import __version__

        typer.echo(f"polykern {__version__}")
        raise typer.Exit


@app.callback()
def _polykern(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Options that come before a command."""

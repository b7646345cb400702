"""The commands, put together and run."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from polykern.cli import (
    adversarial,
    bench,
    capture,
    cluster,
    complexity,
    config,
    directions,
    doctor,
    embeddings,
    explore,
    heatmap,
    info,
    latents,
    layers,
    options,
    pairs,
    partition,
    path,
    projections,
    ray,
    redundancy,
    report,
    residual,
    score,
    settings,
    spectrum,
    superposition,
    synonyms,
    verify,
    view,
)
from polykern.cli.failures import exit_code, watched
from polykern.cli.settings import Command
from polykern.cli.talk import Talk

ABOUT = """The polytope lens on neural networks: maps of how densely a network changes its linear map, and exact
clusters of the spline codes of its data.

Every command takes --help and shows examples. The result goes to stdout, everything else to stderr.

An option may stand on the command line, in the environment as POLYKERN_COMMAND_OPTION, or in polykern.toml, in this
order; `polykern config` says what counts. What a run was made with is kept beside its result.
"""
EXAMPLES = (
    "polykern heatmap --model digits --resolution 1024 --out demo",
    "polykern --config run.toml heatmap",
)


def _flowing(text: str | None) -> str:
    """Paragraphs with a line each, to be broken where the terminal ends."""
    return "\n\n".join(" ".join(p.split()) for p in (text or "").split("\n\n"))


def _examples(lines: Sequence[str]) -> str:
    """A line each at the foot of a help."""
    return "\n\n".join(["Examples:", *lines]) if lines else ""


def _speaking(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options that all commands have, which has been told how to speak when it begins."""

    def settled(
        ctx: typer.Context,
        as_json: options.Json = False,  # `run` looks for it before the words are parsed
        quiet: options.Quiet = False,
        verbose: options.Verbose = 0,
        log_format: options.Log = "text",
        **given: Any,
    ) -> None:
        talk: Talk = ctx.obj
        talk.settle(quiet=quiet, verbose=verbose, log=log_format)
        command(ctx, **given)

    own = inspect.signature(command).parameters.values()
    _, *common, _ = inspect.signature(settled).parameters.values()
    told: Any = settled
    told.__signature__ = inspect.Signature([*own, *common])
    told.__annotations__ = {p.name: p.annotation for p in (*own, *common)}
    return settled


app = typer.Typer(
    name="polykern",
    help=_flowing(ABOUT),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_examples(EXAMPLES),
)
for _module in (
    heatmap,
    explore,
    partition,
    path,
    ray,
    adversarial,
    residual,
    pairs,
    synonyms,
    directions,
    complexity,
    capture,
    cluster,
    report,
    score,
    spectrum,
    projections,
    redundancy,
    superposition,
    embeddings,
    latents,
    layers,
    info,
    verify,
    bench,
    doctor,
    config,
    view,
):
    _name = _module.__name__.rpartition(".")[2]
    _foot = _examples(getattr(_module, "EXAMPLES", ()))
    app.command(_name, cls=Command, help=_flowing(_module.command.__doc__), epilog=_foot)(
        _speaking(_module.command)
    )


def run(words: Sequence[str]) -> int:
    """Carry out one command line and give its exit code; nothing but SystemExit of the shell completion escapes.

    words  what stands behind `polykern`
    """
    talk = Talk(json="--json" in words, command=("polykern", *words))
    named = os.environ.get(options.BACKEND)
    try:
        with watched():
            code = app(_config_first(words), standalone_mode=False, prog_name="polykern", obj=talk)
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return exit_code(error, talk)
    finally:
        talk.close()
        os.environ.pop(options.BACKEND, None)  # a run names the backend of its own kernels only
        if named is not None:
            os.environ[options.BACKEND] = named


def _config_first(words: Sequence[str]) -> list[str]:
    """The words with --config FILE in front, where it belongs, wherever it was written."""
    given = list(words)
    for k, word in enumerate(given[: given.index("--") if "--" in given else None]):
        taken = 2 if word == "--config" else word.startswith("--config=")
        if taken:
            return [*given[k : k + taken], *given[:k], *given[k + taken :]]
    return given


def _version(wanted: bool) -> None:
    if wanted:
        from polykern import __version__

        typer.echo(f"polykern {__version__}")
        raise typer.Exit


@app.callback()
def _polykern(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", envvar="POLYKERN_CONFIG", help="Settings. Default: polykern.toml here."),
    ] = None,
) -> None:
    """Options that come before a command."""
    talk: Talk = ctx.obj
    talk.file = settings.file(config)
    if talk.file is not None:
        group: Any = ctx.command  # typer does not say that it is a group of commands
        ctx.default_map = settings.read(talk.file, group.commands)

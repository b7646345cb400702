"""`polykern config`: what the options of the commands are here, and where each value comes from."""

from typing import Annotated, Any

import typer

from polykern.cli import settings, values
from polykern.cli.talk import Talk

SCHEMA = "polykern-config/1"
EXAMPLES = (
    "polykern config  # what is set here, of every command",
    "polykern config heatmap  # every option of one command, and the variable that sets it",
    "polykern --config run.toml config heatmap --json",
)


def command(
    ctx: typer.Context,
    of: Annotated[
        str | None, typer.Argument(metavar="COMMAND", help="List all its options; else what is set, of all.")
    ] = None,
) -> None:
    """Say what options are without a command line, and where each value comes from.

    A variable POLYKERN_COMMAND_OPTION goes before POLYKERN_OPTION, which all commands share, and that before the
    file: --config FILE, else polykern.toml in the working directory. In the file a table has the name of a command;
    what stands in front of all tables is shared. Names with - and with _ are the same.
    """
    talk: Talk = ctx.obj
    parent: Any = ctx.parent  # the group of all commands
    commands = parent.command.commands
    if of is not None:
        values.one_of("polykern", of, tuple(commands))
    found = {name: _settings(ctx, commands[name]) for name in ([of] if of else sorted(commands))}
    rows = [("file", str(talk.file or f"none: no {settings.USUAL} here"), "", "")]
    for name, each in found.items():
        shown = each if of else [s for s in each if s.source != settings.DEFAULT]
        rows += [(s.name if of else f"{name}.{s.name}", _shown(s.value), s.source, s.variable) for s in shown]
    told = {name: {s.name: {"value": s.value, "from": s.source} for s in each} for name, each in found.items()}
    talk.result(rows, {"schema": SCHEMA, "file": talk.file and str(talk.file), "commands": told})


def _settings(ctx: typer.Context, command: Any) -> list[settings.Setting]:
    """The options of a command that is called with none."""
    with command.make_context(command.name, [], parent=ctx.parent, resilient_parsing=True) as inner:
        return settings.effective(inner)


def _shown(value: Any) -> str:
    return "not given" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)

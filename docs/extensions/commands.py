"""The reference pages of the command line, written from the commands themselves."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import heading, put
from plain import inline, literal, restructured


def commands() -> dict[str, Any]:
    """The commands of `polykern` by name, in the order of its help."""
    import typer

    from polykern.cli.app import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def write(folder: Path) -> None:
    """Write a page for each command and their index into a folder."""
    import polykern.cli
    from polykern.cli.app import ABOUT

    pages = {name: page(name, command) for name, command in commands().items()}
    index = [*heading("The command line"), "", *restructured(ABOUT.split("\n")), ""]
    index += [".. list-table::", "   :class: names", "   :widths: auto", ""]
    for name, command in commands().items():
        index += [f"   * - :doc:`polykern {name} <{name}>`", f"     - {inline(command.help.split(chr(10))[0])}"]
    index += ["", *restructured((inspect.getdoc(polykern.cli) or "").split("\n")), ""]
    index += [".. toctree::", "   :hidden:", "", *(f"   {name}" for name in pages)]
    put(folder / "commands", {"index": index, **pages})


def page(name: str, command: Any) -> list[str]:
    """What one command takes: its usage, its words, an example, its options by panel."""
    words = [p for p in command.params if not p.opts[0].startswith("-")]
    options = [p for p in command.params if p.opts[0].startswith("-")]
    usage = " ".join(["polykern", name, *(_word(p) for p in words), "[OPTIONS]"])
    lines = [*heading(f"polykern {name}"), "", *restructured((command.help or "").split("\n"))]
    lines += [".. code-block:: text", "", f"   {usage}", ""]
    if command.epilog:
        examples = command.epilog.split("\n\n")[1:]
        lines += ["Examples:", "", ".. code-block:: text", "", *(f"   {line}" for line in examples), ""]
    if words:
        lines += _table("Arguments", words)
    for panel in dict.fromkeys(map(_panel, options)):
        lines += _table(panel, [p for p in options if _panel(p) == panel])
    return lines


def _panel(parameter: Any) -> str:
    return getattr(parameter, "rich_help_panel", None) or "Options"


def _word(parameter: Any) -> str:
    shown = parameter.metavar or parameter.name.upper()
    shown += "..." if parameter.nargs == -1 else ""
    return shown if parameter.required else f"[{shown}]"


def _table(title: str, parameters: list[Any]) -> Iterator[str]:
    yield from (f".. rubric:: {title}", "", ".. list-table::", "   :class: plain", "   :widths: auto", "")
    for parameter in parameters:
        opts = [*parameter.opts, *parameter.secondary_opts]
        name = " ".join(opts) if opts[0].startswith("-") else _word(parameter)
        value = f" {parameter.metavar}" if parameter.metavar and opts[0].startswith("-") else ""
        yield f"   * - {literal(name + value)}"
        yield f"     - {inline(parameter.help or '')} {' '.join(_more(parameter))}".rstrip()
    yield ""


def _more(parameter: Any) -> Iterator[str]:
    """The default and the environment variable of a parameter, where it has them."""
    if parameter.default not in (None, "", False, 0) and not callable(parameter.default):
        shown = parameter.default
        if shown is True:
            shown = parameter.opts[0]
        elif isinstance(shown, list | tuple):
            shown = " ".join(map(str, shown))
        yield f"Default: {literal(str(shown))}."
    if parameter.envvar:
        names = parameter.envvar if isinstance(parameter.envvar, list) else [parameter.envvar]
        yield f"Environment: {', '.join(map(literal, names))}."

"""Where the options of a command get their values: command line, environment, file, default, in this order.

In the environment an option is POLYKERN_COMMAND_OPTION or, for all commands that share it, POLYKERN_OPTION. The
file is TOML: options of one command are in a table of its name, those that commands share stand in front of all
tables. It is the one that --config names, else polykern.toml in the working directory.

    device = "cuda:0"

    [heatmap]
    resolution = 2048

What a run was made with, and where each value came from, is kept beside its result as settings.toml, which --config
takes again.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from polykern.cli.talk import Talk
from polykern.errors import UsageError
from polykern.report.script import visible

USUAL, KEPT = "polykern.toml", "settings.toml"
PREFIX = "POLYKERN"
URL = re.compile("[a-z][a-z0-9+.-]+:/")  # as a path has it: one slash
MAX = (1 << 63) - 1
ONCE = {"json", "overwrite", "dry_run", "help"}  # said of one call: on the command line alone
MADE = ("out", "plot", "intruders")  # options that name a folder which the command makes
DEFAULT, LINE = "default", "command line"


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of a call.

    name      as in a file: memory_budget
    value     what the command got; None: not given
    source    "command line", a variable of the environment, a file, or "default"
    variable  of the environment, that sets it
    """

    name: str
    value: Any
    source: str
    variable: str


class Command(TyperCommand):
    """A command whose options have all their sources, and which keeps them beside its result."""

    def __init__(self, name: str | None, **given: Any) -> None:
        super().__init__(name, **given)
        for key, param in options(self):
            own = f"{PREFIX}_{name}_{key}".upper()
            param.envvar = [own] if param.envvar is None else [own, param.envvar]
            param.show_envvar = False  # `polykern config` lists them

    def invoke(self, ctx: Any) -> Any:
        """Run the command; where it has made folders, leave the settings in them."""
        talk: Talk = ctx.obj
        talk.settings = {s.name: {"value": s.value, "from": s.source} for s in effective(ctx)}
        _require_possible(ctx)
        if isinstance(out := ctx.params.get("out"), Path):
            talk.writes(out)
        try:
            given = super().invoke(ctx)
        except typer.Exit:  # the result is there; the code says something about it
            _keep_all(ctx)
            raise
        _keep_all(ctx)
        return given


def options(command: Any) -> Iterator[tuple[str, Any]]:
    """The options of a command that a file may set, and the argument MODEL: name in the file, click's parameter."""
    for param in command.params:
        flags = [word for word in param.opts if word.startswith("--")]
        key = max(flags, key=len)[2:].replace("-", "_") if flags else param.name
        if key not in ONCE and (flags or param.envvar):
            yield key, param


def shared(param: Any) -> str | None:
    """The name under which all commands have an option, if they share it."""
    if len(param.envvar) == 1:
        return None
    return str(param.envvar[1]).removeprefix(f"{PREFIX}_").lower()


def effective(ctx: Any) -> list[Setting]:
    """The options of a call with their values and sources, by name."""
    found = []
    for key, param in options(ctx.command):
        value = ctx.params.get(param.name)
        found.append(Setting(key, _plain(value), source(ctx, param), str(param.envvar[-1])))
    return sorted(found, key=lambda s: s.name)


def _require_possible(ctx: Any) -> None:
    """Refuse what no command can take: numbers beyond 64 bits, and a URL to write to."""
    for key, param in options(ctx.command):
        value = ctx.params.get(param.name)
        for number in value if isinstance(value, list | tuple) else [value]:
            if isinstance(number, int) and not -MAX - 1 <= number <= MAX:
                raise UsageError(f"--{key.replace('_', '-')} is beyond 64 bits")
    out = ctx.params.get("out")
    if isinstance(out, Path) and URL.match(str(out)):
        raise UsageError(f"--out {out} is a URL", fix="name a folder of this machine, and copy it there")


def source(ctx: Any, param: Any) -> str:
    """Where the value of a parameter of a call came from."""
    kind = getattr(ctx.get_parameter_source(param.name), "name", "DEFAULT")
    if kind == "ENVIRONMENT":
        return str(next((name for name in param.envvar if os.environ.get(name)), param.envvar[0]))
    return {"COMMANDLINE": LINE, "DEFAULT_MAP": str(ctx.obj.file)}.get(kind, DEFAULT)


# --- files ------------------------------------------------------------------------------------------


def file(named: Path | None) -> Path | None:
    """The file that counts: the named one, else polykern.toml where it is here."""
    if named is not None:
        return named
    return Path(USUAL) if Path(USUAL).is_file() else None


def read(path: Path, commands: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The defaults that a file gives: command -> parameter -> value.

    commands  name -> click's command

    Raises UsageError for a file that cannot be read, a name that no command has (with the nearest one), or a value
    that is no number, word, truth value or list of them.
    """
    try:
        held = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as reason:
        raise UsageError(f"{path} cannot be read", why=str(reason)) from reason
    known = {name: dict(options(command)) for name, command in commands.items()}
    common = {s for each in known.values() for p in each.values() if (s := shared(p)) is not None}
    found: dict[str, dict[str, Any]] = {name: {} for name in known}
    for word, value in held.items():
        if isinstance(value, dict):
            _require_known(path, word, known, "command")
            continue
        key = word.replace("-", "_")
        _require_known(path, key, common, "option that commands share")
        for name, each in known.items():
            found[name] |= {p.name: _value(path, key, p, value) for p in each.values() if shared(p) == key}
    for name, table in held.items():
        for word, value in table.items() if isinstance(table, dict) else ():
            key = word.replace("-", "_")
            _require_known(path, key, known[name], f"option of {name}")
            param = known[name][key]
            found[name][param.name] = _value(path, f"{name}.{key}", param, value)
    return found


def _keep_all(ctx: Any) -> None:
    """Leave the settings in every folder that the command has made; of several processes the first does."""
    if ctx.params.get("dry_run") or not ctx.obj.first:
        return
    for folder in dict.fromkeys([*(ctx.params.get(name) for name in MADE), *ctx.obj.folders]):
        if isinstance(folder, Path) and folder.is_dir():
            keep(folder, ctx)


def keep(folder: Path, ctx: Any) -> None:
    """Write settings.toml into the folder of a result."""
    from polykern.store.disk import put

    lines = [f"# {visible(' '.join(ctx.obj.command))}", f"[{ctx.command.name}]"]
    for s in effective(ctx):
        text = (
            f"# {s.name}: not given" if s.value is None else f"{s.name} = {_toml(s.value)}  # {visible(s.source)}"
        )
        lines.append(text)
    put(folder / KEPT, ["\n".join([*lines, ""]).encode("utf-8", "replace")])


def _require_known(path: Path, word: str, known: Any, what: str) -> None:
    if word not in known:
        near = get_close_matches(word, list(known), 3, 0.5)
        every = f"there are {', '.join(sorted(known))}"
        raise UsageError(f"{path}: {word} is no {what}", fix=f"nearest names: {', '.join(near)}" if near else every)


def _value(path: Path, key: str, param: Any, value: Any) -> Any:
    """A value as the command line would have it: words, or a truth value for a flag."""
    several = param.multiple or param.nargs > 1
    fits = isinstance(value, list) if several else isinstance(value, bool) == bool(_is_flag(param))
    parts = value if isinstance(value, list) else [value]
    if not fits or not all(isinstance(part, str | int | float) for part in parts):
        wanted = "a list" if several else "true or false" if _is_flag(param) else "a number or a word"
        raise UsageError(f"{path}: {key} is {wanted}, got {value!r}")
    words = [part if isinstance(part, bool) else str(part) for part in parts]
    return words if several else words[0]


def _is_flag(param: Any) -> bool:
    return bool(getattr(param, "is_flag", False)) and not getattr(param, "count", False)


def _plain(value: Any) -> Any:
    """A value as JSON and TOML have it."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value] or None
    return str(value) if isinstance(value, Path) else value


def _toml(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The fenced blocks of a page, and a reader who does what it says.

    sh        commands, run in order
    python    code, run in order in one session
    a file    a `{code-block}` with a caption: the text of the file of that name
    the rest  is shown, not run: `shell`, `py`, `text`, `json`, ...

`python tests/docs/fences.py PAGE` prints a bash script that does all of a page from the root of a clone.
"""

import linecache
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(r"^(?P<mark>`{3,})(?P<what>[^\n]*)\n(?P<body>.*?)^(?P=mark)[ ]*$", re.MULTILINE | re.DOTALL)
CAPTION = re.compile(r":caption: (\S+)\n\n?")
INSTALL = "Install"  # the section whose commands make the environment that the tests are already in


@dataclass(frozen=True)
class Block:
    """One fenced block.

    kind     "sh", "python", "file" or another language
    body     its lines
    name     of the file; "" for the others
    section  the heading above it
    line     of the page where it begins
    """

    kind: str
    body: str
    name: str
    section: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page in Markdown, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        before = text[: found.start()]
        section = re.findall(r"^#+ (.+)$", FENCE.sub("", before), re.MULTILINE)
        kind, body, name = found["what"].strip(), found["body"], ""
        if kind.startswith("{code-block}") and (caption := CAPTION.match(body)):
            kind, name, body = "file", caption[1], body[caption.end() :]
        yield Block(kind, body, name, section[-1] if section else "", before.count("\n") + 1)


def commands(body: str) -> list[list[str]]:
    """The lines of a block of commands, as words."""
    return [shlex.split(line) for line in body.splitlines() if line.strip()]


def follow(page: Path, session: dict[str, Any]) -> None:
    """Do what a page says in the working folder, in this process; its Python runs in `session`."""
    from polykern.cli.app import run

    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.kind == "file":
            Path(block.name).write_text(block.body, encoding="utf-8")
        elif block.kind == "python":
            lines = block.body.splitlines(keepends=True)
            linecache.cache[where] = len(block.body), None, lines, where  # who reads its own source finds it
            exec(compile(block.body, where, "exec"), session)
        elif block.kind == "sh":
            for words in commands(block.body):
                if words[0] == "polykern":
                    assert run(words[1:]) == 0, f"{where}: {shlex.join(words)}"
                else:
                    assert block.section == INSTALL, f"{where}: {words[0]} is no command of polykern"


def script(page: Path) -> str:
    """A bash script that does all of a page; a block of Python is run behind those before it."""
    lines, before = ["set -e"], ""
    for block in blocks(page):
        if block.kind == "sh":
            lines.append(block.body)
        elif block.kind == "file":
            lines += [f"cat > {block.name} <<'END'", f"{block.body}END"]
        elif block.kind == "python":
            before += block.body
            lines += ["python - <<'END'", f"{before}END"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(script(Path(sys.argv[1])))

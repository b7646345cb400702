"""The house's docstrings as reStructuredText: plain text whose tables and formulas are set by spaces.

    name  what it is             a row of a table: two spaces or more end the name
          and how it goes on
        indented by four         a formula, a figure or code, as it stands
    anything else                a paragraph; `words` in backticks are names

Paragraphs need no markup, so what reStructuredText would read as markup is escaped.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

WORD = r"[*\"'\w.|/-]+"
ROW = re.compile(
    rf"(?P<name>(?:returns )?{WORD}(?:, {WORD})*(?: (?:u?int|float|bool)\d*(?: \([^)]*\))?)?) {{2,}}(?P<rest>\S.*)"
)
GAP = re.compile(r"(?<![.;:,]) {2,}")
NAME = re.compile(r"[A-Za-z_][\w.]*")
CODE = re.compile(r"(?m)^(?:>>> |(?:import|from) \w|\w+ = \w+[.(])")


@dataclass
class Table:
    """Rows that follow each other: each a name and the lines that say what it is."""

    rows: list[tuple[str, list[str]]] = field(default_factory=list)


@dataclass
class Literal:
    """Lines that stay as they stand."""

    lines: list[str] = field(default_factory=list)


@dataclass
class Paragraph:
    """Lines that flow."""

    lines: list[str] = field(default_factory=list)


Part = Table | Literal | Paragraph


def restructured(lines: Iterable[str]) -> list[str]:
    """The lines of a docstring, dedented, as lines of reStructuredText."""
    out: list[str] = []
    for part in parts(lines):
        match part:
            case Table():
                out += _table(part)
            case Literal():
                kind = "python" if CODE.search("\n".join(part.lines)) else "text"
                out += [f".. code-block:: {kind}", "", *(f"   {line}".rstrip() for line in part.lines), ""]
            case Paragraph():
                out += [inline(" ".join(line.strip() for line in part.lines)), ""]
    return out


def parts(lines: Iterable[str]) -> list[Part]:
    """Tables, literal blocks and paragraphs in the order of the lines."""
    found: list[Part] = []
    ended = True  # a blank line lies between
    for line in lines:
        if not line.strip():
            if found and isinstance(found[-1], Literal):
                found[-1].lines.append("")
            ended = True
            continue
        _take(found, line.rstrip(), ended)
        ended = False
    for part in found:
        if isinstance(part, Literal):
            while not part.lines[-1]:
                part.lines.pop()
            indent = min(len(line) - len(line.lstrip()) for line in part.lines if line)
            part.lines = [line[indent:] for line in part.lines]
    return found


def _take(found: list[Part], line: str, ended: bool) -> None:
    """Give a line to the part it belongs to, or begin one with it."""
    last = found[-1] if found else None
    row = ROW.fullmatch(line)
    if line.startswith(" "):
        if isinstance(last, Table) and not ended:
            last.rows[-1][1].append(line.strip())
        elif isinstance(last, Literal) or (isinstance(last, Paragraph) and not ended):
            last.lines.append(line)
        else:
            found.append(Literal([line]))
    elif row:
        if not isinstance(last, Table) or ended:
            found.append(Table())
        table = found[-1]
        assert isinstance(table, Table)
        table.rows.append((row["name"], [row["rest"]]))
    elif isinstance(last, Paragraph) and not ended:
        last.lines.append(line)
    else:
        found.append(Paragraph([line]))


def _table(table: Table) -> Iterator[str]:
    """The rows as a table of two columns: the name, and what is said of it."""
    yield from (".. list-table::", "   :class: plain", "   :widths: auto", "")
    for name, lines in table.rows:
        said = _said(lines)
        yield f"   * - {', '.join(literal(word) for word in name.split(', '))}"
        yield f"     - {said[0]}"
        yield from (f"       {line}" for line in said[1:])
    yield ""


def _said(lines: list[str]) -> list[str]:
    """What stands behind a name; several results with columns of their own stand below each other."""
    columns = [line for line in lines if GAP.search(line)]
    if len(columns) > 1 and columns[0] is lines[0]:
        rows: list[str] = []
        for line in lines:
            if GAP.search(line):
                rows.append(line)
            else:
                rows[-1] += f" {line}"
        return [f"| {_columns(row)}" for row in rows]
    return [_columns(" ".join(lines))]


def _columns(text: str) -> str:
    """A dtype or a name that stands in a column of its own, and the rest."""
    first, *rest = GAP.split(text, maxsplit=1)
    return f"{literal(first)} {inline(rest[0])}" if rest else inline(text)


def literal(text: str) -> str:
    """Words in a fixed width; the backticks that the docstring gives them are left out."""
    return f"``{text.replace('`', '')}``"


def inline(text: str) -> str:
    """A paragraph, with names in backticks set in a fixed width and linked where they are known."""
    pieces = re.split(r"`([^`]+)`", " ".join(text.split()))
    out = []
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            out.append(re.sub(r"([\\*_|`])", r"\\\1", piece))
        elif NAME.fullmatch(piece):
            out.append(f"\\ :py:obj:`{piece}`\\ ")
        else:
            out.append(f"\\ ``{piece}``\\ ")
    return "".join(out).strip()

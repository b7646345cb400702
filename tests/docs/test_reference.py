"""The pages that are read off the packages: every public name is there and says what it is, every command too."""

import inspect
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

import commands
import gallery
import links
import names
import plain
import polykern
from fences import FENCE, blocks
from polykern.cli import variables

ROOT = Path(__file__).parents[2]
INCLUDED = re.compile(r"```\{include\} (\S+)\n(?::\S+:.*\n)*```\n?")
PAGES = [
    ROOT / "README.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "generated" not in p.parts),
]


# --- docstrings ------------------------------------------------------------------------------------


def test_a_docstring_becomes_what_its_spaces_mean() -> None:
    text = (
        "What it gives.\n\nx, y   float32 (n)   the points, `n` of them\n       at least\nz      a *star*\n\n"
        "    a = b\n      c\n\nThe end."
    )
    assert plain.restructured(text.split("\n")) == [
        *("What it gives.", "", ".. list-table::", "   :class: plain", "   :widths: auto", ""),
        *("   * - ``x``, ``y``", "     - ``float32 (n)`` the points, \\ :py:obj:`n`\\  of them at least"),
        *("   * - ``z``", "     - a \\*star\\*", ""),
        *(".. code-block:: text", "", "   a = b", "     c", "", "The end.", ""),
    ]


def test_sentences_are_no_tables() -> None:
    found = plain.parts(["A point of the plane is  x(u, v) = a", "and goes on."])
    assert [type(part) for part in found] == [plain.Paragraph]


def public() -> Iterator[tuple[str, Any]]:
    """Every public name with what it stands for; of classes their public methods and properties as well."""
    modules = [*names.modules(), *names.families()]
    for module in modules:
        yield module.__name__, module
        listed = names.documented(module) if module.__name__.startswith("polykern.") else names.of_family(module)
        for name in listed:
            value = names.value(name)
            yield name, value
            if inspect.isclass(value):
                yield from members(name, value)


def members(name: str, value: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties of a class of ours; those of torch.Tensor mean what they mean there."""
    like_a_tensor = {name for name in dir(torch.Tensor) if hasattr(value, "__torch_function__")}
    for attribute, given in vars(value).items():
        if attribute in like_a_tensor:
            continue
        held = given.__func__ if isinstance(given, classmethod | staticmethod) else given
        if not attribute.startswith("_") and (inspect.isfunction(held) or isinstance(given, property)):
            yield f"{name}.{attribute}", getattr(value, attribute)


def test_every_public_name_says_what_it_gives() -> None:
    silent = [name for name, value in public() if not inspect.getdoc(value)]
    assert silent == []


def test_every_exported_name_has_its_place() -> None:
    places = [name for module in names.modules() for name in names.documented(module)]
    assert len(places) == len(set(places))
    exported = {
        f"polykern.{name}"
        for name in polykern.__all__
        if inspect.isclass(value := getattr(polykern, name)) or inspect.isfunction(value)
    }
    assert len(exported) > 40
    assert exported <= set(places)


def test_a_name_is_written_with_its_members(tmp_path: Path) -> None:
    names.write(tmp_path)
    page = (tmp_path / "api" / "polykern.clustering.rst").read_text()
    assert ".. autoclass:: polykern.HDBSCAN\n   :members:" in page
    (tmp_path / "api" / "polykern.gone.rst").write_text("gone")
    names.write(tmp_path)
    assert not (tmp_path / "api" / "polykern.gone.rst").exists()


# --- commands --------------------------------------------------------------------------------------


def test_every_option_is_on_the_page_of_its_command() -> None:
    found = commands.commands()
    assert {"heatmap", "cluster", "doctor"} <= set(found)
    for name, command in found.items():
        page = "\n".join(commands.page(name, command))
        assert [o for p in command.params for o in p.opts if o.startswith("--") and o not in page] == []


def printed(page: Path) -> Iterator[list[str]]:
    """The command lines of polykern that a page prints, in fenced blocks and indented ones, as words."""
    fenced = [line for b in blocks(page) if b.kind in ("sh", "shell", "text") for line in b.body.splitlines()]
    indented = [line.strip() for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    for line in [*fenced, *indented]:
        for command in line.partition("   ")[0].rstrip("\\").split(";"):
            words = shlex.split(command.strip()) if command.strip().startswith("polykern ") else []
            yield from [words[1:]] if len(words) > 1 else []


def unknown(words: list[str]) -> list[str]:
    """What of a command line does not exist: the command, or options of it."""
    if words[0].startswith("-"):
        return []
    if words[0] not in commands.commands():
        return words[:1]
    known = {o for p in commands.commands()[words[0]].params for o in (*p.opts, *p.secondary_opts)}
    return [w for w in words[1:] if w.startswith("--") and w.partition("=")[0] not in {*known, "--help"}]


def test_every_printed_command_exists() -> None:
    lines = [(page, words) for page in PAGES for words in printed(page)]
    assert len(lines) > 50
    wrong = [f"{page.name}: polykern {shlex.join(w)}: no {bad}" for page, w in lines if (bad := unknown(w))]
    assert wrong == []


def test_a_wrong_command_would_be_noticed() -> None:
    assert unknown(["heatmap", "--model", "digits"]) == []
    assert unknown(["heatmap", "--modell", "digits"]) == ["--modell"]
    assert unknown(["heatmaps"]) == ["heatmaps"]


# --- headings, variables -----------------------------------------------------------------------------


def headings(page: Path) -> list[str]:
    """The marks of the headings of a page, fenced blocks aside; of a page that is another one, those of that."""
    text = page.read_text(encoding="utf-8")
    if other := INCLUDED.fullmatch(text):
        return headings(page.parent / other[1])
    return re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)


def odd(marks: list[str]) -> str:
    """What is wrong with the headings of a page."""
    if marks[:1] != ["#"] or marks.count("#") != 1:
        return f"{marks.count('#')} titles"
    skipped = any(len(below) > len(above) + 1 for above, below in pairwise(marks))
    return "a level is skipped" if skipped else ""


def test_every_page_has_one_title_and_no_level_is_skipped() -> None:
    assert [f"{page.name}: {why}" for page in PAGES if (why := odd(headings(page)))] == []


@pytest.mark.parametrize("marks", [[], ["##"], ["#", "##", "#"], ["#", "###"]])
def test_odd_headings_would_be_noticed(marks: list[str]) -> None:
    assert odd(marks)


def test_every_variable_has_its_row() -> None:
    page = (ROOT / "docs" / "howto" / "options.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(POLYKERN_\w+)` \| (.+) \|$", page, re.MULTILINE))
    assert {name: told.replace("`", "") for name, told in rows.items()} == {
        name: told.replace("`", "") for name, told in variables.OTHERS.items()
    }


# --- links and pictures ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "why"),
    [
        ('<a href="b.html#there">', ""),
        ('<a href="#here">', ""),
        ('<a href="https://example.org/x">', ""),
        ('<a href="c.html">', "c.html does not exist"),
        ('<a href="b.html#elsewhere">', "has no place 'elsewhere'"),
        ('<a href="https://nowhere">', "is not an address"),
        ('<script src="https://example.org/x.js">', "which is not in the pages"),
    ],
)
def test_a_dead_link_would_be_noticed(html: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f'<p id="here">{html}')
    (tmp_path / "b.html").write_text('<p id="there">')
    found = list(links.broken(tmp_path))
    assert len(found) == bool(why)
    assert all(why in line for line in found)


def test_every_picture_of_an_experiment_has_its_command() -> None:
    pages = [p for p in PAGES if p.parent.name == "experiments"]
    shown = [(page.name, p) for page in pages for p in gallery.pictures(page)]
    assert len(shown) > 15
    assert [f"{page}: {p.file}" for page, p in shown if not p.commands] == []


# --- formulas --------------------------------------------------------------------------------------


def test_formulas_are_mathml() -> None:
    pytest.importorskip("sphinx", reason="make docs brings Sphinx")
    from docutils.utils.math import MathError

    from mathml import mathml

    assert mathml(r"\gamma(n) = 2^{-53}", block=False).startswith("<math")
    with pytest.raises(MathError, match="Unknown LaTeX command"):
        mathml(r"\nosuch", block=False)

"""The pages are done word for word: their commands, their files, their Python."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from fences import blocks, follow, script
from tests.lenses import MODULES

DOCS = Path(__file__).parents[2] / "docs"
FOLLOWED = sorted(
    page.relative_to(DOCS).as_posix()
    for page in [DOCS / "tutorial.md", *DOCS.glob("howto/*.md"), *DOCS.glob("mathematics/*.md")]
    if any(block.kind in ("sh", "python") for block in blocks(page))
)


@pytest.mark.parametrize("page", FOLLOWED)
def test_what_a_page_says_can_be_done(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fakes take the places of libraries that are not installed."""
    monkeypatch.chdir(tmp_path)
    for name, module in MODULES.items():
        if find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, module)
    follow(DOCS / page, {"__name__": "session"})


def test_the_tutorial_is_followed() -> None:
    assert "tutorial.md" in FOLLOWED


def test_a_page_that_fails_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nx = 1\n```\n\nand\n\n```python\nassert x == 2\n```\n")
    with pytest.raises(AssertionError):
        follow(page, {})
    page.write_text("# A page\n\n```sh\npolykern layers no-such-model\n```\n")
    with pytest.raises(AssertionError, match=r"page.md:3: polykern layers no-such-model"):
        follow(page, {})
    page.write_text("# A page\n\n```sh\nrm -r .\n```\n")
    with pytest.raises(AssertionError, match="rm is no command of polykern"):
        follow(page, {})


def test_a_page_becomes_a_script(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    file = "```{code-block} python\n:caption: m.py\n\nx = 1\n```\n"
    text = f"# A page\n\n{file}\n```sh\ncd a\n```\n\n```python\ny\n```\n"
    page.write_text(text)
    assert [b.kind for b in blocks(page)] == ["file", "sh", "python"]
    assert script(page) == "set -e\ncat > m.py <<'END'\nx = 1\nEND\ncd a\n\npython - <<'END'\ny\nEND\n"

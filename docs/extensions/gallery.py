"""The gallery: every picture of the pages, beside the commands that made it, read off the pages themselves."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PICTURE = re.compile(r"!\[(?P<what>[^\]]*)\]\((?P<file>[^)]+\.png)\)")
SHOWN = re.compile(r"(?:^(?: {4}.*)\n)+", re.MULTILINE)
FENCED = re.compile(r"^```sh\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    file      from the page's folder
    what      it shows, in words
    commands  lines of the last block of commands above it, or the first below; () where the page has none
    """

    file: str
    what: str
    commands: tuple[str, ...]


def pictures(page: Path) -> Iterator[Picture]:
    """The pictures of a page in Markdown."""
    text = page.read_text(encoding="utf-8")
    found = [(m.start(), m[0]) for m in SHOWN.finditer(text) if "polykern" in m[0]]
    found += [(m.start(), m["body"]) for m in FENCED.finditer(text)]
    for picture in PICTURE.finditer(text):
        above = [body for at, body in sorted(found) if at < picture.start()]
        below = [body for at, body in sorted(found) if at > picture.start()]
        body = (above[-1:] or below[:1] or [""])[0]
        lines = tuple(line.removeprefix("    ") for line in body.splitlines())
        yield Picture(picture["file"], picture["what"], lines)


def write(docs: Path, out: Path) -> None:
    """Write the gallery of the experiments and of the tutorial.

    docs  folder of the pages
    out   the file, one folder below
    """
    lines = ["# Gallery", "", "Every picture with the commands that made it. What it says, its page says.", ""]
    for page in (docs / "tutorial.md", *sorted(docs.glob("experiments/*.md"))):
        for number, picture in enumerate(pictures(page)):
            if number == 0:
                title = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
                lines += [f"## {title[1] if title else page.stem}", ""]
            folder = page.parent.relative_to(docs)
            file, link = Path("..") / folder / picture.file, Path("..") / page.relative_to(docs)
            lines += [f"![{picture.what}]({file.as_posix()})", ""]
            lines += ["```text", *picture.commands, "```", ""] if picture.commands else []
            lines += [f"[The page]({link.as_posix()})", ""]
    out.parent.mkdir(parents=True, exist_ok=True)
    text = "\n".join(lines)
    if not out.exists() or out.read_text(encoding="utf-8") != text:
        out.write_text(text, encoding="utf-8")

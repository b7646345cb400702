"""Every link of the finished pages: inside it must lead somewhere, anchors too; outside it must be well formed."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "source": "src", "link": "href", "iframe": "src"}


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Read one element."""
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])


def broken(folder: Path) -> Iterator[str]:
    """A line for each link of the pages below a folder that leads nowhere, and for each that a page would fetch."""
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    for path, page in pages.items():
        shown = path.relative_to(folder.resolve())
        for link in page.loaded:
            if urlsplit(link).scheme not in ("", "data") or link.startswith("//"):
                yield f"{shown}: loads {link}, which is not in the pages"
        for link in [*page.links, *page.loaded]:
            if why := wrong(link, path, pages):
                yield f"{shown}: {link} {why}"


def wrong(link: str, path: Path, pages: dict[Path, Page]) -> str:
    """Why a link on the page at `path` leads nowhere; "" where it does."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        return "" if "." in parts.netloc and " " not in link else "is not an address"
    if parts.scheme or link.startswith("//"):
        return "" if parts.scheme in ("data", "mailto") else "is neither a page nor an address"
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.exists():
        return "does not exist"
    anchor = unquote(parts.fragment)
    if anchor and target in pages and anchor not in pages[target].anchors:
        return f"has no place {anchor!r}"
    return ""

"""Reports of clusterings to test: made; pages with parts: read back without a browser, and opened in one."""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.clustering.result import Clusters
from polykern.store import Store
from tests.engine import clustered

KINDS = {"i4": np.int32, "u4": np.uint32, "f4": np.float32}


def planted(n: int = 240, noise: float = 0.25, groups: Sequence[float] = (0.5, 0.3, 0.2)) -> NDArray[np.int64]:
    """Labels of a few clusters, numbered by decreasing size, with noise."""
    rng = np.random.default_rng(7)
    found = rng.choice(len(groups), n, p=groups)
    found[rng.random(n) < noise] = -1
    return found


def made(root: Path, labels: NDArray[np.int64], *, model: str = "net", **more: Any) -> tuple[Clusters, Store]:
    """A store with a clustering beside it."""
    of = clustered.store(root / "a.codes", len(labels), groups=labels + 1, **more)
    return clustered.clustering(root / "a.clusters", of, labels, model=model), of


def part(folder: Path, key: str) -> Any:
    """What a part holds, unpacked as the page does it."""
    text = (folder / "data" / f"{key}.js").read_text(encoding="ascii")
    name, head, packed = json.loads(text.removeprefix("polykern.part(").removesuffix(");\n"))
    assert name == key
    data = base64.b64decode(packed)
    if isinstance(head, str):
        return head, data
    plain = zlib.decompress(data)
    if head is None:
        return json.loads(plain)
    columns, at = {}, 0
    for column, kind, n in head:
        planes = np.frombuffer(plain, np.uint8, 4 * n, at).reshape(4, n)
        columns[column] = np.ascontiguousarray(planes.T).view(KINDS[kind]).ravel()
        at += 4 * n
    assert at == len(plain)
    return columns


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def records(folder: Path) -> list[dict[str, Any]]:
    """The exported records."""
    with gzip.open(folder / "export" / "clusters.jsonl.gz", "rt", encoding="ascii") as lines:
        return [json.loads(line) for line in lines]


def embedded(folder: Path) -> dict[str, Any]:
    """The data block of the page."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


class Opened:
    """A page, what it asked for and what it complained about."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.troubles: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("console", lambda m: self.troubles.append(m.text))
        page.on("pageerror", lambda e: self.troubles.append(str(e)))
        page.on("dialog", self.interrupted)

    def interrupted(self, dialog: Any) -> None:
        self.troubles.append("dialog")
        dialog.dismiss()

    def open(self, page: Path, address: str = "") -> None:
        self.page.goto(page.resolve().as_uri() + address)
        self.settle()

    def go(self, address: str) -> None:
        """Another address on the same page."""
        self.page.evaluate("(a) => { location.hash = a; }", address)
        self.page.evaluate("() => new Promise((done) => setTimeout(done))")
        self.settle()

    def settle(self) -> None:
        """Until everything that was asked for is here and drawn."""
        self.page.wait_for_selector("main[aria-busy=false]")
        self.page.evaluate(
            """async () => {
              for (let k = 0; k < 3; k++) {
                await polykern.settled();
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
              }
            }"""
        )

    def heading(self, text: str) -> None:
        """Wait for a heading that begins so."""
        self.page.wait_for_selector(f"h1:text-matches('^{text}')")
        self.settle()

    def texts(self, selector: str) -> list[str]:
        found: list[str] = self.page.evaluate(
            "(s) => [...document.querySelectorAll(s)].map((e) => e.textContent)", selector
        )
        return found

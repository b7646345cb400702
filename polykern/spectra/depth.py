"""The figure of exponents over the blocks of a network: what each block gives or takes is a line."""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from polykern.report import charts, figures
from polykern.report.script import visible
from polykern.selectors import BLOCK
from polykern.spectra import powerlaw
from polykern.spectra.result import CODES

if TYPE_CHECKING:
    from polykern.spectra.result import Spectra, Spectrum

_SITE = re.compile(r"(?:(output|input):)?(.*)")


class Place(NamedTuple):
    """Where a site is: which of the things that a block has, and in which block."""

    what: str
    block: int


def place_of(name: str) -> Place | None:
    """The place of a site by its name; None where the name has no numbered block.

    output:layers.3 -> ("block, output", 3); encoder.layer.3.intermediate (codes) -> ("intermediate (codes)", 3)
    """
    bare = name.removesuffix(f" ({CODES})")
    found = _SITE.fullmatch(bare)
    block = BLOCK.search(found[2]) if found else None
    if found is None or block is None:
        return None
    said = ", ".join(word for word in (block[2] or "block", found[1]) if word)
    return Place(said + name[len(bare) :], int(block[1]))


def has_depth(found: "Spectra") -> bool:
    """Whether every site lies in a numbered block, and some in different ones."""
    places = [place_of(name) for name in found.sites]
    return None not in places and len({p.block for p in places if p is not None}) > 1


def exponents(sheet: Any, found: "Spectra") -> None:
    """alpha with its interval by block, a line for each thing that blocks have; effective ranks beside it."""
    left, right = charts.panels(
        sheet, ["exponent alpha over the fitted ranks", "effective rank, as a share of the width"], columns=2,
        heading=f"Spectra by block: {found.about['model']['name']}",
        subtitle=_rows(found),
        note="bands: 95% jackknife intervals over groups of documents; hollow: below ten rows a column, biased",
    )  # fmt: skip
    lines: dict[str, list[tuple[int, Spectrum]]] = {}
    for name, site in found.sites.items():
        if (place := place_of(name)) is not None:
            lines.setdefault(place.what, []).append((place.block, site))
    for k, (what, many) in enumerate(lines.items()):
        many.sort(key=lambda pair: pair[0])
        colour = charts.PALETTE[k % len(charts.PALETTE)]
        blocks = [block for block, _ in many]
        value, low, high = ([getattr(s.interval, end) for _, s in many] for end in ("value", "low", "high"))
        windows = sorted({(s.fit.first, s.fit.last) for _, s in many}, key=lambda w: w[1])
        ranks = f"{windows[0][0]}-{windows[0][1]}" + (f" to {windows[-1][1]}" if len(windows) > 1 else "")
        charts.line(left, blocks, value, low=low, high=high, colour=colour, label=f"{what}; ranks {ranks}")
        for enough, face in ((True, colour), (False, "white")):
            some = [(b, s.interval.value) for b, s in many if s.enough is enough]
            if some:
                left.plot(*zip(*some, strict=True), "o", ms=4.5, mec=colour, mfc=face)
        charts.line(
            right, blocks, [s.effective_rank / len(s.values) for _, s in many], colour=colour, marker="o", ms=4
        )
    if found.dimension is not None:
        bound = powerlaw.critical(found.dimension)
        left.axhline(bound, color=figures.QUIET, lw=1, ls="--", label=f"1 + 2/d, d = {found.dimension:g}")
    low_y, high_y = left.get_ylim()
    left.set_ylim(low_y, high_y + 0.22 * (high_y - low_y))  # room for the legend
    charts.named(left, "block", "alpha")
    charts.named(right, "block", "exp(entropy of the eigenvalues) / width")
    right.set_ylim(bottom=0)
    charts.legend(left, loc="upper left", fontsize=8.5)
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)


def _rows(found: "Spectra") -> str:
    sites = found.sites.values()
    rows, documents = max(s.rows for s in sites), max(s.documents for s in sites)
    width = sorted({len(s.values) for s in sites})
    return f"{rows:,} rows of {documents:,} documents; {visible(' and '.join(map(str, width)))} columns"

"""What the commands of experiments share: options, the folder they write, how they say what they found."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from polykern.cli import options
from polykern.cli.talk import Talk

if TYPE_CHECKING:
    from polykern.findings import Findings

RESULT = "polykern-findings/1"

Out = Annotated[Path, options.option("--out", env="OUT", metavar="DIR", help="Folder of the result.")]
Exact = Annotated[
    bool | None,
    options.option("--exact/--sampled", panel=options.HOW, metavar="",
                   help="List every crossing, or only see samples. Default: exact up to 32,768 bits."),
]  # fmt: skip
Follow = Annotated[
    bool | None,
    options.option("--classes/--no-classes", panel=options.HOW, metavar="",
                   help="Follow the class of the output. Default: where the model or its images name classes."),
]  # fmt: skip


def require_free(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, before anything is computed for it."""
    from polykern import findings

    findings.require_free(out, overwrite=overwrite)


def tell(
    talk: Talk,
    found: "Findings",
    out: Path,
    rows: list[tuple[str, ...]],
    *,
    overwrite: bool,
    figures: bool,
    page: Callable[[Path], Path] | None = None,
) -> None:
    """Write the folder of the findings and put the result on stdout; of several processes the first does.

    rows  the headline numbers, as a person reads them; the folder and its files are added
    page  writes pages to explore into the folder, and gives the one to open
    """
    if not talk.first:
        return
    from polykern.findings import finite

    talk.say("writing", "debug")
    files = [p.name for p in found.save(out, overwrite=overwrite, pictures=figures)]
    whole: dict[str, Any] = {"schema": RESULT, "folder": str(out), "files": files, "found": finite(found.summary())}
    last = [("folder", str(out)), ("files", " ".join(files))]
    if page is not None:
        whole["page"] = str(page(out))
        last.append(("open", whole["page"]))
    talk.result([*rows, *last], whole)

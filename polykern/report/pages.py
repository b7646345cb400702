"""Pages that open from a disk: a template, its assets and its data, put into a folder that appears whole."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from polykern.errors import UsageError

PAGE = "index.html"


def files(
    packages: Sequence[str], scripts: Sequence[str], styles: Sequence[str], data: str, **values: Any
) -> dict[str, bytes]:
    """The files of a page by name: index.html and what it loads.

    packages  whose `assets` hold index.html.j2, the scripts and the styles; the first that has a file gives it
    scripts   names of files, in the order the page loads them
    styles    names of files, likewise
    data      of `json_for_script`; the page holds it in a script element
    values    of the template; they are escaped
    """
    from jinja2 import Environment, StrictUndefined

    found = {name: _asset(packages, name) for name in (*scripts, *styles)}
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _asset(packages, f"{PAGE}.j2").decode("utf-8")
    )
    # no text in the page can hold a digest of the page it is in
    nonce = hashlib.sha256(data.encode()).hexdigest()[:32]
    page = template.render(scripts=scripts, nonce=nonce, data=data, **values)
    return found | {PAGE: page.encode("utf-8", errors="replace")}


def render(folder: Path, package: str, scripts: Sequence[str], style: str, data: str, **values: Any) -> None:
    """Write index.html and what it loads into a folder; arguments as for `files`, of one package with one style."""
    for name, content in files([package], scripts, [style], data, **values).items():
        (folder / name).write_bytes(content)


def require_place(target: Path, what: str, mark: str = PAGE) -> None:
    """Raise UsageError where a folder holds something else, so that no page can take its place.

    target  folder of the page; none, or an empty one, will do
    what    will be there, in words
    mark    a file that tells a page of this kind
    """
    if target.exists() and not (target / mark).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} holds something other than {what}", fix="name another folder")


def replace(target: Path, prefix: str, fill: Callable[[Path], None]) -> Path:
    """Fill a folder beside the target and put it in the target's place; the page in it.

    prefix  of the temporary folder's name

    Whatever goes wrong, the target is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        fill(temporary)
        mask = os.umask(0)  # a temporary folder is private; a finished one follows the umask
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        _exchange(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target / PAGE


def _exchange(fresh: Path, target: Path) -> None:
    """Put a folder in the target's place; what was there goes last, and comes back when that fails."""
    if not target.exists():
        fresh.rename(target)
        return
    aside = fresh.with_name(f"{fresh.name}.old")
    target.rename(aside)
    try:
        fresh.rename(target)
    except BaseException:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _asset(packages: Sequence[str], name: str) -> bytes:
    places = (resources.files(package) / "assets" / name for package in packages)
    return next(place for place in places if place.is_file()).read_bytes()

"""Pages that open from a disk: a template, its assets and its data, put into a folder that appears whole."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

PAGE = "index.html"


def render(folder: Path, package: str, scripts: Sequence[str], style: str, data: str, **values: Any) -> None:
    """Write index.html and what it loads into a folder.

    package  whose `assets` hold index.html.j2, the scripts and the style
    scripts  names of files, in the order the page loads them
    style    name of a file
    data     of `json_for_script`; the page holds it in a script element
    values   of the template; they are escaped
    """
    from jinja2 import Environment, StrictUndefined

    assets = resources.files(package) / "assets"
    for name in (*scripts, style):
        (folder / name).write_bytes((assets / name).read_bytes())
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        (assets / f"{PAGE}.j2").read_text(encoding="utf-8")
    )
    # no text in the page can hold a digest of the page it is in
    nonce = hashlib.sha256(data.encode()).hexdigest()[:32]
    page = template.render(scripts=scripts, nonce=nonce, data=data, **values)
    (folder / PAGE).write_text(page, encoding="utf-8", errors="replace")


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
        if target.exists():
            shutil.rmtree(target)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target / PAGE

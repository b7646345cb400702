"""The photos that a report shows, made small and encoded anew, so that only pixels come along."""

import io
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from polykern.report.clusters import parts
from polykern.report.clusters.source import Source

SIDE = 224  # px, the longer side of a photo as it is kept
SMALL = 64  # px: up to here nothing is lost
FOLDER = 1000  # photos a folder
MOST = 1 << 26  # pixels of a photo: more are not opened


def key(doc: int) -> str:
    """Name of the part that holds a photo."""
    return f"photos/{doc // FOLDER}/{doc}"


def write(source: Source, docs: Iterable[int], folder: Path, progress: Callable[[str, int, int], None]) -> None:
    """A part for every photo.

    source    with a store of images
    docs      which photos
    folder    of the page's data
    progress  called with the photos that are done

    Photos that cannot be read are left out; the page says so where they would stand.
    """
    wanted = sorted(set(docs))
    for done, doc in enumerate(wanted, 1):
        found = small(source.store.image(doc))
        if found is not None:
            parts.write_bytes(folder, key(doc), *found)
        progress("photos", done, len(wanted))


def small(data: bytes) -> tuple[str, bytes] | None:
    """A photo at most SIDE px long and what it is, image/png or image/jpeg; None for what is no picture."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file:
                if file.width * file.height > MOST:
                    return None
                picture = file.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    out = io.BytesIO()
    if max(picture.size) <= SMALL:
        picture.save(out, format="PNG", optimize=True)
        return "image/png", out.getvalue()
    picture.thumbnail((SIDE, SIDE))
    picture.save(out, format="JPEG", quality=85)
    return "image/jpeg", out.getvalue()

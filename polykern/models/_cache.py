"""Weights made once and kept in the user's cache folder, checked whenever they are read."""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from polykern.caches import folder
from polykern.models.subject import digest

FORMAT = "polykern-weights/1"
DOWNLOAD = "POLYKERN_DOWNLOAD"  # set to 1, trained weights that are missing are fetched
log = logging.getLogger("polykern.models")

State = dict[str, Tensor]


def cached(name: str, make: Callable[[], State]) -> State:
    """The weights kept as NAME.safetensors, or those `make` gives, which are then kept.

    name  file name without its ending; holds whatever the weights depend on (recipe, seed)
    make  makes the weights anew: name -> CPU tensor

    A damaged file costs one warning line and is made anew; a folder that cannot be written costs one as well.
    """
    path = folder() / f"{name}.safetensors"
    if path.exists():
        try:
            return _read(path)
        except Exception as error:
            log.warning("%s is damaged (%s): it is made anew", path, _first_line(error))
    state = make()
    try:
        _write(path, state)
    except OSError as error:
        log.warning("%s cannot be kept (%s): it will be made again next time", path, _first_line(error))
    return state


def _read(path: Path) -> State:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        meta = file.metadata() or {}
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if meta.get("format") != FORMAT:
        raise ValueError(f"its format is {meta.get('format')}, not {FORMAT}")
    if meta.get("sha256") != digest(state):
        raise ValueError("its weights do not have the hash written beside them")
    return state


def _write(path: Path, state: State) -> None:
    from safetensors.torch import save

    data = save(state, metadata={"format": FORMAT, "sha256": digest(state)})
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

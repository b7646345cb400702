"""What a long clustering has reached so far, kept in its folder so that an interrupted run goes on from there.

`progress.json` says whose run it is; `work/STAGE.safetensors` holds the arrays of a finished stage and a digest of
them. Each is there whole or not at all. A folder of another run is refused. What a stage left is a function of the
run's configuration, so a run that goes on ends with the same clusters.
"""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polykern.clustering.result import ABOUT, FILES
from polykern.errors import CorruptError, MismatchError, UsageError
from polykern.store.disk import TEMPORARY, leftovers, make_folder, put, remove, told
from polykern.store.lease import NAME as LEASE
from polykern.store.lease import Lease
from polykern.store.sealed import digest, sealed, unsealed

PROGRESS, WORK, SWEEP, REPORT = "progress.json", "work", "sweep.json", "report"
ONE_OF_SEVERAL = "size-{size}-samples-{samples}"  # the folder of one of several clusterings


class Work:
    """The folder of a clustering while it is made. One process at a time; `close` gives it back.

    root       made when missing
    config     what determines the result
    overwrite  drop what another run left

    Errors: MismatchError naming the fields in which a run that is there differs, or when the folder holds something
    else; ResourceError when another process is at work in it.
    """

    def __init__(self, root: Path, config: Mapping[str, Any], *, overwrite: bool = False) -> None:
        if root.exists() and not root.is_dir():
            raise UsageError(f"{root} is not a folder")
        make_folder(root)
        self.root, self.config = root, dict(config)
        self._lease = Lease(root)
        try:
            self.finished = self._admitted(overwrite)
            remove([*leftovers(root), *leftovers(root / WORK)])
        except BaseException:
            self._lease.release()
            raise

    def load(self, stage: str) -> dict[str, NDArray[Any]] | None:
        """The arrays of a stage that was finished before; None when it was not, or its file is damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            data = self._path(stage).read_bytes()
            mark, body = data[:32].decode("ascii", "replace"), data[32:]
            return dict(load(body)) if digest(body) == mark else None
        except (FileNotFoundError, SafetensorError):
            return None

    def save(self, stage: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Keep the arrays of a finished stage."""
        from safetensors.numpy import save

        body = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        make_folder(self.root / WORK)
        put(self._path(stage), [digest(body).encode("ascii"), body])

    def finish(self) -> None:
        """Drop what only the making needed."""
        self._drop()
        remove([self.root / PROGRESS])

    def _drop(self) -> None:
        if (self.root / WORK).is_dir():
            remove((self.root / WORK).iterdir())
            with told(self.root / WORK):
                (self.root / WORK).rmdir()

    def close(self) -> None:
        """Give the folder back."""
        self._lease.release()

    def _path(self, stage: str) -> Path:
        return self.root / WORK / f"{stage}.safetensors"

    def _admitted(self, overwrite: bool) -> bool:
        """Whether the run was finished before; refuses a folder that holds something else."""
        held = next((p for p in (self.root / ABOUT, self.root / SWEEP, self.root / PROGRESS) if p.exists()), None)
        if held is not None and not overwrite:
            self._require_same(held)
            return held.name != PROGRESS
        theirs = [p for p in self.root.iterdir() if p.name != LEASE and not TEMPORARY.fullmatch(p.name)]
        if theirs and held is None:
            raise MismatchError(
                f"{self.root} is not empty and holds no clustering", fix="name another --out folder"
            )
        self._drop()  # stages of another run, before the folder is this one's
        put(self.root / PROGRESS, [sealed({"config": self.config})])
        if held is not None:
            remove([self.root / ABOUT, self.root / SWEEP])
            _forget_report(self.root)
            for folder in self.root.glob(ONE_OF_SEVERAL.format(size="*", samples="*")):
                _forget(folder)
        return False

    def _require_same(self, held: Path) -> None:
        try:
            theirs = unsealed(held.read_bytes()).get("config")
        except (OSError, ValueError) as reason:
            raise CorruptError(
                f"{held} cannot be read", why=str(reason), fix="--overwrite, or another folder"
            ) from None
        if not isinstance(theirs, dict):
            raise CorruptError(f"{held} is no clustering's", fix="name another --out folder")
        differs = [k for k in sorted({*theirs, *self.config}) if theirs.get(k) != self.config.get(k)]
        if differs:
            raise MismatchError(
                f"{self.root} holds another run's clusters",
                why="; ".join(f"{k}: {theirs.get(k)!r} there, {self.config.get(k)!r} here" for k in differs[:4]),
                fix="name another --out folder, or --overwrite",
            )


def _forget(folder: Path) -> None:
    """Remove one of several clusterings that are no more; what is not ours stays where it is."""
    if (folder / ABOUT).is_file():
        remove([folder / ABOUT, *(folder / f"{name}.safetensors" for name in FILES)])
        _forget_report(folder)
        with suppress(OSError):
            folder.rmdir()


def _forget_report(folder: Path) -> None:
    """Remove the pages about clusters that are no more, if they are pages of ours."""
    if (folder / REPORT / "report.json").is_file():
        remove([folder / REPORT / "report.json", folder / REPORT / "index.html"])
        shutil.rmtree(folder / REPORT, ignore_errors=True)

"""A made-up result of every kind that polykern writes, the same in every process, and what a reader makes of it."""

import json
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

import tests.store.synthetic as made_up
from polykern.errors import CorruptError, UsageError
from polykern.findings import Findings, Picture, Table
from polykern.verification import examine
from tests.engine.test_clusters_folder import about as clusters_about
from tests.engine.test_clusters_folder import parts as clusters_parts

PAGE = Path(__file__).parents[2] / "docs" / "FORMAT.md"


def printed(schema: str) -> dict[str, Any]:
    """The example of a schema in docs/FORMAT.md, without seal and inventory."""
    text = PAGE.read_text(encoding="utf-8").partition(f"## `{schema}`")[2]
    found = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert found
    whole: dict[str, Any] = json.loads(found[1])
    return {k: v for k, v in whole.items() if k not in ("check", "files")}


class Made(ABC):
    """A kind of result.

    resumes  whether the same command goes on with what a killed one left; else it begins again, with --overwrite
    """

    name: ClassVar[str]
    resumes: ClassVar[bool] = True

    @abstractmethod
    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        """Write the result, or finish it."""

    def contents(self, path: Path) -> dict[str, bytes]:
        """Every file of it."""
        return made_up.contents(path) if path.is_dir() else {}

    def committed(self, path: Path) -> dict[str, bytes] | None:
        """What a reader sees that finds it finished, after every byte was held against its digest; else None."""
        try:
            found = examine(path)
        except CorruptError:
            return None
        if not found.complete:
            return None
        assert found.problems == [], found.problems
        return {name: data for name, data in self.contents(path).items() if not name.endswith(".tmp")}


class Codes(Made):
    """A store; every shard of it is committed by itself."""

    name = "codes"

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        made_up.write(path, 2 + seed, overwrite=overwrite)

    def committed(self, path: Path) -> dict[str, bytes] | None:
        if not (path / "manifest.json").exists():
            return None
        found = examine(path)
        assert found.problems == [], found.problems
        from polykern.store import Store

        made_up.require_rows(Store.open(path).rows(), found.shards or 0)
        return super().committed(path)


class HeatMap(Made):
    """A map of 8 x 8 pixels in two bands."""

    name = "map"

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        from polykern.maps.folder import MapFolder, flush

        said = printed("polykern-heatmap/1")
        n, fields, height = said["plane"]["resolution"], len(said["model"]["layers"]), 4
        said["config"]["seed"] = said["seed"] = seed
        rng = np.random.default_rng(seed)
        right, down = (rng.integers(0, 9, (fields, n, n)).astype(np.int32) for _ in range(2))
        folder = MapFolder(path, said["config"], (n, fields), classes=True, overwrite=overwrite)
        if folder.finished:
            return
        if "engine" not in folder.state:
            folder.begin({"name": "float64"}, 1, 2)
        for row in range(0, n, height):
            rows = slice(row, row + height)
            seen = tuple(torch.from_numpy(rng.integers(0, 9, 5)) for _ in range(3))
            if row not in folder.bands:
                classes = np.full((height, n), row, np.int32)
                margin = np.full((height, n), 0.5, np.float32)
                folder.write(row, right[:, rows], down[:, rows], classes, margin, seen, row)  # type: ignore[arg-type]
        sightings, uncertain = folder.sightings()
        assert (len(sightings), uncertain) == (2, height)
        smoothed = folder.array("smoothed")
        smoothed[:] = seed
        flush(smoothed)
        folder.finish(said)


class Clusters(Made):
    """Ten rows in two clusters, with what is kept of the stages."""

    name = "clusters"

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        from polykern.clustering.result import write
        from polykern.clustering.work import Work

        work = Work(path, {"seed": seed}, overwrite=overwrite)
        try:
            if not work.finished:
                for stage in ("lists", "tree"):
                    kept = {"numbers": np.arange(5 + seed)}
                    held = work.load(stage)
                    assert held is None or np.array_equal(held["numbers"], kept["numbers"])
                    work.save(stage, kept)
                write(path, {**clusters_about(), "config": {"seed": seed}}, **clusters_parts())
            work.finish()
        finally:
            work.close()


class Partition(Made):
    """A window of two faces with one side between them."""

    name, resumes = "partition", False

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        from polykern.subdivision.columns import Files
        from polykern.subdivision.front import Faces

        corner = np.array([[0, 0], [1, 0], [0, 1], [1, 0], [1, 1], [0, 1]], np.float64)
        found = Faces(
            np.array([0, 3, 6]), corner, np.full(2, 0.5), np.array([[1, 2], [3, 4 + seed]]),
            np.array([-1, 0], np.int32), np.array([[0, 1]]), np.array([[[1.0, 0], [0, 1]]]), np.zeros(1, np.int32),
        )  # fmt: skip
        layers = [{"module": "0", "call": 0, "kind": "relu", "bits": 4}]
        said = {
            "schema": "polykern-partition/1", "model": {"name": "made up"}, "layers": layers, "window": [0, 0, 1],
            "complete": True, "covered": 1.0, "faces": 2, "seed": seed,
        }  # fmt: skip
        with Files(path, overwrite=overwrite) as files:
            files.add(found)
            files.close()
            files.finish(np.eye(3), said)


class Lengths(Findings):
    """Of a made-up experiment."""

    SCHEMA: ClassVar[str] = "polykern-lengths/1"

    def numbers(self) -> dict[str, Any]:
        return {"mean": 1 / 3, "none": float("nan")}

    def tables(self) -> dict[str, Table]:
        return {"lengths": {"k": np.arange(5), "x": np.arange(5) / 3 + self.about["seed"]}, "empty": {"k": []}}

    def pictures(self) -> dict[str, Picture]:
        return {"lengths": Picture(40, 30, lambda figure: figure.text(0.1, 0.5, "x"))}


class Experiment(Made):
    """The folder of findings."""

    name, resumes = "findings", False

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        Lengths({"model": {"name": "made up"}, "seed": seed}).save(path, overwrite=overwrite)


def embeddings(seed: int = 0) -> Any:
    """Those of three neurons with two examples each."""
    from polykern.neurons import Embeddings, Features
    from polykern.neurons.result import Layer

    n, k, c = 3, 2, 3
    features = Features(
        np.zeros((n, k), np.int32), np.full(n, k), np.ones(n, np.int64), np.ones((n, 6), np.int64),
        np.full((n, 4), 0.5), np.stack([np.arange(c), np.zeros(c, np.int64), np.zeros(c, np.int64)], 1),
        np.full(c, k),
    )  # fmt: skip
    row = np.array([[0, 3], [1, 4], [2, 5]])
    layer = Layer(
        "encoder.0", np.full((n, k), 2.0, np.float32), np.full((n, k), 2.0 + seed, np.float32), row,
        np.zeros((n, k, 31), np.float16), features, np.full((c, 20), -1), np.zeros((c, 20), np.float32),
    )  # fmt: skip
    said = {
        "model": {"name": "made up", "weights": "00", "note": ""}, "seed": seed,
        "settings": {"tokens": 6, "cut": 0.2}, "versions": {"polykern": "0"},
    }  # fmt: skip
    return Embeddings(said, [layer], np.arange(6, dtype=np.int32), list("abcdef"), np.array([0, 3]))


class Neurons(Made):
    """The folder of embeddings."""

    name, resumes = "embeddings", False

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        embeddings(seed).save(path, overwrite=overwrite, pictures=False)


class Explorer(Made):
    """The pages of embeddings, which take the place of others as a whole."""

    name, resumes = "explorer", False

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        from polykern.neurons.explorer import write

        if path.exists() and not overwrite:
            raise UsageError("there is one")
        write(embeddings(seed), path)


class Bench(Made):
    """The file of a bench."""

    name, resumes = "bench", False

    def write(self, path: Path, seed: int = 0, *, overwrite: bool = False) -> None:
        from polykern_benches import _document

        said = printed("polykern-bench/1")
        said["ceilings"]["copy"] = float(seed)
        _document.write(path / "run.json", said)

    def contents(self, path: Path) -> dict[str, bytes]:
        return {n: b for n, b in super().contents(path).items() if not n.endswith(".tmp")}

    def committed(self, path: Path) -> dict[str, bytes] | None:
        from polykern_benches import _document

        if not (path / "run.json").exists():
            return None
        _document.read(path / "run.json")
        return self.contents(path)


EVERY: dict[str, Made] = {
    made.name: made
    for made in (Codes(), HeatMap(), Clusters(), Partition(), Experiment(), Neurons(), Explorer(), Bench())
}

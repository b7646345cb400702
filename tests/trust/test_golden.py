"""Results that earlier versions wrote open forever: tests/golden holds one of every schema, never written again.

`python -m tests.trust.test_golden` writes the folders that are missing, for a schema that is new.
"""

from pathlib import Path

import pytest

from polykern.verification import examine
from tests.trust.ledger import trial
from tests.trust.writers import EVERY

GOLDEN = Path(__file__).parents[1] / "golden"
KEPT = {
    "map": "polykern-heatmap-1",
    "clusters": "polykern-clusters-1",
    "partition": "polykern-partition-1",
    "findings": "findings-1",
    "embeddings": "polykern-embeddings-1",
    "bench": "polykern-bench-1",
}


@pytest.mark.parametrize("name", KEPT)
def test_it_opens_and_every_byte_agrees(name: str) -> None:
    with trial("R12 formats: old results open"):
        assert EVERY[name].committed(GOLDEN / KEPT[name])


@pytest.mark.parametrize("name", [n for n in KEPT if n != "bench"])
def test_verify_knows_it(name: str) -> None:
    found = examine(GOLDEN / KEPT[name])
    assert (found.problems, found.hashed, found.complete) == ([], True, True)
    assert found.bytes > 0


def test_what_they_hold() -> None:
    """Numbers that were read when they were written."""
    from polykern.clustering.result import Clusters
    from polykern.maps.result import HeatMap
    from polykern.neurons import Embeddings
    from polykern.subdivision import Partition
    from polykern_benches import _document

    heat = HeatMap.open(GOLDEN / KEPT["map"])
    assert (heat.resolution, heat.fields, int(heat.counts.sum())) == (8, ("hidden", "narrow"), 819)
    clusters = Clusters.open(GOLDEN / KEPT["clusters"], verify=True)
    assert clusters.labels.tolist() == [0, 1, 0, -1, 1, 0, 0, 1, -1, 0]
    partition = Partition.open(GOLDEN / KEPT["partition"])
    assert (len(partition), partition.area.tolist(), partition.face_at(0.9, 0.9)) == (2, [0.5, 0.5], 1)
    neurons = Embeddings.open(GOLDEN / KEPT["embeddings"])
    assert (neurons.context(4), len(neurons.layers)) == ((["d", "e", "f"], 1), 1)
    assert _document.read(GOLDEN / KEPT["bench"] / "run.json")["results"][0]["median_ms"] == 51.5


if __name__ == "__main__":
    for name, folder in KEPT.items():
        if not (GOLDEN / folder).exists():
            EVERY[name].write(GOLDEN / folder)

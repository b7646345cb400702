"""The report of a clustering: every number against brute force, what it writes and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polykern.clustering.compute import cluster
from polykern.report import clusters as report
from polykern.report.clusters import bits, examples, near, parts, tokens
from polykern.report.clusters.source import Source
from tests.engine import clustered, stores
from tests.engine.reported import contents, embedded, made, part, planted, records


def test_the_numbers_of_every_cluster(tmp_path: Path) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    report.write(result, of, tmp_path / "out")
    codes = of.rows().codes
    ones = codes.bits().numpy()
    token = of.column("token")
    medoids = result.members["medoid"]
    apart = codes.distances().numpy()
    found = records(tmp_path / "out")
    assert [r["c"] for r in found] == list(range(result.count))
    for c, record in enumerate(found):
        mine = labels == c
        p, q = ones[mine].mean(0), ones[~mine].mean(0)
        best = np.argsort(-np.abs(p - q), kind="stable")[:16]
        assert [b for b, _, _ in record["bits"]] == best.tolist()
        assert [v for _, *v in record["bits"]] == [pytest.approx([p[b], q[b]], rel=1e-5) for b in best]
        for field, layer in zip(of.layout.fields, record["layers"], strict=True):
            here = slice(field.offset, field.offset + field.bits)
            fixed = int((p[here] == p[here].round()).sum())
            wanted = [p[here].mean(), q[here].mean(), np.abs(p - q)[here].mean(), fixed]
            assert layer == pytest.approx(wanted, rel=1e-5)
        assert record["size"] == mine.sum()
        assert record["max"] == apart[medoids[c]][mine].max()
        assert record["mean"] == pytest.approx(apart[medoids[c]][mine].mean(), rel=1e-5)
        ids, many = np.unique(token[mine], return_counts=True)
        assert sorted((i, n) for i, _, n in record["tokens"]) == list(zip(ids, many, strict=True))
        assert all(clustered.WORDS[i] == text for i, text, _ in record["tokens"])
        share = many / many.sum()
        assert record["entropy"] == pytest.approx(-(share * np.log2(share)).sum(), rel=1e-5)
        others = sorted((apart[medoids[c], medoids[k]], k) for k in range(result.count) if k != c)
        assert [(d, k) for k, d in record["near"]] == others[:8]


def test_the_examples_stand_in_their_context(tmp_path: Path) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    report.write(result, of, tmp_path / "out", examples=5, context=7)
    for record in records(tmp_path / "out"):
        assert set(record["groups"]) == {"nearest", "random", "boundary"}
        for group in record["groups"].values():
            assert len(group) == 5
            for one in group:
                assert labels[one["row"]] == record["c"]
                told = of.context(one["row"], before=7, after=7)
                assert (one["tokens"], one["at"]) == (told.pieces, told.at)
                assert one["d"] == result.members["distance"][one["row"]]


def test_which_examples(tmp_path: Path) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    source = Source(result, of, 6, 20, 3)
    groups = examples.chosen(source, 0)
    members = np.flatnonzero(labels == 0)
    away, sure = result.members["distance"][members], result.points["probability"][members]
    assert groups["nearest"].tolist() == members[np.lexsort((members, away))][:6].tolist()
    assert groups["boundary"].tolist() == members[np.lexsort((members, -away, sure))][:6].tolist()
    assert len(set(groups["random"])) == 6
    assert set(groups["random"]) <= set(members)
    assert groups["random"].tolist() == examples.chosen(source, 0)["random"].tolist()
    assert groups["random"].tolist() != examples.chosen(Source(result, of, 6, 20, 4), 0)["random"].tolist()
    whole = examples.chosen(Source(result, of, 60, 20, 3), 2)
    assert {k: sorted(v) for k, v in whole.items()} == {"all": np.flatnonzero(labels == 2).tolist()}
    lost = np.flatnonzero(labels < 0)
    outlying = lost[np.lexsort((lost, -result.points["outlier_score"][lost]))][:6]
    assert examples.chosen(source, -1)["outlying"].tolist() == outlying.tolist()


@pytest.mark.parametrize("piece", [1 << 20, 7])
def test_the_postings(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = planted()
    result, of = made(tmp_path, labels)
    monkeypatch.setattr(tokens, "PIECE", piece)
    monkeypatch.setattr(tokens, "BATCH", 10 * piece)
    report.write(result, of, tmp_path / "out")
    found = part(tmp_path / "out", "tokens/0")
    assert [p["k"] for p in found] == sorted(p["k"] for p in found)
    assert {p["t"]: p["k"] for p in found} == {w: w.strip().lower() or w for w in clustered.WORDS}
    token = of.column("token")
    for posting in found:
        here = labels[token == posting["id"]]
        assert posting["t"] == clustered.WORDS[posting["id"]]
        assert (posting["n"], posting["noise"]) == (len(here), (here < 0).sum())
        clusters, many = np.unique(here[here >= 0], return_counts=True)
        assert posting["c"] == len(clusters)
        pairs = sorted(zip(clusters, many, strict=True), key=lambda pair: (-pair[1], pair[0]))
        assert [tuple(pair) for pair in posting["top"]] == pairs


def test_shards_of_postings_are_found_by_their_first_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.Chunks.__init__, "__defaults__", (64,))
    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "out")
    firsts = embedded(tmp_path / "out")["shards"]
    assert len(firsts) == len(clustered.WORDS)
    assert firsts == [part(tmp_path / "out", f"tokens/{k}")[0]["k"] for k in range(len(firsts))]


def test_the_tree(tmp_path: Path) -> None:
    labels = planted(400, groups=(0.3, 0.25, 0.2, 0.15, 0.1))
    result, of = made(tmp_path, labels)
    report.write(result, of, tmp_path / "out")
    tree = part(tmp_path / "out", "tree")
    assert tree["parent"].tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3]
    assert tree["label"].tolist() == [-1] * 4 + [0, 1, 2, 3, 4]
    assert tree["size"][4:].tolist() == result.members["size"].tolist()
    assert tree["size"][0] == 400
    assert tree["birth"].tolist() == [60, 40, 40, 38, 38, 38, 38, 36, 36]
    assert tree["death"].tolist() == [40, 38, 38, 36, 36, 36, 36, 34, 34]
    assert tree["left"][0] == (labels >= 0).sum()


def test_few_at_a_time_gives_the_same_bytes(tmp_path: Path) -> None:
    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "one")
    report.write(result, of, tmp_path / "two", memory=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    report.write(result.folder, None, tmp_path / "one", seed=1)  # from the folder, over the first
    assert contents(tmp_path / "one").keys() == contents(tmp_path / "two").keys()
    assert contents(tmp_path / "one") != contents(tmp_path / "two")


def test_the_columns(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    result, of = made(tmp_path, planted())
    report.write(result, of, tmp_path / "out")
    columns, found = load_file(tmp_path / "out" / "export" / "columns.safetensors"), records(tmp_path / "out")
    assert columns["size"].tolist() == [r["size"] for r in found]
    assert columns["bits"].tolist() == [[b for b, _, _ in r["bits"]] for r in found]
    assert columns["near"].tolist() == [[k for k, _ in r["near"]] for r in found]
    index = part(tmp_path / "out", "index")
    assert all(np.array_equal(index[k], columns[k].astype(index[k].dtype)) for k in index)
    assert set(index) == {"size", "persistence", "mean", "max", "share", "entropy"}


def test_the_nearest_by_the_metric_of_the_clustering(tmp_path: Path) -> None:
    labels = planted(groups=(0.4, 0.3, 0.2, 0.1))
    of = clustered.store(tmp_path / "a.codes", len(labels), groups=labels + 1)
    result = clustered.clustering(tmp_path / "a.clusters", of, labels, metric="jaccard")
    distances, indices = near.nearest(Source(result, of, 5, 5, 0))
    ones = of.rows(result.members["medoid"]).codes.bits().numpy()
    for c in range(4):
        wanted = sorted((1 - (ones[c] & ones[k]).sum() / (ones[c] | ones[k]).sum(), k) for k in range(4) if k != c)
        assert indices[c].tolist() == [k for _, k in wanted]
        assert distances[c] == pytest.approx([d for d, _ in wanted])


def test_the_nearest_by_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    points[7] = points[3]
    wide = np.linalg.norm(points[:, None].astype(np.float64) - points, axis=-1)
    wanted = [[k for _, k in sorted((wide[i, k], k) for k in range(30) if k != i)[:4]] for i in range(30)]
    for block in (1 << 24, 1, 70):
        monkeypatch.setattr(near, "BLOCK", block)
        distances, indices = near._euclidean(torch.from_numpy(points), 4)
        assert indices.tolist() == wanted
        assert np.allclose(distances, np.take_along_axis(wide, indices, 1), rtol=1e-12)


@pytest.mark.parametrize(("metric", "norm"), [("euclidean", 1.0), ("cosine", 5.0)])
def test_medoids_of_activations_are_compared_as_they_were_clustered(
    tmp_path: Path, metric: str, norm: float
) -> None:
    bits, _ = stores.planted(300)
    of = stores.written(tmp_path / "a.codes", bits, activations=("body.0",))  # rows of norm 5
    (result,) = cluster(
        of, tmp_path / "out", activations="body.0", metric=metric, min_cluster_size=12, min_samples=4
    )
    distances, indices = near.nearest(Source(result, of, 5, 5, 0))
    medoids = bits[result.members["medoid"], :100].astype(float)
    apart = np.linalg.norm(medoids[:, None] - medoids, axis=-1) / norm
    assert distances == pytest.approx(np.take_along_axis(apart, indices, 1), rel=1e-6)


def test_codes_of_some_layers_alone(tmp_path: Path) -> None:
    """Distances are those of the layers that were clustered; all layers are told."""
    result, of = made(tmp_path, planted())
    result.about["store"]["fields"] = [of.layout.fields[1].name]
    report.write(result, of, tmp_path / "out")
    medoids = of.rows(result.members["medoid"], [of.layout.fields[1].name]).codes
    apart = medoids.distances().numpy()
    found = records(tmp_path / "out")
    assert [sorted(r["near"]) for r in found] == [[[k, apart[c, k]] for k in range(3) if k != c] for c in range(3)]
    assert all(len(r["layers"]) == 2 for r in found)
    data = embedded(tmp_path / "out")
    assert (data["bits"], data["clustered"]) == (70, 30)


@pytest.mark.parametrize("memory", [1, 4 * 70 * 2, 1 << 30])
def test_counts_fit_the_memory(tmp_path: Path, memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    result, of = made(tmp_path, planted(groups=(0.3, 0.2, 0.2, 0.2, 0.1)))
    ranges, counted = [], bits.counted

    def spied(source: Source, first: int, last: int, progress: Any) -> Any:
        ranges.append((first, last))
        return counted(source, first, last, progress)

    monkeypatch.setattr(bits, "counted", spied)
    report.write(result, of, tmp_path / "out", memory=memory)
    most = max(1, memory // (4 * 70))
    assert ranges == [(k, min(5, k + most)) for k in range(0, 5, most)]

"""Neuron embeddings: top examples of a full sort, sums that are pre-activations, clusters that others find too."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import AgglomerativeClustering
from torch import Tensor, nn

import polykern as pk
from polykern.capturing.watch import mlps
from polykern.errors import CorruptError, UsageError
from polykern.neurons import TopExamples, embeddings, features
from polykern.neurons.clusters import METRICS, SWEEP, distances, embed, measured
from polykern.neurons.examples import AHEAD, BACK
from polykern.neurons.neurons import neurons_of
from polykern.neurons.similar import similar
from tests.engine.languages import small

KINDS = ("gpt2", "llama", "bert")


def sorted_top(values: Tensor, lengths: list[int], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """By a full sort: the largest value of every sequence, then the k largest, ties to the earlier token."""
    starts = np.cumsum([0, *lengths[:-1]])
    v = values.numpy()
    top = np.full((v.shape[1], k), -np.inf, np.float32)
    row = np.full((v.shape[1], k), -1)
    for j in range(v.shape[1]):
        found = []
        for a, n in zip(starts, lengths, strict=True):
            at = a + int(np.argmax(v[a : a + n, j]))
            found.append((-v[at, j], at))
        for slot, (value, at) in enumerate(sorted(found)[:k]):
            top[j, slot], row[j, slot] = -value, at
    return top, row


def add(running: TopExamples, values: Tensor, inputs: Tensor, lengths: list[int], row: int) -> None:
    """Sequences one behind the other, the first token of which is number `row`."""
    pad = torch.nn.utils.rnn.pad_sequence
    first = row + np.cumsum([0, *lengths[:-1]])
    values, inputs = (pad(list(x.split(lengths)), batch_first=True, padding_value=9.0) for x in (values, inputs))
    running.add(values, inputs, torch.tensor(lengths), torch.from_numpy(first))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_running_examples_are_those_of_a_full_sort(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    lengths = rng.integers(1, 9, rng.integers(1, 30)).tolist()
    t, n, k = sum(lengths), 5, int(rng.integers(1, 12))
    values = torch.from_numpy(rng.integers(-3, 4, (t, n)).astype(np.float32) / rng.choice([1.0, 3.0]))
    inputs = torch.from_numpy(rng.normal(size=(t, 3))).float()
    running, row, s = TopExamples(n, 3, k), 0, 0
    while s < len(lengths):  # batches of any sizes
        some = lengths[s : s + int(rng.integers(1, 8))]
        rows = slice(row, row + sum(some))
        add(running, values[rows], inputs[rows], some, row)
        row, s = row + sum(some), s + len(some)
    found = running.examples()
    top, at = sorted_top(values, lengths, k)
    assert np.array_equal(found.value.numpy(), top)
    assert np.array_equal(found.row.numpy(), at)
    received = found.received(slice(None))
    want = torch.where(found.row[..., None] >= 0, inputs[found.row.clamp_min(0)], 0.0)
    assert torch.equal(received, want)
    assert len(found.token) == len(np.unique(at[at >= 0]))


def test_windows_hold_what_stands_around_inside_of_the_sequence() -> None:
    values = torch.arange(60.0)[:, None].repeat(1, 2) % 37
    running = TopExamples(2, 1, 3)
    add(running, values[:40], torch.zeros(40, 1), [25, 15], 0)
    add(running, values[40:], torch.zeros(20, 1), [20], 40)
    found = running.examples()
    bounds = {24: (0, 25), 36: (25, 40), 59: (40, 60)}
    for slot in range(3):
        row = int(found.row[0, slot])
        low, high = bounds[row]
        for k, place in enumerate(range(row - BACK, row + AHEAD + 1)):
            seen = float(found.window[0, slot, k])
            assert seen == float(values[place, 0]) if low <= place < high else np.isnan(seen)


@pytest.mark.parametrize("cut", [0.05, 0.2, 0.5, 0.8])
def test_clusters_are_those_of_scikit_learn_and_of_connected_components(cut: float) -> None:
    rng = np.random.default_rng(0)
    received = torch.from_numpy(rng.normal(size=(6, 30, 8)) + 3 * rng.integers(0, 2, (6, 30, 1))).float()
    weight = torch.from_numpy(rng.normal(size=(6, 8))).float()
    received[2, 4] = 0  # a zero vector
    kept = np.array([30, 30, 30, 7, 1, 0])
    for linkage in ("average", "single"):
        found = features(received, weight, kept, cut=cut, linkage=linkage)
        every = distances(embed(received, weight))
        for j, m in enumerate(kept):
            assert (found.label[j, m:] == -1).all()
            if m < 2:
                assert found.count[j] == m
                continue
            d = every[j, :m, :m]
            make: Any = AgglomerativeClustering
            model = make(n_clusters=None, metric="precomputed", linkage=linkage, distance_threshold=cut)
            theirs = model.fit_predict(d)
            assert same_partition(found.label[j, :m], theirs)
            if linkage == "single":
                assert same_partition(found.label[j, :m], connected_components(d < cut)[1])
            sizes = np.bincount(found.label[j, :m])
            assert (np.diff(sizes) <= 0).all()
            if cut in SWEEP:
                assert found.sweep[j, SWEEP.index(cut)] == found.count[j]
    assert np.isfinite(distances(embed(received, weight))).all()
    assert distances(embed(received, weight))[2, 4, 0] == 1


def same_partition(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return len(np.unique(np.stack([a, b]), axis=1).T) == len(np.unique(a)) == len(np.unique(b))


def test_metrics_are_means_over_pairs() -> None:
    d = np.array([[0, 0.1, 0.9, 0.8], [0.1, 0, 0.7, 0.6], [0.9, 0.7, 0, 0.3], [0.8, 0.6, 0.3, 0]])
    found = dict(zip(METRICS, measured(d, np.array([0, 0, 1, 1], np.int32)), strict=True))
    assert found["max_distance"] == 0.9
    assert found["mean_distance"] == pytest.approx((0.1 + 0.9 + 0.8 + 0.7 + 0.6 + 0.3) / 6)
    assert found["intra_cluster_distance"] == pytest.approx(0.2)
    assert found["inter_cluster_distance"] == pytest.approx(0.75)
    assert np.isnan(measured(d, np.zeros(4, np.int32))[3])


@pytest.mark.parametrize("kinds", [1, 2, 3, 4, 5])
def test_a_planted_neuron_has_as_many_features_as_it_answers_to(kinds: int) -> None:
    """A neuron that adds `kinds` unrelated inputs: near embeddings inside a kind, orthogonal ones between."""
    rng = np.random.default_rng(kinds)
    basis = torch.eye(64)[: 8 * kinds].view(kinds, 8, 64)  # each kind has eight inputs of its own
    weight = basis.sum((0, 1))[None]
    which = torch.arange(60) % kinds
    strength = torch.from_numpy(rng.uniform(0.8, 1.2, (60, 8))).float()
    received = torch.einsum("es,esd->ed", strength, basis[which])[None]
    found = features(received, weight, np.array([60]))
    assert found.count[0] == kinds
    assert same_partition(found.label[0], which.numpy())


def test_polysemantic_neurons_are_farther_apart() -> None:
    """mean_distance rises with the number of planted kinds."""
    found = []
    for kinds in (1, 2, 3, 4, 5):
        basis = torch.eye(64)[:kinds]
        received = basis[torch.arange(60) % kinds][None] + 0.01
        metrics = features(received, torch.ones(1, 64), np.array([60])).metrics
        found.append(metrics[0, METRICS.index("mean_distance")])
    assert (np.diff(found) > 0).all()


def test_similar_features_are_of_other_neurons_and_exact() -> None:
    rng = np.random.default_rng(5)
    received, owner = torch.from_numpy(rng.normal(size=(50, 6))).float(), np.sort(rng.integers(0, 12, 50))
    index, cosine = similar(received, owner, 5)
    unit = received / received.norm(dim=1, keepdim=True)
    every = (unit @ unit.T).numpy()
    every[owner[:, None] == owner] = -np.inf
    want = -np.sort(-every, 1)[:, :5]
    assert np.allclose(cosine, want, atol=1e-6)
    assert (owner[index] != owner[:, None]).all()
    alone, _ = similar(received[:3], np.zeros(3, np.int64), 5)
    assert (alone == -1).all()


# --- of a language model -----------------------------------------------------------------------------


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(kind: str, tmp_path_factory: pytest.TempPathFactory) -> pk.Embeddings:
    return embeddings(small(kind), [str(corpus(tmp_path_factory.mktemp("text")))], top=8, length=16, batch=64)


def noting(seen: list[Tensor]) -> Any:
    return lambda module, args: seen.append(args[0].detach().flatten(0, -2))


def corpus(folder: Path) -> Path:
    words = ["red", "blue", "cat", "dog", "<script>alert(1)</script>", "zwei", "1 2 3"]
    rng = np.random.default_rng(0)
    path = folder / "a.txt"
    path.write_text("\n".join(" ".join(rng.choice(words, 40)) for _ in range(30)))
    return path


def test_an_embedding_sums_to_the_pre_activation(found: pk.Embeddings, kind: str) -> None:
    """e = h w, sum + bias = z, for every kept example of every neuron, by a pass of its own."""
    reader = small(kind)
    every = neurons_of(reader.model, lambda: reader.model(torch.arange(1, 7)[None]), mlps())
    assert [n.field for n in every] == [x.name for x in found.layers]
    seen: dict[str, list[Tensor]] = {n.module: [] for n in every}
    hooks = [reader.model.get_submodule(n.module).register_forward_pre_hook(noting(seen[n.module])) for n in every]
    ends = np.append(found.start[1:], len(found.token))
    around = [[263], [264]] if kind == "bert" else [[], []]  # [CLS] and [SEP], which are no examples
    for a, b in zip(found.start, ends, strict=True):
        ids = [*around[0], *found.token[a:b].tolist(), *around[1]]
        reader.model(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    for n, layer in zip(every, found.layers, strict=True):
        inner = slice(len(around[0]), -1 if around[1] else None)
        h = torch.cat([x[inner] for x in seen[n.module]])
        e = h[torch.from_numpy(layer.row).clamp_min(0)] * n.weight[:, None]
        z = e.sum(2) + n.bias[:, None]
        held = torch.from_numpy(layer.row >= 0)
        assert float((z - torch.from_numpy(layer.value))[held].abs().max()) < 1e-5
        assert np.allclose(
            layer.activation, n.activated(torch.from_numpy(layer.value)).where(held, torch.zeros(()))
        )


def test_examples_above_the_share_count(found: pk.Embeddings) -> None:
    for layer in found.layers:
        largest = layer.activation[:, :1]
        counted = ((layer.activation > 0.75 * largest) & (layer.row >= 0)).sum(1) * (largest[:, 0] > 0)
        assert np.array_equal(layer.features.size, counted)
        assert ((layer.features.label >= 0).sum(1) == counted).all()


def test_a_folder_opens_to_what_was_saved(found: pk.Embeddings, tmp_path: Path) -> None:
    files = found.save(tmp_path / "out")
    assert files[-1].name == "embeddings.json"
    again = pk.Embeddings.open(tmp_path / "out")
    assert again.numbers() == found.numbers()
    assert list(again.piece) == list(found.piece)
    for a, b in zip(again.layers, found.layers, strict=True):
        assert np.array_equal(a.window, b.window, equal_nan=True)
        assert np.array_equal(a.features.central, b.features.central)
    tokens, at = again.context(int(again.layers[0].row[0, 0]), 3, 2)
    assert len(tokens) <= 6
    assert tokens[at] == found.piece[int(found.layers[0].row[0, 0])]
    (tmp_path / "out" / "layer-00.safetensors").write_bytes(b"no")
    with pytest.raises(CorruptError, match="no embeddings that can be read"):
        pk.Embeddings.open(tmp_path / "out")


def test_a_layer_in_which_nothing_fires_is_drawn_and_told(found: pk.Embeddings, tmp_path: Path) -> None:
    f = found.layers[0].features
    silent = replace(found.layers[0], features=replace(f, size=np.zeros_like(f.size)))
    for layers in ([silent, *found.layers[1:]], [silent]):
        assert replace(found, layers=layers).plot(tmp_path / "a.png") == tmp_path / "a.png"
    assert silent.as_dict(0)["clusters_by_cut"] == {}
    assert silent.as_dict(0)["clusters"] is None


def test_conv1d_of_transformers_is_a_linear_module() -> None:
    class Conv1D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.nf, self.weight = 4, nn.Parameter(torch.randn(3, 4))
            self.bias = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(self.bias, x.view(-1, 3), self.weight).view(*x.shape[:-1], 4)

    model = nn.Sequential(Conv1D(), nn.GELU()).eval()
    (n,) = neurons_of(model, lambda: model(torch.randn(1, 5, 3)), "*")
    assert torch.equal(n.weight, model[0].weight.T)  # type: ignore[arg-type]
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU()).eval()
    with pytest.raises(UsageError, match="no linear module in front"):
        neurons_of(model, lambda: model(torch.randn(1, 5, 3)), "*")


@pytest.mark.parametrize(
    ("how", "what"),
    [({"top": 0}, "keep no examples"), ({"share": 1.0}, "keep no examples"), ({"cut": 3.0}, "0 .. 2"),
     ({"linkage": "ward"}, "no linkage")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(how: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=what):
        embeddings(small(), [str(corpus(tmp_path))], length=16, **how)

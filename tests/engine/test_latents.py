"""Latents as neurons, the loss of neuron embeddings, sites and folding, token importance: by slow references."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import polykern as pk
from polykern.autoencoders import SparseAutoencoder
from polykern.capturing.watch import mlps
from polykern.cli.app import run
from polykern.errors import CorruptError, UsageError
from polykern.neurons import embeddings, features
from polykern.neurons.clusters import METRICS, distances
from polykern.neurons.examples import BACK, TopExamples
from polykern.neurons.neurons import neurons_of
from polykern.neurons.passes import taken
from polykern.neurons.trained import EmbeddingLoss, trained
from polykern_kernels import pack
from tests.engine.languages import small

IDS = torch.arange(1, 9)[None]


def text(folder: Path, words: int = 60) -> str:
    rng = np.random.default_rng(0)
    lines = (" ".join(rng.choice(["the", "rain", "9", "inner"], words)) for _ in range(4))
    (folder / "a.txt").write_text("\n".join(lines))
    return str(folder / "a.txt")


def encoder(seed: int = 0, outputs: int = 6, **more: Any) -> SparseAutoencoder:
    torch.manual_seed(seed)
    state = {"W_enc": torch.randn(6, 20), "b_enc": torch.randn(20), "W_dec": torch.randn(20, outputs)}
    return SparseAutoencoder.of_state(state | {"b_dec": torch.randn(outputs)}, **more)


# --- sites and folding -------------------------------------------------------------------------------


def gained(kind: str) -> nn.Module:
    """A small language model whose norms have gains that matter."""
    model = small(kind).model
    for m in model.modules():
        if isinstance(m, nn.LayerNorm) or type(m).__name__.endswith("RMSNorm"):
            m.weight.data += 0.5 * torch.randn(m.weight.shape)  # type: ignore[operator, arg-type]
    return model


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("fold", ["none", "gain", "tl"])
def test_embeddings_sum_to_the_pre_activation_however_the_gain_is_folded(kind: str, fold: Any) -> None:
    model = gained(kind)
    for n in neurons_of(model, lambda: model(IDS), mlps(), fold=fold):
        seen = taken(model, {"input_ids": IDS}, n.names)
        e = n.received(n.inputs(seen))[:, None] * n.weight
        assert float((e.sum(2) + n.bias - n.values(seen)).abs().max()) < 1e-5


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert"])
def test_embeddings_of_the_residual_stream_lack_its_deviation_only(kind: str) -> None:
    model = gained(kind)
    plain = neurons_of(model, lambda: model(IDS), mlps())
    raw = neurons_of(model, lambda: model(IDS), mlps(), site="resid_mid", fold="tl")
    for n, p in zip(raw, plain, strict=True):
        seen = taken(model, {"input_ids": IDS}, (*n.names, *p.names))
        x = n.inputs(seen)
        centred = x if kind == "llama" else x - x.mean(1, keepdim=True)
        epsilon = {"gpt2": 1e-5, "llama": 1e-6, "bert": 1e-12}[kind]
        deviation = (centred.square().mean(1, keepdim=True) + epsilon).sqrt()
        total = (n.received(x)[:, None] * n.weight).sum(2) / deviation + n.bias
        assert float((total - n.values(seen)).abs().max()) < 1e-5
        if kind != "llama":
            assert float(n.weight.mean(1).abs().max()) < 1e-6


def test_up_projections_of_gated_mlps() -> None:
    model: Any = small("llama").model
    every = neurons_of(model, lambda: model(IDS), mlps(), gated="up")
    for k, n in enumerate(every):
        assert torch.equal(n.weight, model.layers[k].mlp.up_proj.weight.float())
        assert n.module == f"layers.{k}.mlp.gate_proj"
    gpt2 = small().model
    with pytest.raises(UsageError, match="gates no other linear module"):
        neurons_of(gpt2, lambda: gpt2(IDS), mlps(), gated="up")
    with pytest.raises(UsageError, match="no site"):
        neurons_of(gpt2, lambda: gpt2(IDS), mlps(), site="ln3")  # type: ignore[arg-type]
    bare = nn.Sequential(nn.Linear(3, 4), nn.GELU()).eval()
    with pytest.raises(UsageError, match="has no norm in front"):
        neurons_of(bare, lambda: bare(torch.randn(1, 5, 3)), "*", fold="gain")


# --- token importance --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_token_importance_is_that_of_one_pass_a_mask(kind: str, tmp_path: Path) -> None:
    reader = small(kind)
    found = embeddings(reader, text(tmp_path), top=3, length=32, importance=2, blocks=[1])
    (layer,) = found.layers
    (n,) = neurons_of(reader.model, lambda: reader.model(IDS), mlps([1]))
    assert layer.importance is not None
    assert layer.importance.shape[1:] == (2, BACK + 1)
    v = reader.vocabulary

    def activation(ids: list[int], neuron: int) -> float:
        whole = torch.tensor([[*v.opening, *ids, *v.closing]])
        z = taken(reader.model, {"input_ids": whole}, n.names)["output:" + n.module]
        return float(n.activated(z[len(v.opening) + len(ids) - 1, neuron]))

    for c in range(0, len(layer.features.members), 37):
        neuron = int(layer.features.central[c, 0])
        for slot, e in enumerate(layer.features.ordered(c)[:2]):
            row = int(layer.row[neuron, e])
            first = max(row - BACK, int(found.start[found.start <= row].max()))
            ids = found.token[first : row + 1].tolist()
            whole = activation(ids, neuron)
            drops = [whole - activation([*ids[:k], v.padding or 0, *ids[k + 1 :]], neuron) for k in range(len(ids))]
            want = np.clip(np.array(drops) / max(drops[-1], 0.01), 0, 1)
            got = layer.importance[c, slot].astype(np.float64)
            assert np.isnan(got[: BACK + 1 - len(ids)]).all()
            assert np.allclose(got[BACK + 1 - len(ids) :], want, atol=1e-3)
    found.save(tmp_path / "out", pictures=False)
    again = pk.Embeddings.open(tmp_path / "out").layers[0].importance
    assert np.array_equal(again, layer.importance, equal_nan=True)  # type: ignore[arg-type]


# --- latents -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [{}, {"k": 4}, {"normalisation": "layer_norm"}, {"normalisation": "constant_norm_rescale"}]
)
def test_latents_are_neurons_of_their_encoder(more: dict[str, Any]) -> None:
    sae, x = encoder(**more), torch.randn(200, 6)
    layer = pk.latent_features(sae, x)
    z, f = sae.pre_activations(x), sae.activations(x)
    h = sae.received(x)
    assert float(((h[:, None] * sae.weight.T).sum(2) + sae.bias - z).abs().max()) < 1e-4
    for j in range(20):
        order = np.lexsort((np.arange(200), -f[:, j].numpy()))[:100]
        assert np.array_equal(layer.row[j], order)
        kept = int((f[order, j] > 0.75 * f[order[0], j]).sum())
        assert layer.features.size[j] == kept
        if kept > 1:
            unit = torch.nn.functional.normalize((h[order[:kept]] * sae.weight[:, j]).double(), dim=1)
            d = 1 - unit @ unit.T
            pairs = d[*np.triu_indices(kept, 1)].mean()
            assert layer.features.metrics[j, METRICS.index("mean_distance")] == pytest.approx(
                float(pairs), abs=1e-5
            )
    q = layer.autoencoder
    assert q is not None
    wrong = (x - sae.rebuilt(x)).square().sum() / (x - x.mean(0)).square().sum()
    assert q["error"] == pytest.approx(float(wrong), rel=1e-4)
    assert q["l0"] == pytest.approx(float((f > 0).sum(1).double().mean()))
    assert q["dead"] == float((f == 0).all(0).double().mean()) == layer.dead.mean()


def test_active_latents_are_the_bits_of_the_code(rng: torch.Generator) -> None:
    x, weight = torch.randn(50, 6, generator=rng), torch.randn(6, 20, generator=rng)
    bias, threshold = torch.randn(20, generator=rng), torch.rand(20, generator=rng)
    jump = SparseAutoencoder(weight, bias, "jumprelu", threshold=threshold)
    for sae in (encoder(), encoder(k=3), jump):
        bits = pack.unpack(sae.codes(x).words, 20)
        assert torch.equal(torch.as_tensor(bits).bool(), sae.activations(x) > 0)
    with pytest.raises(UsageError, match="gated autoencoder has no activations"):
        SparseAutoencoder(weight, bias, "gated").activations(x)
    with pytest.raises(UsageError, match="without a decoder"):
        pk.latent_features(jump, x)


def test_a_transcoder_rebuilds_something_else() -> None:
    sae, x, y = encoder(outputs=3, subtract=False), torch.randn(40, 6), torch.randn(40, 3)
    assert torch.equal(sae.received(x), x)
    q = pk.latent_features(sae, x, target=y).autoencoder or {}
    wrong = (y - sae.rebuilt(x, undo=False)).square().sum() / (y - y.mean(0)).square().sum()
    assert q["error"] == pytest.approx(float(wrong), rel=1e-4)
    with pytest.raises(UsageError, match="rows are read"):
        pk.latent_features(sae, x, target=y[1:])
    with pytest.raises(UsageError, match="3 values, 6 are to be rebuilt"):
        pk.latent_features(sae, x)


def test_an_autoencoder_of_a_language_model_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    state = {"W_enc": torch.randn(32, 24), "b_enc": torch.zeros(24)}
    state |= {"W_dec": torch.randn(24, 32), "b_dec": torch.zeros(32)}
    save_file(state, tmp_path / "sae.safetensors")
    words = [
        "embeddings",
        "--model",
        "tests/engine/languages.py:small",
        "--corpus",
        text(tmp_path),
        "--length",
        "32",
    ]
    words += ["--sae", str(tmp_path / "sae.safetensors"), "--no-explorer", "--no-figures", "--json"]
    assert run([*words, "--out", str(tmp_path / "none")]) == 2
    assert "go together" in capsys.readouterr().out
    assert run([*words, "--at", "output:h.9", "--out", str(tmp_path / "none")]) == 2
    assert "no module 'h.9'" in capsys.readouterr().out
    assert run([*words, "--at", "output:h.0", "--out", str(tmp_path / "out")]) == 0
    said = json.loads(capsys.readouterr().out)["found"]["numbers"]["sae"]
    assert said["neurons"] == 24
    found = pk.Embeddings.open(tmp_path / "out")
    assert found.layers[0].autoencoder == said["autoencoder"]
    assert said["autoencoder"]["rows"] == len(found.token)


# --- the loss ----------------------------------------------------------------------------------------


def test_the_loss_is_a_mean_of_cosine_distances_to_a_running_mean() -> None:
    torch.manual_seed(0)
    h, w = torch.randn(2, 30, 5), torch.randn(8, 5, requires_grad=True)
    loss, slow, losses = EmbeddingLoss(8, 5), np.zeros((8, 5)), list[torch.Tensor]()
    for step in range(2):
        active = h[step] @ w.detach().T > 1
        losses.append(loss(h[step], w, active))
        e = (h[step][:, None] * w.detach()).numpy()
        apart = []
        for j in range(8):
            rows = np.flatnonzero(active[:, j])
            if len(rows):
                now = e[rows, j].mean(0)
                slow[j] = 0.9 * slow[j] + 0.1 * now if step and slow[j].any() else now
            for i in rows:
                apart.append(1 - e[i, j] @ slow[j] / np.linalg.norm(e[i, j]) / np.linalg.norm(slow[j]))
        assert float(losses[-1].detach()) == pytest.approx(np.mean(apart), abs=1e-5)
        assert np.allclose(loss.mean, slow, atol=1e-5)
    losses[-1].backward()
    assert bool(w.grad is not None and w.grad.isfinite().all())


def test_autoencoders_with_and_without_the_loss(tmp_path: Path) -> None:
    found = pk.latents("digits", expansion=1, steps=40, seeds=(0, 1))
    assert found.about["settings"]["rows"] == 1797
    numbers = found.numbers()
    for other in ("plain", "denser"):
        apart = found.of("loss", "mean_distance") - found.of(other, "mean_distance")
        assert numbers[f"loss minus {other}"]["mean_distance"]["value"] == pytest.approx(apart.mean())
    assert found.of("loss", "mean_distance").mean() < found.of("plain", "mean_distance").mean()
    again = pk.latents("digits", expansion=1, steps=40, seeds=(0, 1))
    assert again.numbers() == numbers
    found.save(tmp_path / "out", pictures=False)
    assert len((tmp_path / "out" / "latents.csv").read_text().splitlines()) == 1 + 6 * 128
    with pytest.raises(UsageError, match="no linear module"):
        pk.latents("digits", module="relu4")
    with pytest.raises(UsageError, match="1 seeds"):
        pk.latents("digits", seeds=(0,))


def test_the_command_writes_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["latents", "--expansion", "1", "--steps", "5", "--seeds", "2", "--out", str(tmp_path / "out")]
    assert run([*words, "--no-figures"]) == 0
    assert "loss minus denser  error " in capsys.readouterr().out
    assert len((tmp_path / "out" / "runs.csv").read_text().splitlines()) == 1 + 6
    assert run(words) == 2


def test_rows_that_do_not_vary_have_no_autoencoder() -> None:
    with pytest.raises(UsageError, match="variance 0"):
        trained(torch.ones(9, 4), 8, sparsity=0.1)


# --- what does not fit -------------------------------------------------------------------------------


def test_nan_constants_and_neurons_that_never_fire() -> None:
    running = TopExamples(2, 3, 4)
    rows, ones = torch.arange(5), torch.ones(5, dtype=torch.int64)
    running.add(torch.ones(5, 1, 2), torch.ones(5, 1, 3), ones, rows)  # constant: the earliest stay
    assert running.examples().row.tolist() == [[0, 1, 2, 3]] * 2
    running.add(torch.full((5, 1, 2), torch.nan), torch.ones(5, 1, 3), ones, rows + 5)
    with pytest.raises(CorruptError, match="NaN"):
        running.examples()
    with pytest.raises(CorruptError, match="NaN or infinity"):
        distances(torch.full((1, 2, 3), torch.nan))
    silent = features(torch.ones(2, 4, 3), torch.ones(2, 3), np.array([0, 4]))
    assert silent.count.tolist() == [0, 1]
    assert silent.metrics[1, 0] < 1e-12


@pytest.mark.gpu
def test_reading_on_a_device_keeps_the_same_examples(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    path = text(tmp_path, 400)
    here, there = (embeddings(small(), path, length=32, top=20, device=d) for d in ("cpu", "cuda"))
    for a, b in zip(here.layers, there.layers, strict=True):
        assert np.array_equal(a.row, b.row)
        assert np.allclose(a.features.metrics, b.features.metrics, atol=1e-5, equal_nan=True)

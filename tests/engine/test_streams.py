"""Residual streams: norms without eps, held and frozen; checkpoints without LayerNorm; the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.models.language import Language, language
from polykern.models.unnormed import Centring, undone
from polykern.streams import Residual, rescaled, residual
from polykern.streams.blocks import blocks_of
from polykern.streams.norms import normed
from polykern.streams.result import steepest
from tests.engine import languages
from tests.engine.folders import told

BIG, TIMES = 1e12, 1e6  # the form in which checkpoints without LayerNorm keep them
TEXTS = [f"{a} man sat in the {b} rain" for a, b in zip("abcdefgh", "ijklmnop", strict=True)]


def _small() -> Language:
    return Language(languages.gpt2(blocks=3), "small", "random: NOT a trained network", languages.vocabulary())


@pytest.fixture(scope="module")
def found() -> Residual:
    return residual(_small(), TEXTS, block=1, scales=(0.01, 3.0), count=4, steps=6)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 in a folder whose LayerNorms are kept in the form of those that were trained away."""
    folder = tmp_path_factory.mktemp("bare")
    model = languages.gpt2(blocks=3).float()
    for norm in _norms(model):
        norm.weight.data *= TIMES
    model.config.layer_norm_epsilon = BIG  # type: ignore[union-attr]
    model.save_pretrained(folder)  # type: ignore[operator]
    languages.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def _norms(model: nn.Module) -> list[nn.LayerNorm]:
    return [m for m in model.modules() if isinstance(m, nn.LayerNorm)]


# --- norms -----------------------------------------------------------------------------------------


def test_without_eps_the_block_itself_never_changes(found: Residual) -> None:
    assert set(found.scaled) == {"live", "ideal", "held", "frozen"}
    for one in found.scaled.values():
        assert not one.flips[0].any()  # in front of the factor
        assert one.flips[2].any()
    assert not found.scaled["ideal"].flips[1].any()
    assert found.scaled["held"].flips[1].any()
    assert np.array_equal(found.scaled["held"].flips[1], found.scaled["frozen"].flips[1])
    assert not np.array_equal(found.scaled["held"].flips[2], found.scaled["frozen"].flips[2])


def test_a_held_norm_sees_the_factor() -> None:
    """The pre-activations of the block's MLP, by hand: centred stream times s over the deviation before."""
    language = _small()
    model, tokens = language.model, torch.arange(12).view(2, 6)
    streams: list[torch.Tensor] = []
    norm, up = model.get_submodule("h.1.ln_2"), model.get_submodule("h.1.mlp.c_fc")
    handle = norm.register_forward_pre_hook(lambda m, args: streams.append(args[0]))
    model(tokens)
    handle.remove()
    (x,) = streams
    centred = x - x.mean(-1, keepdim=True)
    z = [s * centred / (x.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt() for s in (1.0, 3.0)]  # type: ignore[operator]
    bits = [up(v * norm.weight + norm.bias) > 0 for v in z]  # type: ignore[operator]
    flips = rescaled(model, language.inputs(tokens), "h.1", "attn", scales=(3.0,), norms="held").flips
    assert flips[1, 0].tolist() == (bits[0] != bits[1]).flatten(1).sum(1).tolist()


def test_norms_in_float64_are_those_of_the_model() -> None:
    for model in (languages.gpt2(), languages.llama()):
        tokens = torch.arange(8).view(2, 4)
        with torch.no_grad():
            plain = model(input_ids=tokens)[0]
            with normed(dict(model.named_modules())):
                assert torch.allclose(model(input_ids=tokens)[0], plain, atol=1e-5)
            assert torch.equal(model(input_ids=tokens)[0], plain)  # no hook stays
    with pytest.raises(UsageError, match="GroupNorm"), normed({"n": nn.GroupNorm(1, 2)}):
        pass
    with pytest.raises(UsageError, match="no norms are 'dead'"):
        rescaled(model, {"input_ids": tokens}, "layers.1", "self_attn", norms="dead")


def test_blocks_are_found_by_their_names() -> None:
    gpt2, llama = blocks_of(languages.gpt2()), blocks_of(languages.llama())
    assert (gpt2.prefix, gpt2.count, gpt2.attention, gpt2.middle) == ("h", 2, "attn", "ln_2")
    assert (llama.prefix, llama.attention, llama.middle) == ("layers", "self_attn", "post_attention_layernorm")
    with pytest.raises(UsageError, match="no blocks"):
        blocks_of(nn.Sequential(nn.Linear(2, 2)))


# --- checkpoints without LayerNorm -------------------------------------------------------------------


def test_the_trick_is_undone(checkpoint: Path) -> None:
    """The loaded network is the linear one that the trick stands for, and computes what the trick computes."""
    bare = language(str(checkpoint), dtype=torch.float64)
    assert "without LayerNorm" in bare.note
    assert not _norms(bare.model)
    trick = languages.gpt2(blocks=3).float().double()
    plain = languages.gpt2(blocks=3).float().double()
    for norm in _norms(trick):
        norm.weight.data, norm.eps = norm.weight.data * TIMES, BIG
    for name, child in list(plain.named_modules()):
        if isinstance(child, nn.LayerNorm):
            linear = nn.Linear(32, 32).double()
            linear.weight.data = (torch.eye(32) - 1 / 32).double() * child.weight.data[:, None]
            linear.bias.data = child.bias.data
            plain.set_submodule(name, linear)
    tokens = torch.arange(12).view(2, 6)
    with torch.no_grad():
        out = bare.model(input_ids=tokens)[0]
        assert torch.allclose(out, plain(input_ids=tokens)[0], rtol=1e-6, atol=1e-9)
        assert torch.allclose(out, trick(input_ids=tokens)[0], rtol=1e-5, atol=1e-9)


def test_a_usual_eps_is_left_alone() -> None:
    model = languages.gpt2()
    before = len(_norms(model))
    assert undone(model) == 0
    assert len(_norms(model)) == before
    norm = nn.LayerNorm(4, eps=BIG, elementwise_affine=False)
    made = Centring(norm)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(made(x), (x - x.mean(-1, keepdim=True)) / TIMES)


# --- ways and the command ---------------------------------------------------------------------------


def test_scaling_needs_a_factor() -> None:
    language = _small()
    with pytest.raises(UsageError, match="one at least"):
        residual(language, TEXTS, count=4, tokens=4, scales=[])


def test_the_steepest_tenth_of_equal_steps_is_a_tenth() -> None:
    assert steepest(np.ones(50)) == pytest.approx(0.1)
    assert steepest(np.eye(50)[7]) == 1
    assert steepest(np.zeros(50)) == 0


def test_ways_follow_the_most_likely_token(found: Residual) -> None:
    assert len(found.ways) == 2
    model = _small().model.double()
    changes = found.changes()
    assert changes is not None
    for k, way in enumerate(found.ways):
        assert way.tokens is not None
        ids = [languages.vocabulary().pieces([t])[0].ids[:8].astype(np.int64) for t in TEXTS[2 * k : 2 * k + 2]]
        with torch.no_grad():
            first = model(input_ids=torch.from_numpy(ids[0])[None])[0][0, -1]
        assert way.tokens[0] == int((model.get_input_embeddings().weight @ first).argmax())  # type: ignore[operator]
        assert changes[k] == (np.diff(way.tokens) != 0).sum()
        assert way.moved.shape == (6,)


def test_the_command_reads_a_checkpoint_without_layernorm(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["residual", "--model", str(checkpoint), "--out", str(out), "--json", "--texts", "4", "--tokens", "6"]
    assert run([*words, "--steps", "5", "--scale", "0.5", "--scale", "2"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert told(out / "residual.json") == found
    assert list(found["numbers"]["scaled"]) == ["absent"]
    assert found["settings"]["norms"] == ["absent"]
    with (out / "scaling.csv").open(newline="") as f:
        rows = [r for r in csv.DictReader(f) if (r["layer"], r["scale"]) == ("h.1.mlp.act", "2.0")]
    share = np.mean([int(r["flips"]) / int(r["bits"]) for r in rows])
    assert share == pytest.approx(found["numbers"]["scaled"]["absent"]["h.1.mlp.act"]["2"]["value"])
    assert share > 0  # nothing takes the factor away
    assert {"residual.png", "plateaus.png", "steps.csv", "output.csv"} <= {p.name for p in out.iterdir()}
    assert run([*words, "--block", "9", "--overwrite"]) == 2
    assert "no block 9" in capsys.readouterr().err

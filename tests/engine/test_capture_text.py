"""Codes of tokens: equal to those of plain hooks, the same for any batch, and whole shards after a kill."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polykern.capturing import Batch, capture
from polykern.capturing.watch import mlps
from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.models import minilm
from polykern.models.language import Language, language
from polykern.store import Store, verify
from tests.engine.languages import END, TEXT, documents, files, gpt2, small, tokenizer
from tests.engine.test_models_text import MINILM

BEFORE = {"gpt2": "mlp.c_fc", "llama": "mlp.gate_proj", "bert": "intermediate.dense"}  # whose output is the code's


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return documents(tmp_path)


def hooked(model: nn.Module, ending: str, ids: NDArray[np.int32]) -> list[Tensor]:
    """Outputs of the layers of this name, for one sequence."""
    seen: list[Tensor] = []
    layers = [m for name, m in model.named_modules() if name.endswith(ending)]
    hooks = [m.register_forward_hook(lambda m, args, out: seen.append(out[0])) for m in layers]
    with torch.no_grad():
        model(input_ids=torch.from_numpy(ids).long()[None])
    for hook in hooks:
        hook.remove()
    return seen


def sequence(store: Store, doc: int) -> list[str]:
    """The pieces of a whole sequence."""
    row = int(np.flatnonzero(store.column("doc") == doc)[0])
    return store.context(row, before=10_000, after=10_000).pieces


# --- the codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BEFORE)
@pytest.mark.parametrize("pack", [True, False])
def test_codes_are_those_of_plain_hooks(kind: str, pack: bool, corpus: Path, tmp_path: Path) -> None:
    reader = small(kind)
    assert reader.causal == (kind != "bert")
    made = capture(reader, corpus, tmp_path / "s", pack=pack, length=16, batch=64)
    store = made.store()
    rows = store.rows()
    bits, doc, pos = rows.codes.bits().numpy(), store.column("doc"), store.column("pos")
    assert len(np.unique(doc)) > 5
    for number in np.unique(doc):
        mine = doc == number
        ids = tokens_of(store, number)
        z = torch.cat([out.flatten(1) for out in hooked(reader.model, BEFORE[kind], ids)], 1)
        np.testing.assert_array_equal(bits[mine], (z > 0).numpy()[pos[mine]])
        np.testing.assert_array_equal(store.column("token")[mine], ids[pos[mine]])


def tokens_of(store: Store, doc: int) -> NDArray[np.int32]:
    """The tokens of a sequence, special ones included, from the file of what people see."""
    from safetensors.numpy import load_file

    for path in sorted(Path(str(store.path)).glob("items/*.safetensors")):
        found = load_file(path)
        place = np.flatnonzero(found["document"] == doc)
        if len(place):
            ends = [0, *found["document_ends"].tolist()]
            return found["tokens"][ends[place[0]] : ends[place[0] + 1]]
    raise AssertionError(doc)


@MINILM
def test_codes_of_a_trained_encoder(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("The fox, naïve and red, read 漢字.\n\nThen it went home: " + TEXT * 8)
    made = capture("minilm", path, tmp_path / "s", length=64, batch=1)
    store, model = made.store(), minilm.network()
    bits, doc, pos = store.rows().codes.bits().numpy(), store.column("doc"), store.column("pos")
    assert (made.bits, store.columns) == (6 * 1536, ("doc", "pos", "token"))
    for number in np.unique(doc)[:3]:
        z = torch.cat([out.flatten(1) for out in hooked(model, "intermediate.dense", tokens_of(store, number))], 1)
        margin = z.abs() > 1e-4  # another attention kernel rounds otherwise
        mine = doc == number
        found, wanted = torch.from_numpy(bits[mine]), (z > 0)[pos[mine]]
        assert torch.equal(found[margin[pos[mine]]], wanted[margin[pos[mine]]])
        assert float(margin.double().mean()) > 0.999
    assert "".join(sequence(store, 0)).startswith("[CLS]The fox, naïve and red, read 漢字.\n\nThen")


@pytest.mark.parametrize("kind", BEFORE)
def test_the_batch_changes_nothing(kind: str, corpus: Path, tmp_path: Path) -> None:
    found = []
    for batch in (1, 40, 4096):
        capture(small(kind), corpus, tmp_path / f"s{batch}", pack=False, length=24, batch=batch, shard_bytes=3000)
        found.append({k: v for k, v in files(tmp_path / f"s{batch}").items() if k != "manifest.json"})
    assert found[0] == found[1] == found[2]
    assert len(found[0]) >= 6


def test_no_pass_is_larger_than_the_batch(corpus: Path, tmp_path: Path) -> None:
    reader, sizes = small("llama"), list[int]()
    hook = reader.model.register_forward_pre_hook(
        lambda m, args, kwargs: sizes.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    made = capture(reader, corpus, tmp_path / "s", pack=False, length=24, batch=40)
    hook.remove()
    assert max(sizes[1:]) <= 40  # behind the probe
    assert len(sizes) - 1 < made.store().column("doc").max() + 1


def test_every_row_and_piece_is_where_it_belongs(corpus: Path, tmp_path: Path) -> None:
    store = capture(small(), corpus, tmp_path / "s", length=16).store()
    doc, pos = store.column("doc"), store.column("pos")
    assert (np.diff(doc * 100 + pos) > 0).all()
    whole = "".join(piece for number in np.unique(doc) for piece in sequence(store, number))
    assert whole == END.join(TEXT[k : k + 11 * k] for k in range(1, 7)) + END
    for row in range(0, len(store), 7):
        found = store.context(row)
        assert (found.doc, found.pos) == (doc[row], pos[row])
        assert found.pieces[found.at] != END


def test_a_sample_of_the_tokens(corpus: Path, tmp_path: Path) -> None:
    every = capture(small(), corpus, tmp_path / "e", length=32).store()
    few = capture(small(), corpus, tmp_path / "f", length=32, tokens="sample:4").store()
    place = {key: k for k, key in enumerate(zip(every.column("doc"), every.column("pos"), strict=True))}
    at = [place[key] for key in zip(few.column("doc"), few.column("pos"), strict=True)]
    assert few.rows().codes == every.rows().codes[at]
    assert few.column("pos")[:4].tolist() == [3, 12, 22, 31]


# --- which layers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "blocks"),
    [
        ({"blocks": [1]}, [1]), ({"first_block": 1}, [1, 2]), ({"first_block": 0}, [0, 1, 2]),
        ({"start": "h.1"}, [1, 2]), ({"stop": "h.1"}, [0, 1]), ({"select": "blocks.2.mlp.hook_pre"}, [2]),
        ({"select": ["h.0", "h.2"]}, [0, 2]), ({"select": mlps(first=2)}, [2]),
    ],
)  # fmt: skip
def test_layers(words: dict[str, Any], blocks: list[int], corpus: Path, tmp_path: Path) -> None:
    made = capture(small(blocks=3), corpus, tmp_path / "s", limit_tokens=5, **words)
    assert [f.name for f in made.manifest.layout.fields] == [f"h.{k}.mlp.act" for k in blocks]
    whole = capture(small(blocks=3), corpus, tmp_path / "w", limit_tokens=5).store().rows().codes
    assert made.store().rows().codes == whole.field(*(f"h.{k}.mlp.act" for k in blocks))


def test_layers_that_are_not_there(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the predicate selects no nonlinearity"):
        capture(small(), corpus, tmp_path / "s", blocks=[7])
    with pytest.raises(UsageError, match="two ways to say the same"):
        capture(small(), corpus, tmp_path / "s", blocks=[1], select="*")
    with pytest.raises(UsageError, match=r"no activation is called 'h\.9'"):
        capture(small(), corpus, tmp_path / "s", activations=["h.9:fp16"])
    with pytest.raises(UsageError, match=r"the model has no module 'h\.9'"):
        capture(small(), corpus, tmp_path / "s", activations=["output:h.9:fp16"])


@pytest.mark.parametrize(
    ("word", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)]
)
def test_activations_beside_the_codes(word: str, dtype: torch.dtype, corpus: Path, tmp_path: Path) -> None:
    reader = small()
    kept = [f"blocks.1.mlp.hook_pre:{word}", f"output:h.0:{word}"]
    store = capture(reader, corpus, tmp_path / "s", length=16, activations=kept, batch=32).store()
    doc, pos = store.column("doc"), store.column("pos")
    for name, ending in (("h.1.mlp.act", "h.1.mlp.c_fc"), ("output:h.0", "h.0")):
        found = store.activations(name)
        assert found.dtype == dtype
        for number in np.unique(doc):
            [z] = [out.reshape(-1, out.shape[-1]) for out in hooked(reader.model, ending, tokens_of(store, number))]
            torch.testing.assert_close(found[doc == number], z[pos[doc == number]].to(dtype), rtol=1e-2, atol=1e-3)


def test_activations_that_do_not_fit(corpus: Path, tmp_path: Path) -> None:
    model = gpt2()
    model.get_parameter("h.0.mlp.c_fc.bias").data[3] = 1e6
    reader = Language(model, "large", "", small().vocabulary)
    with pytest.raises(UsageError, match=r"do not fit torch\.float16"):
        capture(reader, corpus, tmp_path / "s", activations=["h.0.mlp.act:fp16"])


# --- what goes wrong ----------------------------------------------------------------------------


def test_a_nan_is_named_with_layer_and_document(corpus: Path, tmp_path: Path) -> None:
    reader = small()
    word = reader.vocabulary.pieces(["7"])[0].ids[0]
    (corpus / "5b.txt").write_text("in the 7th")
    reader.model.get_parameter("wte.weight").data[word] = torch.nan
    with pytest.raises(CorruptError, match=r"h\.0\.mlp\.act hold NaN.*sequence 5: 5b\.txt"):
        capture(reader, corpus, tmp_path / "s", length=40, pack=False)
    assert not list((tmp_path / "s").glob("shards/*.json"))


def test_a_nan_that_comes_of_the_company_does_no_harm(corpus: Path, tmp_path: Path) -> None:
    def lonely(module: nn.Module, args: Any, out: Any) -> Any:  # as attention that has nothing but padding
        return out * torch.where(torch.arange(len(out)) > 0, torch.nan, 1.0)[:, None, None]

    reader = small("bert")
    plain = capture(reader, corpus, tmp_path / "p", length=32, batch=1)
    hook = reader.model.get_submodule("embeddings").register_forward_hook(lonely)
    again = capture(reader, corpus, tmp_path / "q", length=32, batch=4096)
    hook.remove()
    assert again.store().rows().codes == plain.store().rows().codes


@pytest.mark.parametrize("content", [[], ["", ""]])
def test_nothing_to_keep(content: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / "a.jsonl").write_text("")
    for k, text in enumerate(content):
        (folder / f"{k}.txt").write_text(text)
    with pytest.raises(UsageError, match="there are no tokens to keep"):
        capture(small(), folder, tmp_path / "s")


def test_one_token_and_limits(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("x")
    assert capture(small(), tmp_path / "one.txt", tmp_path / "a").rows == 1
    (tmp_path / "line.txt").write_text("\n")
    assert capture(small(), tmp_path / "line.txt", tmp_path / "e").rows == 1
    assert capture(small(), corpus, tmp_path / "b", limit_tokens=37, length=16).rows == 37
    tokens = sum(len(p.ids) for p in small().vocabulary.pieces([TEXT[1:12], TEXT[2:24]]))
    assert capture(small(), corpus, tmp_path / "c", limit_documents=3, pack=False).rows == tokens
    with pytest.raises(UsageError, match="reads 64 tokens at once, not 65"):
        capture(small(), corpus, tmp_path / "d", length=65)
    with pytest.raises(UsageError, match="text are captured without 'at'"):
        capture(small(), corpus, tmp_path / "d", at="all")


def test_memory_that_runs_out(corpus: Path, tmp_path: Path) -> None:
    reader = small()

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def later(*args: object) -> None:
        reader.model.register_forward_pre_hook(full)

    reader.model.register_forward_hook(later)  # behind the first pass, which finds out the layout
    with pytest.raises(ResourceError, match="out of memory in a pass of 99 tokens"):
        capture(reader, corpus, tmp_path / "s", batch=99)


# --- the corpus ----------------------------------------------------------------------------------


def test_what_was_passed_over_is_told(corpus: Path, tmp_path: Path) -> None:
    (corpus / "x.jsonl").write_bytes(b'nothing\n{"text": "t\xff"}')
    about = capture(small(), corpus, tmp_path / "s").manifest.about
    assert (about["passed_over"], about["parts_with_replaced_bytes"]) == (1, 1)
    assert about["passed_over_first"] == ["x.jsonl: byte 0: no JSON: JSONDecodeError"]
    with pytest.raises(CorruptError, match=r"x\.jsonl: byte 0"):
        capture(small(), corpus, tmp_path / "t", strict=True)


def test_several_corpora_are_told_apart(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("in the rain")
    made = capture(small(), [corpus, tmp_path / "b.txt"], tmp_path / "s", length=16)
    store = made.store()
    assert made.manifest.about["corpora"] == ["corpus", "b.txt"]
    last = store.column("corpus") == 1
    pieces = [store.context(int(row), 0, 0).pieces[0] for row in np.flatnonzero(last)]
    assert "".join(pieces) == "in the rain"


# --- models -------------------------------------------------------------------------------------


def test_a_folder_of_transformers(corpus: Path, tmp_path: Path) -> None:
    from polykern.models import _transformers

    transformers = _transformers.library()
    folder = tmp_path / "mine"
    gpt2().float().save_pretrained(folder)  # type: ignore[operator]
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer(), eos_token=END).save_pretrained(folder)
    reader = language(str(folder))
    assert (reader.name, reader.causal, reader.longest) == ("mine", True, 64)
    assert capture(str(folder), corpus, tmp_path / "s").rows > 100
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="cannot be loaded as a language model"):
        language(str(folder))


def test_models_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLYKERN_DOWNLOAD", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="no language model 'nobody/nothing'") as told:
        language("nobody/nothing")
    assert "POLYKERN_DOWNLOAD=1" in told.value.fix
    with pytest.raises(UsageError, match="cannot be loaded"):
        language(str(tmp_path))


def test_batches_of_any_model(tmp_path: Path) -> None:
    model, ids = gpt2(), torch.arange(24).view(3, 8)
    one = Batch({"input_ids": ids}, {"kind": np.arange(24)})
    two = Batch({"input_ids": ids[:1]}, {"kind": torch.tensor([5, 6])}, keep=torch.tensor([3, 7]))
    made = capture(model, [one, two], tmp_path / "s", rows="tokens", shard_bytes=1, name="mine")
    store = made.store()
    z = torch.cat([torch.cat(hooked(model, "c_fc", ids[k].numpy()), 1) for k in range(3)])
    assert torch.equal(store.rows().codes.bits(), torch.cat([z > 0, (z > 0)[[3, 7]]]))
    assert store.column("doc").tolist() == [k // 8 for k in range(24)] + [3, 3]
    assert store.column("pos").tolist() == [k % 8 for k in range(24)] + [3, 7]
    assert store.column("kind").tolist() == [*range(24), 5, 6]
    assert (made.shards, made.manifest.items) == (2, None)
    assert verify(tmp_path / "s") == []
    with pytest.raises(UsageError, match="no batches"):
        capture(model, [], tmp_path / "t")
    with pytest.raises(UsageError, match="batch 1 has no column kind"):
        capture(model, [one, {"input_ids": ids}], tmp_path / "u", rows="tokens")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ([0, 1 << 33, 2], r"batch 0: column kind holds 0 \.\. 8589934592, more than int32"),
        (torch.tensor([0.5, 1.0, 2.0]), r"batch 0: column kind is float32 \[3\], not integers \[3\]"),
        ([1, 2], r"batch 0: column kind is int64 \[2\], not integers \[3\]"),
    ],
)
def test_columns_that_no_store_holds(kind: Any, said: str, tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU()).eval()
    with pytest.raises(UsageError, match=said):
        capture(model, [Batch(torch.randn(3, 4), {"kind": kind})], tmp_path / "s")


def test_a_batch_without_rows(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU()).eval()
    x = torch.randn(3, 4)
    batches = [x, x[:0], Batch(x, keep=torch.zeros(0, dtype=torch.int64)), x, x[:0]]
    for shard_bytes in (1, 1 << 20):
        made = capture(model, batches, tmp_path / f"{shard_bytes}", shard_bytes=shard_bytes)
        assert torch.equal(made.store().rows().codes.bits(), model[0](torch.cat([x, x])) > 0)
        assert made.store().column("doc").tolist() == [0, 1, 2, 6, 7, 8]
    with pytest.raises(UsageError, match="the first batch has no rows"):
        capture(model, [x[:0], x], tmp_path / "s")


class Gated(nn.Module):
    """Calls one of its modules by keyword, and another one never."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.spare = nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.up(input=2 * x))


def test_what_a_module_is_given_by_keyword_is_kept(tmp_path: Path) -> None:
    x, kept = torch.randn(3, 4), ["input:up:fp32"]
    made = capture(Gated().eval(), [x], tmp_path / "s", activations=kept)
    assert torch.equal(made.store().activations("input:up"), 2 * x)


def test_a_module_that_no_pass_reaches_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not reach the module of 'output:spare'"):
        capture(Gated().eval(), [torch.randn(3, 4)], tmp_path / "s", activations=["output:spare"])


def test_a_dtype_that_there_is_not(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no dtype 'float8'"):
        capture("minilm", corpus, tmp_path / "s", dtype="float8")

"""Codes of the models people have: transformers, torchvision, torch's own blocks; small and random."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polykern import models
from polykern.errors import UsageError
from polykern.models import _torchvision, _transformers
from polykern.points import codes_of
from polykern.tail import Tail, layers_table
from polykern.tracing import trace
from tests.engine.installed import needs

TRANSFORMERS, TORCHVISION = needs("transformers"), needs("torchvision")

BLOCKS, WIDTH, HIDDEN, VOCABULARY = 4, 16, 24, 50
SHAPE = {"num_hidden_layers": BLOCKS, "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_attention_heads": 2}


def _of(kind: str) -> nn.Module:
    """A random model of Hugging Face."""
    library = _transformers.library()
    sizes: dict[str, Any] = {**SHAPE, "vocab_size": VOCABULARY}
    if kind == "GPT2":
        sizes = {"n_layer": BLOCKS, "n_embd": WIDTH, "n_inner": HIDDEN, "n_head": 2, "vocab_size": VOCABULARY}
    elif kind == "OPT":
        sizes = {**sizes, "ffn_dim": HIDDEN, "word_embed_proj_dim": WIDTH}
    elif kind in ("Llama", "Qwen2"):
        sizes["num_key_value_heads"] = 2
    torch.manual_seed(0)
    heads = {"Bert": "BertModel", "T5": "T5EncoderModel"}
    model: nn.Module = getattr(
        library, heads.get(kind, f"{kind}ForCausalLM" if kind != "GPT2" else "GPT2LMHeadModel")
    )(getattr(library, f"{kind}Config")(**sizes))
    return model.eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(3, VOCABULARY, (3, 7), generator=torch.Generator().manual_seed(0))


@TRANSFORMERS
@pytest.mark.parametrize(
    ("kind", "module", "linear", "activation"),
    [
        ("GPT2", "transformer.h.{}.mlp.act", "transformer.h.{}.mlp.c_fc", "gelu"),
        ("Llama", "model.layers.{}.mlp.act_fn", "model.layers.{}.mlp.gate_proj", "silu"),
        ("Qwen2", "model.layers.{}.mlp.act_fn", "model.layers.{}.mlp.gate_proj", "silu"),
        ("GPTNeoX", "gpt_neox.layers.{}.mlp.act", "gpt_neox.layers.{}.mlp.dense_h_to_4h", "gelu"),
        ("OPT", "model.decoder.layers.{}.activation_fn", "model.decoder.layers.{}.fc1", "relu"),
        (
            "Bert",
            "encoder.layer.{}.intermediate.intermediate_act_fn",
            "encoder.layer.{}.intermediate.dense",
            "gelu",
        ),
    ],
)
def test_the_mlp_of_every_block(kind: str, module: str, linear: str, activation: str, tokens: Tensor) -> None:
    """Bits are signs of what the linear layer before the nonlinearity gives (the gate, in a gated MLP)."""
    model = _of(kind)
    outputs: list[Tensor] = []
    hooks = [
        model.get_submodule(linear.format(b)).register_forward_hook(
            lambda m, args, out: outputs.append(out.detach())
        )
        for b in range(BLOCKS)
    ]
    with trace(model, rows="tokens", select="blocks.*.mlp.hook_pre") as t:
        model(tokens)
    for hook in hooks:
        hook.remove()
    assert [(f.module, f.kind, f.shape) for f in t.layout.fields] == [
        (module.format(b), activation, (HIDDEN,)) for b in range(BLOCKS)
    ]
    assert torch.equal(t.codes.bits(), torch.cat([z.reshape(-1, HIDDEN) > 0 for z in outputs], 1))
    with trace(model, rows="tokens", select="blocks.2.mlp.hook_pre") as one:
        one.run(tokens)
        one.run(tokens)
    assert one.codes[: tokens.numel()] == t.codes.field(module.format(2)) == one.codes[tokens.numel() :]


@TRANSFORMERS
@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_residual_vectors_behind_a_block(kind: str, dtype: torch.dtype, tokens: Tensor) -> None:
    """From the input of an inner block on: the last bits of the whole code, however many points there are."""
    model = _of(kind).to(dtype)
    start = "transformer.h.2" if kind == "GPT2" else "model.layers.2"
    caught: list[Tensor] = []
    hook = model.get_submodule(start).register_forward_pre_hook(lambda m, args: caught.append(args[0].clone()))
    with trace(model) as t:
        model(tokens)
    hook.remove()
    tail = Tail(model, tokens[:1], start)
    assert tail.input_shape == (7, WIDTH)
    assert tail.layout.bits == 2 * 7 * HIDDEN
    names = [f.name for f in t.layout.fields[2:]]
    one = torch.cat([codes_of(tail, residual[None]).bits() for residual in caught[0]])
    assert torch.equal(codes_of(tail, caught[0]).bits(), t.codes.field(*names).bits())
    assert float((one != t.codes.field(*names).bits()).float().mean()) < 0.01  # sums in another order


@TRANSFORMERS
def test_another_length_needs_rows_of_tokens(tokens: Tensor) -> None:
    model = _of("GPT2")
    with trace(model) as t:
        model(tokens)
        with pytest.raises(UsageError, match=r"meets transformer\.h\.0\.mlp\.act \[5, 24\] where the first"):
            model(tokens[:, :5])
    with trace(model, rows="tokens", select=lambda field: field.module == "transformer.h.3.mlp.act") as t:
        model(tokens)
        model(tokens[:, :5])
    assert len(t.codes) == 3 * 7 + 3 * 5
    head = t.codes[torch.arange(21).reshape(3, 7)[:, :5].flatten()]
    assert int(head.aligned(t.codes[21:]).max()) <= 1  # causal: later tokens change nothing but rounding


@TRANSFORMERS
def test_generation_is_traced_too(tokens: Tensor) -> None:
    model = _of("GPT2")
    with trace(model, rows="tokens") as t:
        model.generate(tokens[:1], max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0)  # type: ignore[operator]
    assert len(t.codes) == 7 + 1 + 1


@TRANSFORMERS
def test_layers_of_a_transformer(tokens: Tensor) -> None:
    rows = layers_table(_of("Llama"), {"input_ids": tokens[:1], "use_cache": False})
    assert [row["lens"] for row in rows] == [f"blocks.{b}.mlp.hook_pre" for b in range(BLOCKS)]
    assert [row["offset"] for row in rows] == [b * 7 * HIDDEN for b in range(BLOCKS)]


def test_transformer_encoder_of_torch() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 2, HIDDEN, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval().requires_grad_(False)
    x = torch.randn(3, 5, WIDTH)
    outputs: list[Tensor] = []
    with trace(model, rows="tokens") as t:
        model(x)
        for block in range(2):
            model.get_submodule(f"layers.{block}.linear1").register_forward_hook(
                lambda m, args, out: outputs.append(out.detach().clone())
            )
        model(x)
    assert [f.module for f in t.layout.fields] == ["layers.0", "layers.1"]
    assert torch.equal(t.codes[15:].bits(), torch.cat([z.reshape(15, HIDDEN) > 0 for z in outputs], 1))


# --- torchvision ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[models.Subject]:
    with pytest.MonkeyPatch.context() as patch:
        folder: Path = tmp_path_factory.mktemp("cache")
        patch.setenv("POLYKERN_CACHE", str(folder))
        yield models.load("googlenet-initial")


@TORCHVISION
@pytest.mark.parametrize(
    ("start", "bits"), [("inception5a", 112_112), ("inception5b", 61_936), ("inception4e", 312_816)]
)
def test_bits_of_googlenet(subject: models.Subject, start: str, bits: int) -> None:
    assert Tail(subject.model, subject.sample, start).layout.bits == bits


@TORCHVISION
def test_codes_of_googlenet(subject: models.Subject) -> None:
    """Its ReLUs are functional and in place, its branches pooled; signs after a ReLU are signs before it."""
    model = subject.model
    tail = Tail(model, subject.sample, "inception5a")
    points = torch.randn(2, 832, 7, 7, generator=torch.Generator().manual_seed(0)).relu()
    codes = codes_of(tail, points, pools=True)
    outputs: list[Tensor] = []
    after = []
    for name in ("inception5a", "inception5b"):
        inception = model.get_submodule(name)
        after += [
            m.register_forward_hook(lambda module, args, out: outputs.append(out.clone()))
            for m in inception.modules()
            if type(m).__name__ == "BasicConv2d"
        ]
    with torch.no_grad():
        model.get_submodule("inception5b")(model.get_submodule("inception5a")(points.clone()))
    for hook in after:
        hook.remove()
    assert torch.equal(codes.bits(), torch.cat([out.flatten(1) > 0 for out in outputs], 1))
    chosen = codes.choices["inception5a.branch4.0:max_pool"]
    assert (chosen.shape, int(chosen.max())) == ((2, 832, 7, 7), 9)
    assert torch.equal(chosen == 9, F.max_pool2d(points, 3, 1, 1) == 0)


@TORCHVISION
@pytest.mark.parametrize(
    ("name", "fields"), [("resnet18", 17), ("densenet121", 121), ("mobilenet_v2", 35), ("squeezenet1_1", 26)]
)
def test_other_networks_of_torchvision(name: str, fields: int) -> None:
    model: nn.Module = getattr(_torchvision.library().models, name)(weights=None).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with trace(model) as t, torch.no_grad():
        model(x)
    assert len(t.layout.fields) == fields
    assert t.codes == codes_of(model, x)

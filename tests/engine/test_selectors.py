"""Which nonlinearities a selector chooses."""

import pytest

from polykern.errors import UsageError
from polykern.layout import Field
from polykern.selectors import Select, lens_name, matches, require_used

NAMES = [
    "conv1",
    "inception5a.branch1",
    "inception5b.branch1",
    "transformer.h.3.mlp.act",
    "transformer.h.11.mlp.act",
    "transformer.h.3.attn",
]


def _field(module: str, call: int = 0, kind: str = "relu") -> Field:
    return Field(module, call, kind, (4,), (0.0,), 0)


FIELDS = [_field(name) for name in NAMES] + [_field("conv1", 1)]


@pytest.mark.parametrize(
    ("select", "chosen"),
    [
        ("*", [*NAMES, "conv1#1"]),
        ("inception5?.*", NAMES[1:3]),
        ("inception5a", NAMES[1:2]),
        ("conv1", ["conv1", "conv1#1"]),
        ("conv1#1", ["conv1#1"]),
        ("blocks.3.mlp.hook_pre", ["transformer.h.3.mlp.act"]),
        ("blocks.*.mlp.hook_pre", ["transformer.h.3.mlp.act", "transformer.h.11.mlp.act"]),
        (["blocks.11.mlp.hook_pre", "conv1"], ["conv1", "transformer.h.11.mlp.act", "conv1#1"]),
        (lambda field: field.call == 1, ["conv1#1"]),
    ],
)
def test_what_is_chosen(select: Select, chosen: list[str]) -> None:
    assert [f.name for f in FIELDS if matches(f, select)] == chosen
    require_used(FIELDS, select)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("transformer.h.3.mlp.act", "blocks.3.mlp.hook_pre"),  # GPT-2
        ("h.3.mlp", "blocks.3.mlp.hook_pre"),
        ("model.layers.10.mlp.act_fn", "blocks.10.mlp.hook_pre"),  # Llama, Qwen, Gemma
        ("gpt_neox.layers.3.mlp.act", "blocks.3.mlp.hook_pre"),
        ("model.decoder.layers.3.activation_fn", "blocks.3.mlp.hook_pre"),  # OPT
        ("encoder.layer.3.intermediate.intermediate_act_fn", "blocks.3.mlp.hook_pre"),  # BERT, ViT
        ("encoder.block.3.layer.1.DenseReluDense.act", "blocks.3.mlp.hook_pre"),  # T5
        ("encoder.layers.encoder_layer_3.mlp.1", "blocks.3.mlp.hook_pre"),  # torchvision's ViT
        ("layers.3", "blocks.3.mlp.hook_pre"),  # nn.TransformerEncoder
        ("blocks.3.mlp", "blocks.3.mlp.hook_pre"),
        ("model.layers.3.self_attn.act", None),
        ("bert.encoder.layer.3.attention.output", None),
        ("layer3.0.relu", None),  # ResNet
        ("features.3", None),
        ("path.3", None),
    ],
)
def test_lens_names(module: str, name: str | None) -> None:
    assert lens_name(_field(module)) == name


def test_an_unused_selector_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"'inception5c.branch1'(.|\n)*nearest names: inception5[ab]\.branch1"):
        require_used(FIELDS, ["*", "inception5c.branch1"])
    with pytest.raises(UsageError, match=r"nearest names: (.*, )?blocks\.3\.mlp\.hook_pre"):
        require_used(FIELDS, "blocks.7.mlp.hook_pre")
    with pytest.raises(UsageError, match=r"'zzzz'(.|\n)*there are conv1, inception5a"):
        require_used(FIELDS, "zzzz")
    with pytest.raises(UsageError, match="predicate selects no"):
        require_used(FIELDS, lambda field: field.kind == "gelu")

"""The blocks of a pre-norm transformer by the names that transformers gives them."""

from dataclasses import dataclass

from torch import nn

from polykern.errors import UsageError

# list of blocks, attention and the norm in front of the MLP in each
NAMES = (("h", "attn", "ln_2"), ("layers", "self_attn", "post_attention_layernorm"))


@dataclass(frozen=True)
class Blocks:
    """The blocks of a model.

    prefix     dotted name of their list
    count      of blocks
    attention  name of a block's attention, whose output is added to the stream
    middle     name of what reads the stream between attention and MLP
    """

    prefix: str
    count: int
    attention: str
    middle: str


def blocks_of(model: nn.Module) -> Blocks:
    """The blocks of a model whose MLPs stand behind their attention with a norm in front, as in GPT-2 and Llama.

    Errors: UsageError for another one.
    """
    for name, module in model.named_modules():
        for last, attention, middle in NAMES:
            if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] == last and len(module):
                inside = [{child for child, _ in block.named_children()} for block in module]
                if all(
                    {attention, middle} <= names and "pre_feedforward_layernorm" not in names for names in inside
                ):
                    return Blocks(name, len(module), attention, middle)
    raise UsageError(
        f"{type(model).__name__} has no blocks with a norm between attention and MLP",
        why="those of GPT-2 (h, attn, ln_2) and Llama (layers, self_attn, post_attention_layernorm) are known",
        fix="choose gpt2, smollm2 or a model of that kind",
    )

"""Names of networks: polykern's own, and those that other packages register. Nothing is loaded for a list of them.

A package registers networks as entry points, each a function as `polykern.models.load` takes it:

    [project.entry-points."polykern.models"]
    ournet = "ourpackage.nets:ournet"
"""

from importlib import metadata

from polykern.errors import UsageError

GROUP = "polykern.models"
KNOWN: dict[str, str] = {
    "digits": "a small ReLU network for handwritten digits, trained at first use",
    "efficientnet-lite0": "a real ImageNet classifier, ReLU6 throughout (extra: vision)",
    "googlenet": "InceptionV1, trained if torch's cache holds its weights, else googlenet-random (extra: vision)",
    "googlenet-random": "InceptionV1 with random weights and calibrated BatchNorm (extra: vision)",
    "googlenet-initial": "InceptionV1 as initialised, a degenerate control (extra: vision)",
    "gpt2": "GPT-2 small, trained if Hugging Face's cache holds it, else random (extra: text)",
    "gpt2-mlp": "LayerNorm and MLP of one GPT-2 block, on residual vectors (extra: text)",
    "minilm": "a real sentence encoder (extra: text)",
    "minilm-mlp": "the MLP of one block of the sentence encoder, on residual vectors (extra: text)",
}
LANGUAGES = {
    "minilm": KNOWN["minilm"],
    "gpt2": "GPT-2 small, if Hugging Face's cache holds it (extra: text)",
    "smollm2": "a small causal language model (extra: text)",
}


def registered() -> dict[str, str]:
    """The names that installed packages register: name -> package.module:function. Own names are not among them.

    Raises UsageError where two packages give one name to different functions.
    """
    found: dict[str, str] = {}
    for entry in metadata.entry_points(group=GROUP):
        if found.setdefault(entry.name, entry.value) != entry.value:
            raise UsageError(
                f"two packages register a model {entry.name!r}", why=f"{found[entry.name]} and {entry.value}",
                fix="name the function itself",
            )  # fmt: skip
    return {name: word for name, word in found.items() if name not in KNOWN and name not in LANGUAGES}

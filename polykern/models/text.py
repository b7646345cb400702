"""Text as examples: windows of 16 tokens, and the vectors that single tokens have inside a network."""

from codecs import getincrementaldecoder
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polykern.errors import UsageError
from polykern.models.generated import RandomTokens, array
from polykern.models.subject import Example

TOKENS = 16  # one length for all, so that every text is a point of the same space
WORDS = 5  # of a label
LONGEST = 100_000  # bytes read of a file

SENTENCES = (
    "The river rises in the hills above the old mill and reaches the sea after three slow days.",
    "In winter the geese leave the northern lakes and cross the mountains in long, noisy lines.",
    "Moss grows thick on the shaded side of the wall, where the stones stay wet all summer long.",
    "A fox came down to the edge of the garden at dusk, looked once at the house and went away.",
    "def mean(values): return sum(values) / len(values) if values else float('nan')",
    "for (int i = 0; i < count; i++) { total += weights[i] * inputs[i]; }",
    "SELECT name, price FROM orders WHERE price > 100 ORDER BY price DESC LIMIT 10;",
    "import numpy as np; x = np.linspace(0, 1, 100); y = np.sin(2 * np.pi * x)",
    "Dear Ms Okafor, thank you for your letter of 12 March about the broken window in the hall.",
    "Hi Tom, can we move our meeting to Thursday at ten? The train on Wednesday is fully booked.",
    "Please find the signed contract attached; the second copy will follow by post next week.",
    "We are sorry to hear that your parcel has not arrived and have asked the carrier to look for it.",
    "Let $f$ be a continuous function on the closed interval $[a, b]$; then $f$ attains its maximum.",
    "The derivative of the logarithm is one over x, so its integral from one to e equals one.",
    "Every even number greater than two that has ever been tested is the sum of two prime numbers.",
    "A matrix is invertible if and only if none of its eigenvalues is zero, whatever its size.",
    "The patient, a man of 54 years, was given 20 mg twice a day and recovered within two weeks.",
    "Wash the rice three times, cover it with cold water and let it stand for half an hour before cooking.",
    "The court held that the seller had not warned the buyer in time and must pay for the damage.",
    "In the second half the visitors scored twice within four minutes and never lost the lead again.",
    "Shares of the company fell by seven per cent after it reported lower sales for a third quarter.",
    "The castle was built in 1248, burned down in 1571 and was rebuilt by the grandson of its last lord.",
    "Turn left at the second light, follow the road past the station and park behind the library.",
    "ACGTTGCAAGGCTTAACCGGATATCGCGTTAACGGTACCATGGCATTAGC is part of the sequence that was found.",
)


@dataclass(frozen=True)
class Sentences:
    """Texts cut to their first 16 tokens as examples; files are texts.

    encode  a tokenizers.Tokenizer
    """

    encode: Any
    targets: None = None
    noun: str = "sentence"

    def __len__(self) -> int:
        return len(SENTENCES)

    def at(self, index: int) -> Example:
        """A sentence under its first words."""
        return self._example(SENTENCES[index], "the sentence")

    def read(self, path: Path) -> Example:
        """The beginning of the text in a file, UTF-8."""
        try:
            with path.open("rb") as file:
                data = file.read(LONGEST)
            text = getincrementaldecoder("utf-8")().decode(data, len(data) < LONGEST)  # the last is cut
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is not a text in UTF-8", why=str(error)) from error
        return self._example(text, str(path))

    def tokens(self, index: int) -> list[str]:
        """The 16 tokens of a sentence as a person reads them."""
        return [str(self.encode.decode([token])) for token in self.at(index).input.tolist()]

    def _example(self, text: str, place: str) -> Example:
        ids = self.encode.encode(text).ids
        if len(ids) < TOKENS:
            raise UsageError(f"{place} is too short", why=f"it has {len(ids)} tokens of {TOKENS} wanted")
        words = text.split()
        label = " ".join(words[:WORDS]) + (" ..." if len(words) > WORDS else "")
        return Example(torch.tensor(ids[:TOKENS]), label, None)


Texts = Sentences | RandomTokens


@dataclass(frozen=True, eq=False)
class Vectors:
    """What single tokens are inside a network, as examples; files are .npy vectors.

    points  float32 (n, width)
    labels  of the points
    """

    points: Tensor
    labels: tuple[str, ...]
    targets: None = None
    noun: str = "token vector"

    def __len__(self) -> int:
        return len(self.points)

    def at(self, index: int) -> Example:
        """The vector of a token."""
        return Example(self.points[index], self.labels[index], None)

    def read(self, path: Path) -> Example:
        """The vector in a .npy file."""
        return Example(array(path, tuple(self.points.shape[1:])), path.stem, None)


def vectors(model: nn.Module, module: str, texts: Texts, count: int = len(SENTENCES)) -> Vectors:
    """The vectors that enter a module for all inner tokens of some texts.

    model   reads token ids int64 (texts, 16)
    module  dotted name; its first argument is float32 (texts, 16, width)
    texts   the first `count` are read; of each the first and the last token are left out: they often are marks,
            and the first one's vector is far longer than all others
    returns count * 14 vectors, text by text, labelled "word (text 3, token 5)"
    """
    batch = torch.stack([texts.at(k).input for k in range(count)])
    seen: list[Tensor] = []
    hook = model.get_submodule(module).register_forward_pre_hook(lambda m, args: seen.append(args[0]))
    try:
        with torch.no_grad():
            model(batch)
    finally:
        hook.remove()
    points = seen[0][:, 1:-1].flatten(0, 1).clone()
    labels = [
        f"{word.strip()} (text {k}, token {position})"
        for k in range(count)
        for position, word in enumerate(texts.tokens(k)[1:-1], 1)
    ]
    return Vectors(points, tuple(labels))


INNER = TOKENS - 2
LAST_OF_EACH = (INNER - 1, 2 * INNER - 1, 3 * INNER - 1)  # the last inner tokens of texts 0, 1 and 2

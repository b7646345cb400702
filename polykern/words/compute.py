"""`pk.synonyms`: a language model and pairs of words to the densities of boundaries between them, by layer."""

from collections.abc import Sequence

import numpy as np
import torch

from polykern.errors import UsageError
from polykern.findings import provenance
from polykern.models.language import Language
from polykern.progress import Progress
from polykern.words.draw import Pair, drawn
from polykern.words.reading import placed, read
from polykern.words.result import Synonyms

COUNT = 400
TEXT = "The word is {}."


def synonyms(
    language: Language,
    pairs: Sequence[Pair],
    *,
    count: int = COUNT,
    tokens: int = 1,
    text: str = TEXT,
    seed: int = 0,
    progress: Progress | None = None,
) -> Synonyms:
    """The density of boundaries between words that mean the same, in every MLP, beside that between other words.

    language  a network over tokens: `polykern.models.language.language(...)`
    pairs     of words: `polykern.wordnet.WordNet(folder).synonyms(first=True)`, or any others
    count     pairs at most; no word is in two of them
    tokens    of a word at most
    text      that a word stands in, at "{}"
    seed      of the pairs and the intervals
    progress  called with (stage, done, total)
    returns   Synonyms

    rho = d_H(code, code') / |x - x'| for the word's last token: codes of one MLP, x what enters it. The other
    words are the same ones exchanged among pairs: with as many tokens, and neighbours by the rank of their rarest
    token. Counts are exact for the arithmetic of the model. Errors: UsageError for fewer than two pairs, or a
    model without one nonlinearity an MLP.
    """
    if count < 2 or tokens < 1:
        raise UsageError(f"two pairs at least, of words of one token at least, got {count} and {tokens}")
    words = placed(language, sorted({w for pair in pairs for w in pair}), text)
    sizes, ranks = {w: p.size for w, p in words.items()}, {w: p.rank for w, p in words.items()}
    chosen = drawn(pairs, sizes, ranks, count, tokens, seed)
    every = (*chosen.first, *chosen.second)
    found = read(language, [words[w] for w in every], progress)
    n = len(chosen.first)
    place = {w: n + k for k, w in enumerate(chosen.second)}
    first = torch.arange(n)
    hamming, distance = [], []
    for second in (first + n, torch.tensor([place[w] for w in chosen.other])):
        hamming.append(found.codes[first].aligned_by_field(found.codes[second]).numpy().astype(np.int64))
        apart = found.inputs[:, first].double() - found.inputs[:, second].double()
        distance.append(apart.norm(dim=2).numpy())
    about = provenance(language, seed=seed, pairs=n, given=len(pairs), tokens=tokens, text=text)
    fields = found.codes.layout.fields
    return Synonyms(
        about, tuple(f.name for f in fields), tuple(f.bits for f in fields), chosen,
        np.stack(hamming), np.stack(distance),
        np.array([[sizes[w], ranks[w]] for w in every]).reshape(2, n, 2), seed,
    )  # fmt: skip

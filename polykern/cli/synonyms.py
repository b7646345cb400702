"""`polykern synonyms`: how densely boundaries lie between words that mean the same, layer by layer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import finding, options
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.words import Synonyms

EXAMPLES = (
    "polykern synonyms --wordnet /usr/share/wordnet --out synonyms",
    "polykern synonyms --model smollm2 --pairs-from pairs.txt --tokens 2 --out synonyms",
)

WordNet = Annotated[
    Path | None,
    options.option("--wordnet", panel=options.WHAT, env="WORDNET", metavar="DIR",
                   help="Folder of WordNet: words whose commonest sense is one synset."),
]  # fmt: skip
Words = Annotated[
    Path | None,
    options.option("--pairs-from", panel=options.WHAT, metavar="FILE", help="Pairs of words instead, two a line."),
]
Text = Annotated[
    str, options.option("--text", panel=options.WHAT, metavar="TEXT", help='Text that a word stands in, at "{}".')
]
Count = Annotated[
    int, options.option("--pairs", panel=options.HOW, min=2, metavar="N", help="Pairs of words, at most.")
]
Tokens = Annotated[
    int, options.option("--tokens", panel=options.HOW, min=1, metavar="N", help="Tokens of a word, at most.")
]


def command(
    ctx: typer.Context,
    out: finding.Out,
    model: options.LanguageModel = "minilm",
    wordnet: WordNet = None,
    pairs_from: Words = None,
    text: Text = "The word is {}.",
    count: Count = 400,
    tokens: Tokens = 1,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Compare the density of boundaries between synonyms with that between other words, in every MLP.

    The other words are the same ones exchanged among the pairs, of as many tokens and about as frequent. The change
    with depth is taken apart into that of the bits and that of the distance.
    """
    talk: Talk = ctx.obj
    if (wordnet is None) == (pairs_from is None):
        raise UsageError("words come from one place", fix="give --wordnet DIR or --pairs-from FILE")
    finding.require_free(out, overwrite=overwrite)

    from polykern.models.language import language
    from polykern.wordnet import WordNet as Folder
    from polykern.words import read_pairs, synonyms

    pairs = [] if wordnet is None else Folder(wordnet).synonyms(first=True)
    pairs += [] if pairs_from is None else read_pairs(pairs_from)
    network = language(model)
    talk.say(f"{network.name}: {network.note}")
    with talk.progress("words") as progress:
        found = synonyms(
            network, pairs, count=count, tokens=tokens, text=text, seed=seed, progress=progress
        )  # fmt: skip
    finding.tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Synonyms") -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("pairs", str(len(found.words.first)))]
    for k, layer in enumerate(found.layers):
        densities = [found.mean(found.density, c, k) for c in (0, 1)]
        rows.append((layer, f"synonyms {densities[0]}, others {densities[1]}, ratio {found.ratio(k)}"))
    if len(found.layers) > 1:
        for c, kind in enumerate(("synonyms", "others")):
            if (parts := found.slopes(c)) is None:
                told = "codes of nearly all pairs are equal in some layer"
            else:
                told = f"ln density {parts['density']} = bits {parts['bits']} + distance {parts['distance']}"
            rows.append((f"{kind}, over depth", f"{told}; rank correlation {found.trend(c)}"))
    return rows

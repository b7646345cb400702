"""A WordNet of a few synsets in the form of the plain data files, made on the spot."""

from pathlib import Path

LICENCE = "  1 This software and database is being provided to you, the LICENSEE\n"
# offset -> lemmas, hypernyms
NOUNS = {
    "00000001": (("entity",), ()),
    "00000010": (("animal", "beast"), ("00000001",)),
    "00000020": (("dog", "domestic_dog"), ("00000010", "00000070")),
    "00000030": (("cat", "true_cat"), ("00000010",)),
    "00000040": (("artifact",), ("00000001",)),
    "00000050": (("couch", "sofa", "lounge"), ("00000040",)),
    "00000060": (("crane",), ("00000040",)),
    "00000070": (("pet", "Companion"), ("00000001",)),
    "00000080": (("crane",), ("00000010",)),
    "00000090": (("Rex",), ("00000020",)),
    "00000099": (("lounge", "hall"), ("00000040",)),
}
SENSES = {"crane": ("00000080", "00000060"), "lounge": ("00000099", "00000050")}  # the commonest first
ADJECTIVES = {"00000005": (("big(a)", "large"), ())}


def wordnet(folder: Path) -> Path:
    """The folder, with its files."""
    folder.mkdir(exist_ok=True)
    for part, letter, synsets in (
        ("noun", "n", NOUNS),
        ("verb", "v", {}),
        ("adj", "a", ADJECTIVES),
        ("adv", "r", {}),
    ):
        data, senses = LICENCE, dict[str, list[str]]()
        for offset, (lemmas, above) in synsets.items():
            words = " ".join(f"{w} 0" for w in lemmas)
            kind = "@i" if lemmas == ("Rex",) else "@"
            pointers = "".join(f" {kind} {up} n 0000" for up in above) + f" ~ {offset} n 0000"
            data += (
                f"{offset} 05 {letter} {len(lemmas):02x} {words} {len(above) + 1:03d}{pointers} | a gloss; x @ y\n"
            )
            for lemma in lemmas:
                senses.setdefault(lemma.partition("(")[0].lower(), []).append(offset)
        index = LICENCE
        for lemma, found in sorted(senses.items()):
            order = SENSES.get(lemma, tuple(found)) if part == "noun" else tuple(found)
            index += f"{lemma} {letter} {len(order)} 2 @ ~ {len(order)} 1 {' '.join(order)}  \n"
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(index)
    return folder

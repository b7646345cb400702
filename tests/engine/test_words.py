"""Synonyms: densities equal a plain loop, the other words are the same ones exchanged, trends that were planted."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from polykern.cli.app import run
from polykern.errors import UsageError
from polykern.models.language import Language
from polykern.words import Synonyms, read_pairs, synonyms
from polykern.words.draw import Drawn, drawn
from polykern.words.reading import mlp_of, placed
from tests.engine import languages
from tests.engine.wordnets import wordnet

PAIRS = [
    ("the", "then"),
    ("inner", "other"),
    ("rain", "err"),
    ("theatre", "another"),
    ("thin", "man"),
    ("sat", "hat"),
]
WORDS = sorted({w for pair in PAIRS for w in pair})


@pytest.fixture(scope="module")
def language() -> Language:
    return Language(languages.gpt2(), "small", "random: NOT a trained network", languages.vocabulary())


@pytest.fixture(scope="module")
def found(language: Language) -> Synonyms:
    return synonyms(language, PAIRS, tokens=9, text="a {} b")


def test_densities_equal_a_plain_loop(language: Language, found: Synonyms) -> None:
    model, words = language.model, found.words

    def read(word: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Bits and MLP inputs of the token that ends the word, one text at a time."""
        ids = language.vocabulary.pieces([f"a {word}"])[0].ids
        seen: list[torch.Tensor] = []
        handles = [
            model.get_submodule(f"h.{k}.ln_2").register_forward_hook(lambda m, a, out: seen.append(out[0, -1]))
            for k in range(2)
        ]
        model(torch.from_numpy(ids.astype(np.int64))[None])
        for handle in handles:
            handle.remove()
        fc = [model.get_submodule(f"h.{k}.mlp.c_fc") for k in range(2)]
        return [f(x) > 0 for f, x in zip(fc, seen, strict=True)], seen

    for k, (first, second, other) in enumerate(zip(words.first, words.second, words.other, strict=True)):
        bits, x = read(first)
        for kind, word in enumerate((second, other)):
            theirs, y = read(word)
            for layer in range(2):
                assert found.hamming[kind, layer, k] == int((bits[layer] != theirs[layer]).sum())
                assert found.distance[kind, layer, k] == pytest.approx(float((x[layer] - y[layer]).norm()))
    assert np.allclose(found.density, found.hamming / found.distance)
    assert found.bits == (128, 128)


def test_a_word_is_as_many_tokens_as_it_has_alone(language: Language) -> None:
    words = placed(language, WORDS, "a {} b")
    assert set(words) == set(WORDS)
    for word, place in words.items():
        alone = language.vocabulary.pieces([f" {word}"])[0]
        ids = alone.ids[alone.ends > 1].tolist()  # a blank by itself is no part of a word
        assert place.size == len(ids)
        assert list(place.tokens[place.last - len(ids) + 1 : place.last + 1]) == ids
        assert place.rank == max(ids)
    with pytest.raises(UsageError, match="one place"):
        placed(language, WORDS, "a word")


def test_the_mlp_is_what_holds_the_nonlinearity(language: Language) -> None:
    assert mlp_of(language.model, "h.1.mlp.act") == "h.1.mlp"
    assert mlp_of(nn.Sequential(nn.Sequential(nn.Linear(2, 2))), "0") == "0"


# --- which words ------------------------------------------------------------------------------------


def test_other_words_are_the_same_ones_exchanged() -> None:
    pairs = [(f"a{k}", f"b{k}") for k in range(60)] + [("a0", "c"), ("a1", "b2")]
    sizes = {w: 1 + (int(w[1:] or 0) % 3 == 0) for pair in pairs for w in pair} | {"b5": 9}
    ranks = {w: int(w[1:] or 0) for pair in pairs for w in pair}
    found = drawn(pairs, sizes, ranks, 40, 2, seed=3)
    assert isinstance(found, Drawn)
    assert len(set(found.first + found.second)) == 2 * len(found.first)  # no word is in two pairs
    assert sorted(found.other) == sorted(found.second)
    assert 36 <= len(found.first) <= 40
    known = {frozenset(p) for p in pairs}
    for first, second, other in zip(found.first, found.second, found.other, strict=True):
        assert frozenset((first, second)) in known
        assert frozenset((first, other)) not in known
        assert sizes[second] == sizes[other] <= 2
    apart = [abs(ranks[b] - ranks[o]) for b, o in zip(found.second, found.other, strict=True)]
    assert np.mean(apart) < 20  # neighbours by rank: any two of 60 are 20 apart
    assert drawn(pairs, sizes, ranks, 40, 2, seed=3) == found


def test_words_with_equal_codes_are_told_and_drawn(found: Synonyms, tmp_path: Path) -> None:
    same = replace(found, hamming=np.zeros_like(found.hamming))
    same.save(tmp_path)
    told = json.loads((tmp_path / "synonyms.json").read_text())["numbers"]
    assert told["others"]["change of the mean logarithm"] is None
    assert told["others"]["pairs with equal codes"] == told["pairs"]
    assert [layer["ratio"]["value"] for layer in told["layers"].values()] == [None] * len(found.layers)


def test_too_few_words_are_refused(language: Language) -> None:
    with pytest.raises(UsageError, match="pairs of words are left of 6"):
        synonyms(language, PAIRS)  # of one token there are none
    with pytest.raises(UsageError, match="two pairs at least"):
        synonyms(language, PAIRS, count=1)


def test_pairs_are_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("# two a line\nbig large\n\ncouch\tsofa\n")
    assert read_pairs(path) == [("big", "large"), ("couch", "sofa")]
    path.write_text("big large\nbig big\n")
    with pytest.raises(UsageError, match="line 2"):
        read_pairs(path)


# --- what comes of it -------------------------------------------------------------------------------


def test_a_planted_trend_is_found_and_taken_apart() -> None:
    """Bits are halved twice and distances doubled once from each layer to the next: rho falls by ln 8 a layer."""
    rng, n, layers = np.random.default_rng(0), 50, 4
    bits = rng.integers(1, 4, n) * 4**layers
    hamming = np.stack([bits // 4**k for k in range(layers)])
    distance = np.stack([2.0**k * rng.uniform(1, 2, n) for k in range(layers)])
    words = Drawn(*(tuple(f"{c}{k}" for k in range(n)) for c in "abc"))
    other = np.where(np.arange(n) == 0, 0, hamming)  # one pair of equal codes
    found = Synonyms(
        {}, tuple("wxyz"), (4096,) * layers, words, np.stack([hamming, other]), np.stack([distance, distance]),
        np.zeros((2, n, 2), np.int64), 0,
    )  # fmt: skip
    parts, others = found.slopes(0), found.slopes(1)
    assert parts
    assert others
    assert parts["bits"].value == pytest.approx(-3 * np.log(4))
    assert parts["distance"].low < -3 * np.log(2) < parts["distance"].high
    assert parts["density"].value == pytest.approx(parts["bits"].value + parts["distance"].value)
    assert found.trend(0).as_dict() == {"value": -1, "low": -1, "high": -1, "level": 0.95}
    assert (found.equal(0), found.equal(1)) == (0, 1)
    assert others["bits"].value == pytest.approx(-3 * np.log(4))
    assert found.ratio(2).value == pytest.approx(found.density[0, 2].mean() / found.density[1, 2].mean())


def test_the_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from tests.engine import languages\ndef small(): return languages.gpt2(), languages.tokenizer()\n"
    )
    pairs, out = tmp_path / "pairs.txt", tmp_path / "out"
    pairs.write_text("".join(f"{a} {b}\n" for a, b in PAIRS))
    words = ["synonyms", "--model", f"{own}:small", "--tokens", "9", "--json", "--out", str(out)]
    assert run([*words, "--pairs-from", str(pairs)]) == 0
    numbers = json.loads(capsys.readouterr().out)["found"]["numbers"]
    assert json.loads((out / "synonyms.json").read_text())["numbers"] == numbers
    with (out / "pairs.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    mine = [
        int(r["hamming"]) / float(r["distance"])
        for r in rows
        if (r["kind"], r["layer"]) == ("synonyms", "h.1.mlp.act")
    ]
    assert np.mean(mine) == pytest.approx(numbers["layers"]["h.1.mlp.act"]["synonyms"]["density"]["value"])
    assert {"synonyms.json", "synonyms.png", "pairs.csv", "words.csv"} <= {p.name for p in out.iterdir()}
    assert run([*words, "--wordnet", str(wordnet(tmp_path / "wordnet")), "--overwrite", "--no-figures"]) == 0
    found = json.loads(capsys.readouterr().out)["found"]
    assert found["settings"]["given"] == 4  # animal beast, big large, couch sofa, hall lounge
    assert run(words) == 2
    assert "--wordnet" in capsys.readouterr().err

"""WordNet: known answers on a few synsets, the same by plain loops, and the real files where they are installed."""

from collections import deque
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from polykern.errors import CorruptError, UsageError
from polykern.paths.relatedness import read_synsets, relatedness
from polykern.wordnet import WordNet
from tests.engine.wordnets import NOUNS, wordnet

INSTALLED = Path("/usr/share/wordnet")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordNet:
    return WordNet(wordnet(tmp_path_factory.mktemp("wordnet")))


def test_synonyms_share_a_synset(words: WordNet) -> None:
    assert words.synonyms() == [
        ("animal", "beast"), ("big", "large"), ("couch", "lounge"), ("couch", "sofa"), ("hall", "lounge"),
        ("lounge", "sofa"),
    ]  # fmt: skip
    assert words.synonyms(("noun",), first=True) == [("animal", "beast"), ("couch", "sofa"), ("hall", "lounge")]
    assert words.nouns["lounge"] == ("00000099", "00000050")
    assert words.nouns["domestic_dog"] == ("00000020",)


def _distance(a: str, b: str) -> int:
    """Breadth first: up from a as far as one likes, then down to b, one flight of each."""
    down = {s: [k for k, (_, above) in NOUNS.items() if s in above] for s in NOUNS}
    queue = deque([(a, False, 0)])
    while queue:
        at, falling, steps = queue.popleft()
        if at == b:
            return steps
        queue += [(s, True, steps + 1) for s in down[at]]
        queue += [] if falling else [(s, False, steps + 1) for s in NOUNS[at][1]]
    raise AssertionError


def test_distances_are_the_shortest_ways_over_a_common_hypernym(words: WordNet) -> None:
    for a in NOUNS:
        for b in NOUNS:
            assert words.distance(a, b) == _distance(a, b) == words.distance(b, a)
    assert words.distance("00000020", "00000030") == 2  # dog, animal, cat
    assert words.distance("00000090", "00000070") == 2  # Rex is an instance of a dog, which is a pet
    with pytest.raises(UsageError, match="no noun synset 00000002"):
        words.distance("00000002", "00000001")


def test_names_are_matched_by_their_order_where_it_tells(words: WordNet) -> None:
    names = ("animal", "dog", "cat", "couch", "crane", "pet", "crane", "unicorn")
    found = words.matched(names)
    assert found == (
        "00000010", "00000020", "00000030", "00000050", "00000060", "00000070", "00000080", None
    )  # fmt: skip
    assert words.matched(("pet", "crane", "dog", "true cat")) == ("00000070", None, "00000020", "00000030")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no WordNet"):
        WordNet(tmp_path)
    bad = wordnet(tmp_path / "bad")
    data = (bad / "data.noun").read_text().splitlines(keepends=True)
    (bad / "data.noun").write_text("".join([*data[:3], data[3][:30] + "\n", *data[4:]]))
    with pytest.raises(CorruptError, match=r"data\.noun"):
        _ = WordNet(bad).above
    (bad / "index.noun").write_text("dog n 2 1 @ 2 0 00000020\n")
    with pytest.raises(CorruptError, match=r"index\.noun"):
        _ = WordNet(bad).nouns


# --- classes in turn -------------------------------------------------------------------------------


def test_related_neighbours_are_nearer_than_chance(words: WordNet) -> None:
    """Two kinds of animals in turn, and two of furniture: never one beside the other."""
    synsets = ("00000020", "00000030", "00000050", "00000060", None)
    found = relatedness(words, synsets, [[0, 1, 0, 1], [2, 3, 2], [3, 2, 4, 2], [0]], seed=1)
    assert found is not None
    assert found.distance.tolist() == [2, 2, 2, 2, 2, 2]
    assert found.way.tolist() == [0, 0, 0, 1, 1, 2]
    assert (found.matched, found.classes, found.left_out) == (4, 5, 2)
    pairs = [words.distance(str(a), str(b)) for a in synsets[:4] for b in synsets[:4] if a != b]
    assert abs(found.any_pairs.mean() - np.mean(pairs)) < 0.02
    assert found.p(found.any_pairs) < 0.05
    assert found.exchanged.min() >= 2
    assert found.exchanged.mean() > 2.3
    assert found.numbers()["distance"]["value"] == 2


def test_exchanges_keep_the_classes_and_never_put_one_beside_itself(words: WordNet) -> None:
    synsets = ("00000020", "00000030", "00000050", "00000060")
    found = relatedness(words, synsets, [[0, 1, 2], [3, 0]], seed=0)
    assert found is not None
    allowed = set()
    for order in permutations(found.after.tolist()):
        rows = list(zip(found.before.tolist(), order, strict=True))
        if all(a != b for a, b in rows):
            allowed.add(sum(words.distance(synsets[a], synsets[b]) for a, b in rows) / 3)
    assert len(allowed) > 1
    assert set(found.exchanged.round(9)) == {round(x, 9) for x in allowed}
    assert relatedness(words, synsets, [[0], [1, 2, 1]]) is None


def test_synsets_are_read_in_the_order_of_the_classes(words: WordNet, tmp_path: Path) -> None:
    path = tmp_path / "synsets.txt"
    path.write_text("n00000020 dog\n00000030\n")
    assert read_synsets(words, path, 2) == ("00000020", "00000030")
    with pytest.raises(UsageError, match="2 synsets, the network 3 classes"):
        read_synsets(words, path, 3)
    path.write_text("n00000021\n")
    with pytest.raises(UsageError, match="no noun synset n00000021"):
        read_synsets(words, path, 1)


# --- the real files --------------------------------------------------------------------------------


@pytest.mark.skipif(not (INSTALLED / "data.noun").is_file(), reason="Debian's wordnet-base is not installed")
def test_the_real_files_know_what_is_known() -> None:
    words = WordNet(INSTALLED)
    assert len(words.above) == 82_115  # wnstats(7WN): noun synsets of WordNet 3.0
    assert len(words.nouns) == 117_798
    assert words.nouns["tench"] == ("01440764",)
    assert words.distance(words.nouns["dog"][0], words.nouns["cat"][0]) == 4  # NLTK's documentation
    assert words.matched(("tench", "goldfish")) == ("01440764", "01443537")
    assert ("couch", "sofa") in words.synonyms(("noun",), first=True)

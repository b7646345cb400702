"""Every door that takes a user's file, and every file made to do harm: refused in one line, and nothing runs."""

import random
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

from polykern.errors import CorruptError
from polykern.models.gguf import Gguf
from tests.trust import arguments
from tests.trust.ledger import scaled, trial
from tests.trust.malicious import CONTENTS, RAN, gguf, text

REFUSED, CODE = "R11 hostile files: refused", "R9 data is never code"
OUT = ("--out", "new")
# what takes a file: the words, with FILE where it stands, its ending, whether what cannot be read is passed over
DOORS: dict[str, tuple[list[str], str, bool]] = {
    "info": (["info", "FILE"], ".codes", False),
    "verify": (["verify", "FILE"], ".json", False),
    "cluster": (["cluster", "FILE", "--dry-run"], ".codes", False),
    "report": (["report", "FILE"], ".clusters", False),
    "report --store": (["report", "b.clusters", "--store", "FILE"], ".safetensors", False),
    "report --scores": (["report", "b.clusters", "--scores", "FILE"], ".json", False),
    "score": (["score", "FILE"], ".clusters", False),
    "score --by": (["score", "b.clusters", "--by", "FILE"], ".npy", False),
    "score --against": (["score", "b.clusters", "--against", "FILE"], ".npz", False),
    "score --graded": (["score", "b.clusters", "--graded", "test"], "", False),
    "spectrum": (["spectrum", "FILE", *OUT], ".safetensors", False),
    "heatmap --images": (["heatmap", "--images", "FILE", "FILE", "FILE", *OUT], ".npy", False),
    "path --images": (["path", "--images", "FILE", "FILE", *OUT], ".png", False),
    "path --images of a net": (["path", "--model", "nets.py:net", "--images", "FILE", "FILE", *OUT], ".npy", False),
    "ray --image": (["ray", "--image", "FILE", *OUT], ".npy", False),
    "ray --wordnet": (["ray", "--wordnet", "FILE", *OUT], "", False),
    "layers": (["layers", "FILE"], ".pt", False),
    "layers of a file": (["layers", "FILE:net"], ".pt", False),
    "residual --model": (["residual", "--model", "FILE", *OUT], ".gguf", False),
    "capture --model": (["capture", "--model", "folder.pt", *OUT], "", False),
    "capture --images": (["capture", "--model", "nets.py:pixels", "--images", "pictures", *OUT], "", True),
    "capture --corpus of text": (["capture", "--corpus", "FILE", *OUT], ".txt", True),
    "capture --corpus of records": (["capture", "--corpus", "FILE", *OUT], ".jsonl", True),
    "capture --corpus, squeezed": (["capture", "--corpus", "FILE", *OUT], ".jsonl.gz", True),
    "capture --corpus, zst": (["capture", "--corpus", "FILE", *OUT], ".txt.zst", True),
    "capture --corpus of columns": (["capture", "--corpus", "FILE", *OUT], ".parquet", True),
    "embeddings --sae": (["embeddings", "--sae", "FILE", "--at", "output:h.0", *OUT], ".safetensors", False),
    "synonyms --pairs-from": (["synonyms", "--pairs-from", "FILE", *OUT], ".txt", False),
    "bench --from": (["bench", "--from", "FILE"], ".json", False),
    "bench --compare": (["bench", "--list", "--compare", "FILE"], ".json", False),
    "view": (["view", "FILE"], ".html", False),
    "--config": (["layers", "nets.py:net", "--config", "FILE"], ".toml", True),
}  # fmt: skip


@cache
def content(name: str) -> bytes:
    """The bytes of a malicious file."""
    return CONTENTS[name]()


def put(place: Path, name: str, data: bytes, suffix: str) -> list[Path]:
    """Write it under every name that a door may look for; what was made, to be removed."""
    (place / "test").mkdir(exist_ok=True)
    (place / "pictures").mkdir(exist_ok=True)
    (place / "folder.pt").mkdir(exist_ok=True)
    paths = [place / f"evil{suffix}", place / "test" / "answers.json", place / "test" / "questions.csv"]
    paths += [
        place / "pictures" / "a.png",
        place / "folder.pt" / "pytorch_model.bin",
        place / "folder.pt" / "config.json",
    ]
    paths += [place / "folder.pt" / "model.safetensors"]
    for path in paths:
        path.write_bytes(data)
    return paths


@pytest.mark.parametrize("door", DOORS)
def test_a_file_made_to_do_harm(place: Path, door: str) -> None:
    words, suffix, passes = DOORS[door]
    words = [word.replace("FILE", f"evil{suffix}") for word in words]
    for name in random.Random(door).sample(sorted(CONTENTS), scaled(2, len(CONTENTS))):
        made = put(place, name, content(name), suffix)
        before = arguments.contents(place)
        with trial(CODE if "pickle" in name or "objects" in name else REFUSED):
            said = arguments.call(words)
            try:
                arguments.require_clear([door, name, *words], said)
                arguments.require_kept(words, before, place)
                assert said.code in (2, 3, 4, 143) or passes, (door, name, said)
                assert not (place / RAN).exists(), (door, name)
            finally:
                for path in made:
                    path.unlink(missing_ok=True)


def test_any_model_in_gguf_is_read_or_refused(folder: Path) -> None:
    """The one that a package brings; no door takes a user's."""
    fact = text(b"general.alignment") + struct.pack("<II", 4, 32)
    names = text(b"words") + struct.pack("<IIQ", 9, 8, 2) + text(b"a") + text(b"b")
    tensor = text(b"w") + struct.pack("<IQQIQ", 2, 32, 1, 8, 0)
    good = gguf(fact + names, (1, 2), tensor)
    path, rng = folder / "a.gguf", random.Random(0)
    path.write_bytes(good)
    found = Gguf(path)
    assert (found.about["words"], found.tensor("w").shape) == (["a", "b"], (1, 32))
    for number in range(scaled(200)):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.choice([0, 1, 7, 8, 9, 127, 255, rng.randrange(256)])
        path.write_bytes(data[: rng.randrange(len(data))] if number % 4 == 0 else data)
        with trial(REFUSED), suppress(CorruptError):  # anything else is a bug
            read = Gguf(path)
            for name in read.names:
                read.tensor(name)

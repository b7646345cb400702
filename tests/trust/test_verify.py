"""`polykern verify` on every kind of result: 0 for a good one; 3, and the file named, for any that was changed."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from polykern.cli.app import run
from polykern.maps.folder import MapFolder
from polykern.store.sealed import sealed, unsealed
from polykern.verification import examine
from tests.trust.ledger import scaled, trial
from tests.trust.writers import EVERY, Made

PROMISE = "R3 damage: found and named"
HASHED = [name for name in EVERY if name != "explorer"]  # pages are drawn again, nothing is recorded of them


def target(made: Made, folder: Path) -> Path:
    """What `polykern verify` is given."""
    return folder / "run.json" if made.name == "bench" else folder


@pytest.mark.parametrize("name", EVERY)
def test_a_good_result(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    made = EVERY[name]
    made.write(folder / "a")
    at = target(made, folder / "a")
    assert run(["verify", str(at)]) == 0
    told = capsys.readouterr()
    assert ("no hashes were recorded" in told.out) == (name == "explorer")
    assert run(["verify", str(at), "--fast", "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["complete"], said["problems"]) == (True, True, [])
    assert said["of"].startswith("polykern-")


@pytest.mark.parametrize("name", HASHED)
def test_any_change_of_any_file(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    made, rng = EVERY[name], random.Random(name)
    made.write(folder / "good")
    for number in range(scaled(2, 60)):
        for file in sorted(made.contents(folder / "good")):
            path = shutil.copytree(folder / "good", folder / str(number)) / file
            data = bytearray(path.read_bytes())
            how = rng.choice(["flip", "cut", "grow", "gone"])
            if how == "flip":
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            with trial(PROMISE):
                path.write_bytes(data[:-2] if how == "cut" else data + b"\0" if how == "grow" else data)
                if how == "gone":
                    path.unlink()
                code = run(["verify", str(target(made, folder / str(number)))])
                told = capsys.readouterr()
                # without its JSON file a folder is none that was finished
                unknown = how == "gone" and "/" not in file and file.endswith(".json")
                assert code == 3 or (unknown and code == 0 and name == "codes"), (how, file, told)
                assert "Traceback" not in told.err
                assert Path(file).name in told.out + told.err or unknown
            shutil.rmtree(folder / str(number))


@pytest.mark.parametrize("name", ["map", "partition", "findings"])
def test_a_folder_of_an_older_version(folder: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Without inventory and seal it is read, and what cannot be known is said."""
    EVERY[name].write(folder / "a")
    (path,) = (folder / "a").glob("*.json")
    body = unsealed(path.read_bytes())
    del body["files"]
    path.write_text(json.dumps(body))
    assert run(["verify", str(folder / "a")]) == 0
    assert "no hashes were recorded" in capsys.readouterr().out


@pytest.mark.parametrize("entry", ["../outside", "/etc/hostname", "link", "", "a\0b", 7, None])
def test_an_inventory_cannot_lead_out(folder: Path, entry: Any) -> None:
    made = EVERY["findings"]
    made.write(folder / "a")
    (folder / "outside").write_bytes(b"secret")
    (folder / "a" / "link").symlink_to(folder / "outside")
    path = folder / "a" / "lengths.json"
    body = unsealed(path.read_bytes())
    body["files"][0]["name"] = entry
    path.write_bytes(sealed(body))
    with trial("R11 hostile names and sizes: refused"):
        assert examine(folder / "a").problems


def test_what_is_being_made(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: MapFolder) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MapFolder, "sightings", interrupted)  # what comes behind the bands
    with pytest.raises(KeyboardInterrupt):
        EVERY["map"].write(folder / "a")
    assert run(["verify", str(folder / "a")]) == 0
    told = capsys.readouterr().out
    assert "a heat map, 2 bands done" in told
    assert "not complete" in told

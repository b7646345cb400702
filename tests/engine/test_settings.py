"""Where options get their values: flag, environment, file, default; what is refused; what is kept of it."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main

from polykern.cli import app as program
from polykern.cli import settings, variables
from polykern.cli.app import run
from polykern.cli.talk import Talk
from polykern.maps.result import HeatMap
from tests.engine.cli_nets import NETS
from tests.engine.refusals import refused

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, Any] = typer.main.get_command(program.app).commands  # type: ignore[attr-defined]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def told(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """told(words...) is what `polykern config heatmap` says: option -> its value and where it is from."""

    def config(*words: str) -> dict[str, Any]:
        assert run([*words, "config", "heatmap", "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["commands"]["heatmap"]
        return found

    return config


def test_each_source_goes_before_the_next(
    told: Callable[..., dict[str, Any]], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert told()["resolution"] == {"value": 4096, "from": "default"}
    (here / "polykern.toml").write_text("resolution = 7\nseed = 3\n")
    assert told()["resolution"] == {"value": 7, "from": "polykern.toml"}
    (here / "polykern.toml").write_text("resolution = 7\nseed = 3\n[heatmap]\nresolution = 8\n")
    assert told()["resolution"] == {"value": 8, "from": "polykern.toml"}
    monkeypatch.setenv("POLYKERN_RESOLUTION", "9")
    assert told()["resolution"] == {"value": 9, "from": "POLYKERN_RESOLUTION"}
    monkeypatch.setenv("POLYKERN_HEATMAP_RESOLUTION", "10")
    assert told()["resolution"] == {"value": 10, "from": "POLYKERN_HEATMAP_RESOLUTION"}
    assert told()["seed"] == {"value": 3, "from": "polykern.toml"}


@pytest.mark.parametrize("words", [("--config", "x.toml"), ("--config=x.toml",)])
def test_a_file_that_is_named_takes_the_place_of_the_usual_one(
    told: Callable[..., dict[str, Any]], here: Path, words: tuple[str, ...]
) -> None:
    (here / "polykern.toml").write_text("resolution = 7\n")
    (here / "x.toml").write_text("seed = 4\n")
    found = told(*words)
    assert found["seed"] == {"value": 4, "from": "x.toml"}
    assert found["resolution"]["from"] == "default"


def test_the_environment_names_a_file(
    told: Callable[..., dict[str, Any]], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "x.toml").write_text("seed = 4\n")
    monkeypatch.setenv("POLYKERN_CONFIG", "x.toml")
    assert told()["seed"]["value"] == 4


def test_every_kind_of_value(told: Callable[..., dict[str, Any]], here: Path) -> None:
    lines = (
        "log-format = 'json'", "[heatmap]", "figures = false", "window = [0, -1.5, 2]", "select = ['a*', 'b']",
        "images = ['a.png', 'b.png', 'c.png']", "verbose = 2", "zoom = 3", "classes = true",
    )  # fmt: skip
    (here / "polykern.toml").write_text("\n".join(lines))
    found = {name: s["value"] for name, s in told().items() if s["from"] == "polykern.toml"}
    assert found == {
        "log_format": "json", "figures": False, "window": [0.0, -1.5, 2.0], "select": ["a*", "b"],
        "images": ["a.png", "b.png", "c.png"], "verbose": 2, "zoom": 3.0, "classes": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[heatmp]\n", "heatmp is no command(.|\n)*heatmap"),
        ("resolutoin = 3\n", "resolutoin is no option that commands share(.|\n)*resolution"),
        ("zoom = 3\n", "zoom is no option that commands share"),
        ("[heatmap]\nresolutoin = 3\n", "resolutoin is no option of heatmap(.|\n)*resolution"),
        ("[heatmap]\njson = true\n", "json is no option of heatmap"),
        ("[heatmap]\nresolution = true\n", "heatmap.resolution is a number or a word, got True"),
        ("[heatmap]\nfigures = 'no'\n", "heatmap.figures is true or false, got 'no'"),
        ("[heatmap]\nselect = 'a'\n", "heatmap.select is a list, got 'a'"),
        ("[heatmap]\nwindow = [[1], [2], [3]]\n", "heatmap.window is a list"),
        ("[heatmap]\nseed = 2020-01-01\n", "heatmap.seed is a number or a word"),
        ("[heatmap]\nresolution = 2.5\n", "'--resolution'(.|\n)*set by polykern.toml"),
        ("resolution = \n", "polykern.toml cannot be read"),
    ],
)
def test_files_that_do_not_fit(here: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    (here / "polykern.toml").write_text(text)
    assert re.search(said, refused(capsys, "heatmap", "--dry-run"))


def test_a_variable_that_does_not_fit_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYKERN_RESOLUTION", "many")
    assert "set by POLYKERN_RESOLUTION" in refused(capsys, "heatmap", "--dry-run")
    assert "set by" not in refused(capsys, "heatmap", "--dry-run", "--resolution", "many")


def test_a_file_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "x.toml cannot be read" in refused(capsys, "heatmap", "--config", "x.toml")


def test_config_says_what_is_set(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYKERN_CLUSTER_METHOD", "leaf")
    assert run(["config"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:2] == ["file", "none:"]
    assert ["cluster.method", "leaf", "POLYKERN_CLUSTER_METHOD", "POLYKERN_METHOD"] in lines
    assert "no 'heatmp'" in refused(capsys, "config", "heatmp")


def test_a_run_keeps_its_settings_and_is_made_again_from_them(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "nets.py").write_text(NETS)
    (here / "polykern.toml").write_text('[heatmap]\nengine = "float32"\nfigures = false\nviewer = false\n')
    monkeypatch.setenv("POLYKERN_SIGMA", "2.5")
    assert run(["heatmap", "--model", "nets.py:net", "--resolution", "24", "--out", 'a "map"', "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    text = (here / 'a "map"' / "settings.toml").read_text()
    kept = tomllib.loads(text)["heatmap"]
    assert kept == {name: s["value"] for name, s in whole["settings"].items() if s["value"] is not None}
    assert 'engine = "float32"  # polykern.toml' in text
    assert "sigma = 2.5  # POLYKERN_SIGMA" in text
    assert "resolution = 24  # command line" in text
    assert "seed = 0  # default" in text
    assert "# select: not given" in text

    monkeypatch.delenv("POLYKERN_SIGMA")
    (here / "polykern.toml").unlink()
    assert run(["heatmap", "--out", "again", "--config", 'a "map"/settings.toml', "-q"]) == 0
    first, again = (HeatMap.open(here / name).provenance for name in ('a "map"', "again"))
    assert again["config"] == first["config"]


def test_a_dry_run_keeps_nothing(here: Path) -> None:
    (here / "nets.py").write_text(NETS)
    (here / "out").mkdir()
    words = ["--resolution", "8", "--engine", "float32", "--out", "out", "--dry-run", "-q"]
    assert run(["heatmap", "--model", "nets.py:net", *words]) == 0
    assert list((here / "out").iterdir()) == []


def test_every_option_can_be_set() -> None:
    """A name each, but for what is said of one call."""
    for name, command in COMMANDS.items():
        found = list(settings.options(command))
        assert len({key for key, _ in found}) == len(found), name
        flags = {word for p in command.params for word in p.opts if word.startswith("--")}
        left = flags - {word for _, p in found for word in p.opts}
        assert left <= {f"--{word.replace('_', '-')}" for word in settings.ONCE}, name
        for key, param in found:
            assert param.envvar[0] == f"POLYKERN_{name}_{key}".upper()


def test_text_of_a_shell_becomes_text_of_a_file() -> None:
    for word in ("a\x7fb", 'say "no"', "back\\slash", "tab\tline\n", "naïve 😀", ""):
        assert tomllib.loads(f"x = {settings._toml(word)}")["x"] == word


# --- variables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("POLYKERN_BAKEND", "POLYKERN_BACKEND"),
        ("POLYKERN_HEATMAP_RESOLUTOIN", "POLYKERN_HEATMAP_RESOLUTION"),
        ("POLYKERN_HEATMP_RESOLUTION", "POLYKERN_HEATMAP_RESOLUTION"),
        ("POLYKERN_CACHE_DIR", "POLYKERN_CACHE"),
    ],
)
def test_a_misspelt_variable_is_an_error(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "1")
    said = refused(capsys, "config")
    assert f"{name} is in the environment, and no option has it" in said
    assert nearest in said.split("nearest names: ")[1]
    assert len(said.splitlines()) == 2
    monkeypatch.setenv(name, "")
    assert run(["config"]) == 0, "without a value it says nothing"


def test_a_name_like_no_other(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYKERN_QQQQQQQQQQQQQ", "1")
    assert "polykern config COMMAND lists them" in refused(capsys, "config")


def test_known_variables_are_read_by_something(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of options, and those beside them, which something in the tree names, tests left out."""
    for name in (*variables.OTHERS, "POLYKERN_SEED", "POLYKERN_HEATMAP_RESOLUTION", "POLYKERN_REPORT_EXAMPLES"):
        assert name in set(variables.known(COMMANDS))
        if name != "POLYKERN_CONFIG":
            monkeypatch.setenv(name, "1")
    assert run(["config", "-q"]) == 0
    files = [p for root in ("polykern", "kernels", "benches", "tests") for p in (ROOT / root).rglob("*.py")]
    texts = [p.read_text() for p in files if not p.name.startswith("test_")]
    sources = [text for text in texts if "OTHERS = {" not in text]
    assert [name for name in variables.OTHERS if not any(f'"{name}"' in text for text in sources)] == []


def test_every_variable_that_is_read_is_known() -> None:
    names = set(variables.known(COMMANDS))
    for root in ("polykern", "kernels", "benches"):
        for path in (ROOT / root).rglob("*.py"):
            named = set(re.findall(r'"(POLYKERN_[A-Z_]*[A-Z])"', path.read_text()))
            assert named <= names, path


# --- what is left beside results ------------------------------------------------------------------------

# options with the name of a folder or a file that the command reads
READ = {
    "against", "data", "from", "graded", "image", "images", "pairs_from", "sae", "scores", "synsets", "wordnet",
}  # fmt: skip


def places(command: Any) -> dict[str, Any]:
    """The options of a command that name a folder or a file, by their names in a settings file."""
    return {key: p for key, p in settings.options(command) if p.metavar in ("DIR", "FILE")}


def test_what_is_made_and_what_is_read_are_told_apart() -> None:
    for name, command in COMMANDS.items():
        for key, param in places(command).items():
            assert (param.name in settings.MADE) != (key in READ), f"{name} --{key}"


@pytest.mark.parametrize("name", [name for name, c in COMMANDS.items() if set(places(c)) & set(settings.MADE)])
def test_every_folder_that_a_command_makes_has_its_settings(
    here: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the work of the command left out: it makes the folders, and no more."""
    command = COMMANDS[name]
    made = [key for key in places(command) if key in settings.MADE and (name, key) != ("bench", "out")]
    words = [word for key in made for word in (f"--{key}", key)]
    words += [word for p in command.params if p.required and p.name not in made for word in _given(p)]

    def worked(**given: Any) -> None:
        for key in made:
            Path(given[key]).mkdir()

    monkeypatch.setattr(command, "callback", worked)
    context = command.make_context(name, words, obj=Talk(command=("polykern", name, *words)))
    with context:
        command.invoke(context)
    for key in made:
        kept = tomllib.loads((here / key / "settings.toml").read_text())
        assert kept[name][key] == key
        assert f'{key} = "{key}"  # command line' in (here / key / "settings.toml").read_text()


def _given(param: Any) -> list[str]:
    """Words that give a required parameter some value."""
    flags = [word for word in param.opts if word.startswith("--")]
    return [*flags[:1], "x"]

"""Helps and completions: every command has examples that parse, and a shell completes names."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from polykern.cli import app as program
from polykern.cli import completion
from polykern.cli.app import run
from polykern.cli.failures import _Misused as Misused
from polykern.cli.talk import Talk

GROUP: Any = typer.main.get_command(program.app)
COMMANDS: dict[str, Any] = GROUP.commands


def examples(name: str) -> list[str]:
    """The lines at the foot of a help."""
    foot: str = COMMANDS[name].epilog or ""
    return foot.split("\n\n")[1:]


def parsed(line: str) -> Any:
    """The context of an example; raises where an option, or a value, is not what the command takes."""
    program_name, *words = shlex.split(line, comments=True)
    assert program_name == "polykern"
    if words[0] == "--config":
        words = words[2:]
    return COMMANDS[words[0]].make_context(words[0], words[1:], obj=Talk())


def test_every_command_has_examples() -> None:
    assert [name for name in COMMANDS if not examples(name)] == []


@pytest.mark.parametrize("line", [*program.EXAMPLES, *(line for name in COMMANDS for line in examples(name))])
def test_an_example_is_a_command_that_there_is(line: str) -> None:
    context = parsed(line)
    assert context.command.name in line
    assert not context.args


@pytest.mark.parametrize(
    "line", ["polykern heatmap --resolutoin 8", "polykern view --port many demo", "polykern view"]
)
def test_a_wrong_example_would_be_noticed(line: str) -> None:
    with pytest.raises(Misused):
        parsed(line)


def test_examples_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert run([name, "--help"]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "Examples:" in shown
        assert all(" ".join(line.split()) in shown for line in examples(name))


def test_helps_speak_with_one_voice() -> None:
    """Sentences that end."""
    odd = []
    for name, command in COMMANDS.items():
        said = {"": command.help} | {p.name: getattr(p, "help", None) for p in command.params}
        odd += [f"{name} {p}: {text!r}" for p, text in said.items() if not (text or "").endswith((".", "?"))]
    assert odd == []


# --- completion -----------------------------------------------------------------------------------


def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str) -> list[str]:
    """What bash is told to complete the last word with."""
    monkeypatch.setenv("_POLYKERN_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    assert run([]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("polykern heat", ["heatmap"]),
        ("polykern heatmap --model goo", ["googlenet", "googlenet-random", "googlenet-initial"]),
        ("polykern layers digi", ["digits"]),
        ("polykern embeddings --model goo", []),
        ("polykern synonyms --model min", ["minilm"]),
        ("polykern heatmap --engine t", ["tiles"]),
        ("polykern heatmap --device c", ["cpu", "cuda:0"]),
        ("polykern cluster --overw", ["--overwrite"]),
    ],
)
def test_what_a_shell_completes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, found: list[str]
) -> None:
    assert completed(monkeypatch, capsys, words) == found


def test_completed_words_are_those_that_are_taken() -> None:
    from polykern.arithmetic import OPERANDS
    from polykern.maps.choose import ENGINES

    assert tuple(ENGINES) == completion.ENGINES
    assert set(completion.ARITHMETICS) == set(OPERANDS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shell: str
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert run(["--show-completion", shell]) == 0
    assert "_POLYKERN_COMPLETE" in capsys.readouterr().out


def test_the_script_for_a_shell_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run(["--install-completion", "bash"]) == 0
    assert "completion installed" in capsys.readouterr().out
    script = tmp_path / ".bash_completions" / "polykern.sh"
    assert "_POLYKERN_COMPLETE" in script.read_text()
    assert str(script) in (tmp_path / ".bashrc").read_text()

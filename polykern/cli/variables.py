"""The variables of the environment that begin with POLYKERN_: what is read, and what is nobody's.

An option of a command is POLYKERN_COMMAND_OPTION or POLYKERN_OPTION (`polykern.cli.settings`). `OTHERS` are read
beside them. Any other name is an error, as an unknown key of polykern.toml is: a run that takes no notice of what
it was told would be another run.
"""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from polykern.cli.settings import PREFIX, options
from polykern.errors import UsageError

# name -> what it says
OTHERS = {
    "POLYKERN_CONFIG": "a file of settings, as --config",
    "POLYKERN_CACHE": "the folder of weights, trained networks and fetched shards; ~/.cache/polykern by default",
    "POLYKERN_DOWNLOAD": "1: weights that are missing may be fetched",
    "POLYKERN_TRACEBACK": "1: an error comes with its traceback",
    "POLYKERN_RANK_TIMEOUT": "seconds that a process waits for the others; 1800 by default",
    "POLYKERN_BENCH_RANK": "1: this process is one of several that a bench has started",
    "POLYKERN_NOTED": "the file in which `make gpu` notes the tests that had their turn",
    "POLYKERN_SOAK": "how many times the faults and inputs of every day the tests try (`make soak`)",
}


def known(commands: Mapping[str, Any]) -> Iterator[str]:
    """Every name that something reads.

    commands  name -> click's command
    """
    yield from OTHERS
    for command in commands.values():
        for _, param in options(command):
            yield from param.envvar


def require_known(environment: Mapping[str, str], commands: Mapping[str, Any]) -> None:
    """Raise UsageError, with the nearest names, for a variable that says something to nobody.

    environment  name -> value; one without a value says nothing
    commands     name -> click's command
    """
    names = set(known(commands))
    for word in sorted(environment):
        if word.startswith(f"{PREFIX}_") and environment[word] and word not in names:
            near = get_close_matches(word, sorted(names, key=len), 3, 0.75)
            fix = f"nearest names: {', '.join(near)}" if near else "polykern config COMMAND lists them"
            raise UsageError(f"{word} is in the environment, and no option has it", fix=fix)

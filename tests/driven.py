"""A process of the tests that takes a plan a line over its pipes, and answers each with a line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Ask = Callable[..., Any]


@contextmanager
def driven(module: str, environment: Mapping[str, str] = os.environ, *, loud: bool = True) -> Iterator[Ask]:
    """A context with ask(**plan) -> the answer of a process that runs `module`, both as JSON.

    loud  whether its stderr is this one's
    """
    line, root = [sys.executable, "-m", module], Path(__file__).parents[1]
    errors = None if loud else subprocess.DEVNULL
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    with subprocess.Popen(line, text=True, cwd=root, env=environment, **pipes) as process:
        asked, answers = process.stdin, process.stdout
        assert asked
        assert answers

        def ask(**plan: Any) -> Any:
            asked.write(json.dumps(plan) + "\n")
            asked.flush()
            return json.loads(answers.readline())

        yield ask  # behind it the pipes are closed, which ends the process

"""The command line: `polykern heatmap`, `cluster`, `bench` and what goes with them.

stdout carries the result and nothing else: a short table, or one JSON object with --json. stderr carries progress,
warnings and errors. Exit codes: 0 done, 1 a bug, 2 usage, 3 corrupt data, 4 memory, disk or device, 5 a missing
package, 6 another run's results, 7 a case of a bench became slower, 130 and 143 interrupted, to be resumed by the
same command.
"""

import sys


def main() -> None:
    """The entry point of `polykern` and of `python -m polykern`."""
    from polykern.cli.app import run

    sys.exit(run(sys.argv[1:]))

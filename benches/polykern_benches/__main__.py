"""`python -m polykern_benches`: the same as `polykern bench`."""

import sys

from polykern.cli.app import run

sys.exit(run(["bench", *sys.argv[1:]]))

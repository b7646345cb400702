"""`python -m polykern`."""

from polykern.cli import main

main()

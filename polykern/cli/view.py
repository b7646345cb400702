"""`polykern view`: a finished map or report in a browser of this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from polykern.cli import options
from polykern.cli.failures import Interrupted
from polykern.cli.talk import Talk

SCHEMA = "polykern-view/1"
EXAMPLES = (
    "polykern view demo",
    "polykern view minilm.clusters --port 8080",
)


def command(
    ctx: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a finished heat map, or of clusters with a report.")
    ],
    port: options.Port = 0,
) -> None:
    """Show a map or a report over http on 127.0.0.1 until Ctrl-C; nothing else can reach it.

    DIR/viewer/index.html and DIR/report/index.html open from a disk as well. This is for a machine without a
    browser, through a tunnel: ssh -L 8080:127.0.0.1:8080 HOST.
    """
    talk: Talk = ctx.obj

    from polykern.viewer import bound

    with bound(folder, port) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}/"
        talk.result([(url,)], {"schema": SCHEMA, "url": url, "folder": str(folder)})
        talk.say("Ctrl-C ends it")
        try:
            server.serve_forever()
        except Interrupted as asked:
            if asked.number != signal.SIGINT:
                raise

"""Every option of every command: its name, its place in the help, its environment variable, its completion."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from polykern.cli import completion
from polykern.cli.completion import among
from polykern.cli.values import BACKENDS

WHAT, WHERE, HOW, SAID = "What is looked at", "Where", "How it is computed", "What is said"
BACKEND = "POLYKERN_BACKEND"
OWN = "a name that a plug-in registers; or your own: package.module:function, path/to/file.py:function"


def option(
    *names: str, panel: str | None = None, env: str | None = None, metavar: str | None = None, **more: Any
) -> Any:
    """An option with help, in a panel, with POLYKERN_`env` as its environment variable."""
    envvar = env and f"POLYKERN_{env}"
    return typer.Option(*names, rich_help_panel=panel, envvar=envvar, metavar=metavar, **more)


# --- what -----------------------------------------------------------------------------------------

ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", envvar="POLYKERN_MODEL", autocompletion=completion.models,
                   help=f"digits, googlenet, ...; {OWN}."),
]  # fmt: skip
Model = Annotated[
    str,
    option("--model", panel=WHAT, env="MODEL", metavar="MODEL", autocompletion=completion.models,
            help=f"digits, googlenet, ...; {OWN}."),
]  # fmt: skip
LanguageModel = Annotated[
    str,
    option("--model", panel=WHAT, env="MODEL", metavar="MODEL", autocompletion=completion.languages,
            help=f"minilm, smollm2, gpt2, a folder of transformers' files; {OWN}."),
]  # fmt: skip
Start = Annotated[
    str | None,
    option("--start", panel=WHAT, env="START", metavar="MODULE",
            help='Module at whose input the code begins; "" is the model\'s input.'),
]  # fmt: skip
Stop = Annotated[
    str,
    option("--stop", panel=WHAT, env="STOP", metavar="MODULE",
            help="Module after whose output the code ends. Default: the model's output."),
]  # fmt: skip
Select = Annotated[
    list[str] | None,
    option("--select", panel=WHAT, metavar="GLOB",
            help="Nonlinearities that make the code, by module or TransformerLens name; repeatable. Default: all."),
]  # fmt: skip
Images = Annotated[
    tuple[str, str, str] | None,
    option("--images", panel=WHAT, metavar="A B C", help="The three inputs, as files."),
]
Indices = Annotated[
    tuple[int, int, int] | None,
    option(
        "--indices",
        panel=WHAT,
        metavar="I J K",
        help="The three inputs, as numbers of examples. Default: the model's own.",
    ),
]

Clusters = Annotated[Path, typer.Argument(metavar="CLUSTERS", help="Folder of a finished clustering.")]
StoreOf = Annotated[
    str | None, option("--store", metavar="STORE", help="Its store of codes. Default: where it was clustered.")
]

# --- where ----------------------------------------------------------------------------------------

Out = Annotated[
    Path | None,
    option("--out", env="OUT", metavar="DIR", help="Folder of the result; a run begun in it is finished."),
]
Resolution = Annotated[
    int, option("--resolution", panel=WHERE, env="RESOLUTION", metavar="N", help="Pixels a side.")
]
WindowOf = Annotated[
    tuple[float, float, float] | None,
    option("--window", panel=WHERE, metavar="U V SIDE",
            help="Square of the plane: corner and side, L2 units. Default: the triangle and half of it around."),
]  # fmt: skip
Zoom = Annotated[float, option("--zoom", panel=WHERE, metavar="X", help="Magnify the window X times.")]
Centre = Annotated[
    tuple[float, float] | None,
    option("--centre", panel=WHERE, metavar="U V", help="Where --zoom looks. Default: the window's middle."),
]
Sigma = Annotated[
    float | None,
    option("--sigma", panel=WHERE, env="SIGMA", metavar="PX",
            help="Width of the Gaussian over the density. Default: 16 at 4096 pixels, else in proportion."),
]  # fmt: skip

# --- how ------------------------------------------------------------------------------------------

Engine = Annotated[
    str,
    option("--engine", panel=HOW, env="ENGINE", metavar="NAME", autocompletion=among(*completion.ENGINES),
            help="auto (measures and says why it chose), tiles, anchored, scanline, float32 or float64."),
]  # fmt: skip
Arithmetic = Annotated[
    str | None,
    option("--arithmetic", panel=HOW, env="ARITHMETIC", metavar="NAME",
            autocompletion=among(*completion.ARITHMETICS),
            help="Of anchored differences: float32, float16 or bfloat16. Default: what suits the device."),
]  # fmt: skip
Device = Annotated[
    str,
    option("--device", panel=HOW, env="DEVICE", metavar="NAME", autocompletion=among(*completion.DEVICES),
            help="cpu, cuda:N or auto, which is the first GPU, or the CPU where there is none."),
]  # fmt: skip
Classes = Annotated[
    bool | None,
    option("--classes/--no-classes", panel=HOW, metavar="",
            help="Map the class of every pixel as well. Default: where the model names its classes."),
]  # fmt: skip


def kernels(word: str) -> str:
    """Let a backend that was named be that of every kernel of this run (`polykern_kernels._dispatch`)."""
    if word.isascii() and word.isalnum():  # others are refused when they are read
        os.environ[BACKEND] = word
    return word


Backend = Annotated[
    str,
    option("--backend", panel=HOW, env="BACKEND", metavar="NAME", callback=kernels,
            autocompletion=among(*BACKENDS),
            help="Kernels: cpu, triton (on a GPU), reference (slow, right) or auto, which follows --device."),
]  # fmt: skip
Memory = Annotated[
    str,
    option("--memory-budget", panel=HOW, env="MEMORY_BUDGET", metavar="SIZE",
            help="Memory the process may take; batches shrink to fit."),
]  # fmt: skip
Seed = Annotated[
    int, option("--seed", panel=HOW, env="SEED", min=0, metavar="N", help="Seed of everything random.")
]
Overwrite = Annotated[bool, option("--overwrite", metavar="", help="Replace what another run left in DIR.")]
DryRun = Annotated[
    bool,
    option("--dry-run", metavar="", help="Say what it would take (rows, disk, memory, time) and write nothing."),
]
Port = Annotated[int, option("--port", metavar="N", min=0, max=65535, help="Port; 0 takes a free one.")]
Viewer = Annotated[
    bool, option("--viewer/--no-viewer", metavar="", panel=SAID, help="Write DIR/viewer, a page to explore.")
]
Figures = Annotated[bool, option("--figures/--no-figures", metavar="", panel=SAID, help="Write PNG figures.")]

# --- said -----------------------------------------------------------------------------------------

Json = Annotated[bool, option("--json", metavar="", panel=SAID, help="One JSON object on stdout, errors included.")]
Quiet = Annotated[bool, option("--quiet", "-q", metavar="", panel=SAID, help="Say nothing on stderr but errors.")]
Verbose = Annotated[
    int,
    option("--verbose", "-v", panel=SAID, count=True, metavar="",
            help="Say every step; twice: tracebacks of errors as well."),
]  # fmt: skip
Log = Annotated[
    str,
    option("--log-format", panel=SAID, env="LOG_FORMAT", metavar="NAME",
            help="Form of the lines on stderr: text or json."),
]  # fmt: skip

"""`polykern layers`: which nonlinearities a model has, and which bits of a code they make."""

from dataclasses import asdict

import typer

from polykern.cli import options
from polykern.cli.talk import Talk

SCHEMA = "polykern-layers/1"
EXAMPLES = (
    "polykern layers digits",
    "polykern layers googlenet --start inception5a --select 'inception5b.*'",
)
HEADS = ("module", "call", "kind", "shape", "bits", "offset")


def command(
    ctx: typer.Context,
    model: options.ModelName,
    start: options.Start = None,
    stop: options.Stop = "",
    select: options.Select = None,
    seed: options.Seed = 0,
) -> None:
    """List the nonlinearities of a model between --start and --stop, in the order of the code.

    Without --start: from the model's own input. Behind the MLP of a transformer block stands the name that
    TransformerLens gives it, which selects it as well.
    """
    talk: Talk = ctx.obj

    from polykern.models import load
    from polykern.selectors import lens_name
    from polykern.tail import Tail

    subject = load(model, seed=seed)
    tail = Tail(subject.model, subject.sample, start or "", stop=stop, select=select or "*")
    found = [{**asdict(f), "bits": f.bits, "lens_name": lens_name(f)} for f in tail.layout.fields]
    lines = [
        (
            f.module or "(the model)",
            str(f.call),
            f.kind,
            " x ".join(map(str, f.shape)),
            f"{f.bits:,}",
            f"{f.offset:,}",
            lens_name(f) or "",
        )
        for f in tail.layout.fields
    ]
    total = f"{tail.layout.bits:,}"
    whole = {
        "schema": SCHEMA,
        "model": subject.name,
        "note": subject.note,
        "start": tail.start,
        "stop": tail.stop or None,
        "input_shape": list(tail.input_shape),
        "bits": tail.layout.bits,
        "layers": found,
    }
    talk.result([(*HEADS, ""), *lines, ("total", "", "", "", total, "", "")], whole, right=(1, 4, 5))

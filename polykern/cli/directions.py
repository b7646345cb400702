"""`polykern directions`: directions of a layer's activations beside the clusters of its codes."""

from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import asked, options, values
from polykern.cli.finding import Out, require_free, tell
from polykern.cli.talk import Talk
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.factors import Directions

EXAMPLES = (
    "polykern directions --model digits --out directions",
    "polykern directions --model digits --layer relu4 --family nmf --family pca --no-steering --out directions",
)
BACKENDS = ("auto", "sklearn", "torch")

Layer = Annotated[
    str | None,
    options.option("--layer", panel=options.WHAT, env="LAYER", metavar="NAME",
                   help="One nonlinearity; `polykern layers MODEL` lists them. Default: the last that has places."),
]  # fmt: skip
Families = Annotated[
    list[str] | None,
    options.option("--family", panel=options.WHAT, metavar="NAME",
                   help="nmf, pca, neurons, random; repeatable. Default: all."),
]  # fmt: skip
Rows = Annotated[
    int, options.option("--rows", panel=options.WHAT, env="ROWS", metavar="N", help="Rows at most, drawn from all.")
]
Components = Annotated[
    int | None,
    options.option("--components", panel=options.HOW, env="COMPONENTS", metavar="K",
                   help="Components of NMF, PCA and dictionaries. Default: 64, or a quarter of the units where "
                   "that is less."),
]  # fmt: skip
Size = Annotated[
    int, options.option("--min-cluster-size", panel=options.HOW, env="MIN_CLUSTER_SIZE", metavar="N",
                        help="Smallest cluster that HDBSCAN of the codes takes."),
]  # fmt: skip
Selection = Annotated[
    str,
    options.option("--selection", panel=options.HOW, env="SELECTION", metavar="NAME",
                   help="Which clusters HDBSCAN takes: eom or leaf."),
]  # fmt: skip
Top = Annotated[
    float, options.option("--top", panel=options.HOW, env="TOP", metavar="SHARE",
                          help="Share of the rows that count as nearest to a direction."),
]  # fmt: skip
Permutations = Annotated[
    int,
    options.option(
        "--permutations", panel=options.HOW, metavar="N", help="Permutations of the labels, for what chance gives."
    ),
]
Dictionaries = Annotated[
    bool, options.option("--dictionaries/--no-dictionaries", panel=options.HOW, metavar="",
                         help="Learn dictionaries of the codes."),
]  # fmt: skip
Tau = Annotated[
    list[float] | None,
    options.option("--tau", panel=options.HOW, metavar="T",
                   help="Steer by bits whose frequencies differ by more; repeatable. Default: 0.3, 0.5, 0.7."),
]  # fmt: skip
Steering = Annotated[
    bool, options.option("--steering/--no-steering", panel=options.HOW, metavar="",
                         help="Force the masks of classes and see what logits do."),
]  # fmt: skip
NmfBackend = Annotated[
    str, options.option("--backend", panel=options.HOW, env="NMF_BACKEND", metavar="NAME",
                        help="What computes NMF: sklearn, torch (on --device), or auto."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    out: Out,
    model: options.Model = "digits",
    layer: Layer = None,
    family: Families = None,
    rows: Rows = 20_000,
    components: Components = None,
    min_cluster_size: Size = 10,
    selection: Selection = "eom",
    top: Top = 0.01,
    permutations: Permutations = 1000,
    dictionaries: Dictionaries = True,
    steering: Steering = True,
    tau: Tau = None,
    device: options.Device = "auto",
    backend: NmfBackend = "auto",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    figures: options.Figures = True,
) -> None:
    """Find directions in a layer's activations and hold them against the clusters of its codes.

    For each NMF and PCA direction: how pure the rows nearest to it are, beside permuted labels, single neurons and
    random directions; how many boundaries it crosses; whether its values fall into intervals that mean something.
    Then dictionaries of the codes, and what logits do when the mask of a class is forced.
    """
    talk: Talk = ctx.obj
    for name, value in (("--rows", rows), ("--permutations", permutations), ("--top", top)):
        values.positive(name, value)
    if top > 1:
        raise UsageError(f"--top is a share of the rows, 0 to 1, got {top:g}")
    for given in tau or ():
        if not 0 <= given < 1:
            raise UsageError(f"--tau is a difference of frequencies, 0 to 1, got {given:g}")
    values.one_of("--backend", backend, BACKENDS)
    require_free(out, overwrite=overwrite)
    place = values.device(device, "auto")

    from polykern.clustering.selection import METHODS
    from polykern.factors import directions
    from polykern.factors.compute import FAMILIES, TAUS

    values.one_of("--selection", selection, METHODS)
    for name in family or ():
        values.one_of("--family", name, FAMILIES)
    subject = asked.subject(talk, model, seed)
    with talk.progress("steps") as progress:
        found = directions(
            subject, layer, components=components, families=family or FAMILIES,
            min_cluster_size=min_cluster_size, selection=selection, top=top, rows=rows, dictionaries=dictionaries,
            taus=(tau or TAUS) if steering else (), permutations=permutations, seed=seed, device=place,
            backend=None if backend == "auto" else backend, progress=progress,
        )  # fmt: skip
    tell(talk, found, out, _rows(found), overwrite=overwrite, figures=figures)


def _rows(found: "Directions") -> list[tuple[str, ...]]:
    noise = (found.labels < 0).mean()
    rows: list[tuple[str, ...]] = [
        ("layer", f"{found.about['settings']['layer']}, {len(found.labels):,} rows of {found.units:,} units"),
        ("clusters", f"{found.labels.max() + 1}, {noise:.1%} noise"),
    ]
    for f in found.families:
        rows.append((f"purity of {f.name}", f"{f.clustered.median}, chance {f.clustered.chance:.3f}"))
        if f.classes is not None:
            rows.append((f"  by class of {f.name}", f"{f.classes.median}, chance {f.classes.chance:.3f}"))
        rows.append((f"  boundaries of {f.name}", f"{f.crossed.mean():.1f} of {found.units:,} on average"))
    rows += [(f"dictionary {name}", f"{s.error:.2f} wrong bits a row") for name, s in found.dictionaries]
    rows += [
        (f"steering, tau {s.tau:g}", f"{s.effect} of the logit beyond random masks, {s.bits.mean():.0f} bits")
        for s in found.steered
    ]
    return rows

"""`polykern cluster`: exact HDBSCAN of the rows of a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polykern.cli import options, values
from polykern.cli.completion import among
from polykern.cli.pace import spelled
from polykern.cli.talk import Talk, shared
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.clustering.recipe import Recipe
    from polykern.clustering.result import Clusters

RESULT, PLAN = "polykern-cluster-result/1", "polykern-cluster-plan/1"
EXAMPLES = (
    "polykern cluster minilm.codes --out minilm.clusters",
    "polykern cluster minilm.codes --min-cluster-size 10,25 --min-samples 5 --method leaf --out minilm.clusters",
    "polykern cluster minilm.codes --metric jaccard --dry-run",
)
TREE = "How clusters are taken from the tree"
BACKENDS = (*values.BACKENDS, "cuml")

option = options.option

Sizes = Annotated[
    str,
    option("--min-cluster-size", panel=TREE, env="MIN_CLUSTER_SIZE", metavar="N[,N...]",
            help="Rows of the smallest cluster; several come from one tree, a folder each."),
]  # fmt: skip
Samples = Annotated[
    str | None,
    option("--min-samples", panel=TREE, env="MIN_SAMPLES", metavar="K[,K...]",
            help="A row's core distance is that to its K-th neighbour, itself not counted; several cost one pass. "
                 "Default: the size of the smallest cluster."),
]  # fmt: skip
Method = Annotated[
    str, option("--method", panel=TREE, env="METHOD", metavar="NAME", help="eom (excess of mass) or leaf.")
]
Epsilon = Annotated[
    float, option("--epsilon", panel=TREE, metavar="X", help="Clusters closer than this are not split.")
]
Single = Annotated[
    bool, option("--allow-single-cluster", panel=TREE, metavar="", help="The whole may be one cluster.")
]
Largest = Annotated[
    int, option("--max-cluster-size", panel=TREE, min=0, metavar="N", help="Larger ones are split; 0: no limit.")
]
Ties = Annotated[
    str,
    option("--tie-order", panel=TREE, metavar="NAME",
            help="multiway: equal distances merge at once, so that the order of rows does not matter; hdbscan: one "
                 "after the other, as that package does."),
]  # fmt: skip
Metric = Annotated[
    str,
    option("--metric", panel=options.HOW, env="METRIC", metavar="NAME",
            help="hamming or jaccard of codes; euclidean or cosine of activations. Default: the first of either."),
]  # fmt: skip
Of = Annotated[
    str | None,
    option("--activations", panel=options.WHAT, metavar="FIELD",
            help="Cluster the activations kept of this nonlinearity instead of the codes."),
]  # fmt: skip
Backend = Annotated[
    str,
    option("--backend", panel=options.HOW, env="BACKEND", metavar="NAME",
            autocompletion=among(*BACKENDS),
            help="Kernels: cpu, triton (on a GPU), reference (slow, right) or auto, which follows --device; cuml: "
                 "its tree, on a GPU, not exact."),
]  # fmt: skip


def command(
    ctx: typer.Context,
    store: Annotated[str, typer.Argument(metavar="STORE", help="Folder or URL of a finished store of codes.")],
    out: options.Out = None,
    select: options.Select = None,
    activations: Of = None,
    metric: Metric = "",
    min_cluster_size: Sizes = "10",
    min_samples: Samples = None,
    method: Method = "eom",
    epsilon: Epsilon = 0.0,
    allow_single_cluster: Single = False,
    max_cluster_size: Largest = 0,
    tie_order: Ties = "multiway",
    device: options.Device = "auto",
    backend: Backend = "auto",
    memory_budget: options.Memory = "8GiB",
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
) -> None:
    """Find the clusters of the rows of a store by exact HDBSCAN.

    Neighbours, spanning tree and clusters are exact, the same on every backend and for every order of the rows.
    Rows with equal codes are compared once. `polykern report` shows the result.

    Under torchrun or srun its processes divide the search and the first one writes; the result is the same.

    An interrupted run is finished by the same command. A folder with another run's clusters is refused (exit code
    6).
    """
    talk: Talk = ctx.obj
    budget, where = values.size(memory_budget), _device(device, backend)
    sizes = _numbers("--min-cluster-size", min_cluster_size)
    samples = None if min_samples is None else _numbers("--min-samples", min_samples)
    values.finite("--epsilon", epsilon)

    from polykern.clustering.recipe import prepare
    from polykern.store import Store

    recipe = prepare(
        Store.open(store), select=select or "*", activations=activations, metric=metric or None,
        min_cluster_size=sizes, min_samples=samples, method=method, epsilon=epsilon,
        allow_single_cluster=allow_single_cluster, max_cluster_size=max_cluster_size, tie_order=tie_order,
        device=where, backend=None if backend == "auto" else backend,
    )  # fmt: skip
    if dry_run:
        _say_plan(talk, recipe, budget)
        return
    if out is None:
        raise UsageError("no folder for the result", fix="--out DIR, or --dry-run to see what it would take")
    found = _made(talk, recipe, out, budget, overwrite=overwrite)
    if found:
        _say(talk, recipe, found)


def _device(device: str, backend: str) -> str:
    values.one_of("--backend", backend, BACKENDS)
    return values.device(device, "triton" if backend == "cuml" else backend)


def _numbers(option: str, word: str) -> list[int]:
    """10,25,50"""
    parts = [part.strip() for part in word.split(",")]
    if not all(part.isdecimal() and len(part) < 19 for part in parts):
        raise UsageError(f"{option} has no {word!r}", fix="write whole numbers with commas between: 10,25,50")
    return [int(part) for part in parts]


def _made(talk: Talk, recipe: "Recipe", out: Path, budget: int, *, overwrite: bool) -> "list[Clusters]":
    """The finished clusterings; from here on an interruption leaves something to go on with."""
    from polykern.clustering.compute import compute
    from polykern.clustering.plan import fitted, require_disk

    recipe = fitted(recipe, budget)
    require_disk(recipe, out)
    talk.started = True
    with talk.progress("rows") as progress:
        return compute(recipe, out, overwrite=overwrite, progress=progress)


def _say(talk: Talk, recipe: "Recipe", found: "list[Clusters]") -> None:
    rows: list[tuple[str, str]] = []
    for one in found:
        p, counts = one.about["parameters"], one.about["counts"]
        if len(found) > 1:
            rows.append(("run", f"min_cluster_size {p['min_cluster_size']}, min_samples {p['min_samples']}"))
        rows += [
            ("clusters", f"{counts['clusters']:,} of {counts['rows']:,} rows, {counts['distinct']:,} distinct"),
            ("noise", f"{counts['noise']:,} rows, {counts['noise_share']:.1%}"),
            ("sizes", _sizes(one)),
            ("folder", str(one.folder)),
        ]
    tree = found[0].about["tree"]
    seconds = sum(found[0].about["timings"].values())
    rows += [
        ("tree", f"weight {tree['weight']:,}, {tree['passes']:.2f} passes in {tree['rounds']} rounds"),
        ("time", spelled(seconds)),
        ("to read", f"polykern report {found[0].folder}"),
    ]
    runs = [{"folder": str(one.folder), "about": one.about} for one in found]
    talk.result(rows, {"schema": RESULT, "runs": runs})


def _sizes(found: "Clusters") -> str:
    size = found.members["size"]
    if not len(size):
        return "none"
    largest, median, smallest = size[0], size[len(size) // 2], size[-1]
    return f"{largest:,} the largest, {median:,} the median, {smallest:,} the smallest"


def _say_plan(talk: Talk, recipe: "Recipe", budget: int) -> None:
    from polykern.amounts import shown
    from polykern.clustering.plan import plan

    found = plan(recipe)
    found.left(budget)
    kind = "bits" if recipe.activations is None else "numbers"
    rows = [
        ("rows", f"{found.rows:,} of {found.width:,} {kind}"),
        *shared(found.ranks, found.share),
        ("runs", f"{len(recipe.runs)}, from one search of neighbours"),
        ("memory", f"{shown(found.memory)} of {shown(budget)}"),
        ("disk", shown(found.disk)),
        ("time", f"about {spelled(found.seconds)} on {recipe.device}"),
    ]
    talk.result(rows, {"schema": PLAN, "budget": budget, "device": recipe.device, **found.as_dict()})

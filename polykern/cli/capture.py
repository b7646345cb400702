"""`polykern capture`: a model and its data to a store of codes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from polykern.cli import capture_options as own
from polykern.cli import options, values
from polykern.cli.pace import spelled
from polykern.cli.talk import Talk, shared
from polykern.errors import UsageError

if TYPE_CHECKING:
    from polykern.capturing.plan import Plan
    from polykern.capturing.prepare import Choice
    from polykern.capturing.record import Capture
    from polykern.capturing.unit import Source

RESULT, PLAN = "polykern-capture-result/1", "polykern-capture-plan/1"
EXAMPLES = (
    "polykern capture --model minilm --corpus stdlib --limit-tokens 20000 --out minilm.codes",
    "polykern capture --model googlenet --images photographs --select 'inception5b.*' --out photographs.codes",
    "polykern capture --model smollm2 --corpus pile.jsonl.zst --block 3 --activations fp16 --dry-run",
)


def command(
    ctx: typer.Context,
    out: options.Out = None,
    model: options.Model = "minilm",
    corpus: own.CorpusOf = None,
    images: own.ImagesOf = None,
    start: own.Start = "",
    stop: options.Stop = "",
    select: own.Select = None,
    block: own.Block = None,
    from_block: own.FromBlock = None,
    activations: own.Activations = None,
    tokens: own.TokensOf = "every",
    skip: own.Skip = None,
    length: own.Length = None,
    pack: own.Pack = None,
    text_key: own.TextKey = "text",
    limit_tokens: own.LimitTokens = None,
    limit_documents: own.LimitDocuments = None,
    positions: own.Positions = "whole",
    strict: own.Strict = False,
    dtype: own.Dtype = "float32",
    batch: own.Batch = None,
    shard_size: own.ShardSize = "128MiB",
    device: options.Device = "auto",
    memory_budget: options.Memory = "8GiB",
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
) -> None:
    """Run a model over text or pictures and keep the spline codes of tokens, pictures or places in a store.

    A bit of a code says whether a neuron's pre-activation is above its threshold. Codes are packed while the model
    runs, and come with what a person needs to look at them: the tokens around each, or the pictures.

    Every shard is committed whole or not at all. An interrupted run is finished by the same command and gives the
    same bytes; a folder with another run's codes is refused (exit code 6).
    """
    talk: Talk = ctx.obj
    if out is None and not dry_run:
        raise UsageError("no folder for the codes", fix="--out DIR, or --dry-run to see what it would take")
    if corpus and images:
        raise UsageError("--corpus and --images are two kinds of data", fix="leave one of the two out")
    budget, where = values.size(memory_budget), values.device(device, "auto")
    size = values.size(shard_size)
    given: dict[str, Any] = {
        "length": length, "pack": pack, "text_key": text_key, "limit_tokens": limit_tokens,
        "limit_documents": limit_documents, "strict": strict, "batch": batch, "dtype": dtype, "device": where,
    }  # fmt: skip
    choice = _choice(select, start, stop, block, from_block, activations)
    if corpus or _reads_text(model, images):
        source = _text(model, corpus, choice, tokens, skip, given)
    else:
        source = _pictures(model, images, choice, positions, seed, given)
    talk.say(source.about()["model"]["note"])
    if out is None or dry_run:
        _say_plan(talk, _fitted(source, size, budget, measured=True), budget, where)
        return
    _fitted(source, size, budget, measured=False)
    _say(talk, _made(talk, source, out, size, overwrite=overwrite))


def _choice(
    select: list[str] | None, start: str, stop: str, block: list[int] | None, first: int | None,
    activations: list[str] | None,
) -> "Choice":  # fmt: skip
    from polykern.capturing import watch
    from polykern.capturing.prepare import Choice

    return Choice(select, start, stop, block, first, watch.activations(activations or []))


def _reads_text(model: str, images: Path | None) -> bool:
    from polykern.capturing.prepare import reads_text

    return images is None and reads_text(model)


def _text(
    model: str, corpus: list[str] | None, choice: "Choice", tokens: str, skip: int | None, given: dict[str, Any]
) -> "Source":
    from polykern.capturing import prepare
    from polykern.capturing.watch import DTYPES

    if not corpus:
        raise UsageError(f"{model} reads text, and there is none", fix="--corpus FILE, DIR, stdlib or -")
    values.one_of("--dtype", given["dtype"], tuple(DTYPES))
    return prepare.text(model, corpus, choice, tokens=tokens, skip=skip, **given)


def _pictures(
    model: str, images: Path | None, choice: "Choice", positions: str, seed: int, given: dict[str, Any]
) -> "Source":
    from polykern.capturing import pictures, prepare

    unused = [name for name in ("length", "pack", "limit_tokens") if given[name] is not None]
    if unused:
        raise UsageError(f"--{unused[0].replace('_', '-')} is for text, {model} looks at pictures")
    kept = {name: given[name] for name in ("strict", "batch", "device")}
    at = pictures.places(positions)
    return prepare.pictures(model, images, choice, at=at, limit=given["limit_documents"], seed=seed, **kept)


def _fitted(source: "Source", size: int, budget: int, *, measured: bool) -> "Plan":
    """The plan; batches shrink until they fit into the budget."""
    from dataclasses import replace

    from polykern.amounts import resident
    from polykern.capturing.plan import fitted, plan

    found = plan(source, size, resident(), measured=measured)
    source.batch = fitted(found, budget, source.load([source.largest()]), _room(source))
    return replace(found, batch=source.batch)


def _room(source: "Source") -> int | None:
    """Bytes that are free on the GPU, None where passes are run in the process."""
    import torch

    device = next((p.device for p in source.watch.model.parameters()), torch.device("cpu"))
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def _made(talk: Talk, source: "Source", out: Path, size: int, *, overwrite: bool) -> "Capture":
    """The finished store; from here on an interruption leaves something to go on with."""
    from polykern.capturing.record import record

    talk.started = source.again
    layout = source.watch.layout
    talk.say(f"{layout.bits:,} bits of {len(layout.fields)} nonlinearities", "debug")
    with talk.progress(source.counted) as progress:
        return record(source, out, shard_bytes=size, overwrite=overwrite, progress=progress)


def _say(talk: Talk, made: "Capture") -> None:
    about, manifest = made.manifest.about, made.manifest
    rate = f", {made.fresh / made.seconds:,.0f} a second" if made.fresh else ""
    rows = [
        ("codes", f"{made.rows:,} rows of {made.bits:,} bits in {len(manifest.layout.fields)} layers"),
        ("model", str(about["model"]["name"])),
        ("new", f"{made.fresh:,} rows in {spelled(made.seconds)}{rate}"),
        ("shards", f"{made.shards:,}"),
    ]
    rows += [("kept", ", ".join(manifest.activations))] if manifest.activations else []
    passed = about.get("passed_over", 0)
    rows += [("passed over", f"{passed:,}: {'; '.join(about['passed_over_first'][:3])}")] if passed else []
    replaced = about.get("parts_with_replaced_bytes", 0)
    rows += [("no UTF-8", f"bytes were replaced in {replaced:,} documents")] if replaced else []
    rows += [] if manifest.complete else [("to come", "what other tasks make; the last one completes the store")]
    rows.append(("folder", str(made.folder)))
    whole = {
        "schema": RESULT,
        "folder": str(made.folder),
        "complete": manifest.complete,
        "rows": made.rows,
        "new_rows": made.fresh,
        "shards": made.shards,
        "bits": made.bits,
        "seconds": made.seconds,
        "config_hash": manifest.config_hash,
        "about": dict(about),
    }
    talk.result(rows, whole)


def _say_plan(talk: Talk, found: "Plan", budget: int, device: str) -> None:
    from polykern.amounts import shown

    unknown = "nobody knows: the data do not say how long they are"
    rows = [
        ("rows", unknown if found.rows is None else f"about {found.rows:,}"),
        *shared(found.ranks, found.share),
        ("bits", f"{found.bits:,} each, {found.row:,} bytes a row and {found.seen:,} to look at"),
        ("disk", unknown if found.disk is None else f"about {shown(found.disk)}"),
        ("memory", f"about {shown(found.memory)} of {shown(budget)}, with {found.batch:,} in a pass"),
        ("time", unknown if found.seconds is None else f"about {spelled(found.seconds)} on {device}"),
    ]
    talk.result(rows, {"schema": PLAN, "budget": budget, "device": device, **found.as_dict()})

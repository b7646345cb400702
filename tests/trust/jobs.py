"""The smallest real job of every command, and what is left of it that must be the same each time."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine.cli_nets import NETS
from tests.engine.languages import TEXT

BROAD = """
def broad():
    torch.manual_seed(0)
    return wide()
"""
OWN = """
from tests.engine import languages
def small(): return languages.gpt2(), languages.tokenizer()
"""
PASSING = ("timings", "seconds", "check", "files")  # of a result: how long it took, and what hangs on it
MEASURED = ("case", "params", "dtype", "backend", "peer", "device")  # of a record of a bench: what was measured
QUIET = ("--no-figures", "--no-viewer")


@dataclass(frozen=True)
class Job:
    """A command line.

    name   of the command, and of what it does where there are several
    words  behind `polykern`; {in} is the folder of `prepared`, {out} what it writes
    needs  jobs that come first; {NAME} is what one of them wrote
    again  how the same line goes on where it was interrupted: "resumes", or "begins" anew, with --overwrite
    """

    name: str
    words: str
    needs: tuple[str, ...] = field(default=())
    again: str = "begins"

    def line(self, place: Path, out: Path, **more: Path) -> list[str]:
        """The words, with names of folders in them; `more` are others than those of `prepared`."""
        known = {"in": place, "out": out, **{name: place / name for name in JOBS}, **more}
        return [word.format(**known) for word in self.words.split()]


HEAT = "heatmap --model {in}/nets.py:net --resolution 40 --no-figures --no-viewer --device cpu --out {out}"
TEXTS = "--model {in}/own.py:small --corpus {in}/text --length 16 --device cpu"
TO = "--no-figures --out {out}"
EVERY = (
    Job("heatmap", f"{HEAT} --engine float32", again="resumes"),
    Job("heatmap-tiles", f"{HEAT} --engine tiles", again="resumes"),
    Job("heatmap-anchored", f"{HEAT} --engine anchored", again="resumes"),
    Job("partition", f"partition --model {{in}}/nets.py:net --no-viewer {TO}"),
    Job("path", f"path --indices 16 0 --positions 11 --ball 8 --pairs 2 --layer fc1 --checked 1 {TO}"),
    Job("ray", f"ray --index 0 --rays 2 --noise 1 --points 12 --start conv3 {TO}"),
    Job("adversarial", f"adversarial --count 2 --steps 2 --radius 0.3 {TO}"),
    Job("residual", f"residual --model {{in}}/own.py:small --texts 4 --tokens 4 --steps 3 --scale 2 {TO}"),
    Job("pairs", f"pairs --pairs 40 --no-controls {TO}"),
    Job("synonyms", f"synonyms --model {{in}}/own.py:small --tokens 9 --pairs-from {{in}}/pairs.txt {TO}"),
    Job("directions", f"directions --layer relu4 --components 3 --permutations 5 --rows 297 {TO}"),
    Job("complexity", f"complexity --points 4 --directions 2 --part local --radius 0.5 {TO}"),
    Job("capture", f"capture {TEXTS} --batch 64 --shard-size 4KiB --out {{out}}", again="resumes"),
    Job("cluster", "cluster {capture} --min-cluster-size 5 --device cpu --out {out}", ("capture",), "resumes"),
    Job("report", "report {cluster} --store {capture} --out {out}", ("capture", "cluster")),
    Job("score", "score {cluster} --store {capture} --json --repeats 3", ("capture", "cluster")),
    Job("spectrum", f"spectrum --site relu3 {TO}"),
    Job("projections", f"projections --places 5 --repeats 1 --directions 3 {TO}"),
    Job("redundancy", f"redundancy --model autoencoder --dropout 0 --seeds 1 --epochs 1 --repeats 1 {TO}"),
    Job("superposition", f"superposition --probability 1 --features 5 --hidden 2 --instances 2 --steps 9 {TO}"),
    Job("embeddings", f"embeddings {TEXTS} --top 3 --no-explorer {TO}"),
    Job("latents", f"latents --expansion 1 --steps 3 --seeds 2 {TO}"),
    Job("layers", "layers {in}/nets.py:net --json"),
    Job("info", "info {capture} --json", ("capture",)),
    Job("verify", "verify {capture} --json", ("capture",)),
    Job("bench", "bench --small --filter hamming.pairwise* --device cpu --threads 1 --quiet --out {out}"),
    Job("doctor", "doctor --json"),
    Job("config", "config heatmap --json"),
)
JOBS = {job.name: job for job in EVERY}


def prepared(place: Path, run: Callable[[list[str]], int]) -> Path:
    """A folder with the networks and the data of all jobs, and with the results that others read."""
    (place / "text").mkdir(parents=True)
    (place / "nets.py").write_text(NETS + BROAD)
    (place / "own.py").write_text(OWN)
    (place / "pairs.txt").write_text("rain thin\nman other\ntheatre inner\n")
    for k in range(3):
        (place / "text" / f"{k}.txt").write_text(TEXT * (k + 1))
    for name in ("capture", "cluster"):
        assert run([*JOBS[name].line(place, place / name), "-q"]) == 0
    return place


def left(out: Path) -> dict[str, Any]:
    """What a job wrote, file by file, but for the settings and for what hangs on the time it took."""
    if out.is_file():
        return {"": _lasting(out)}
    names = (p for p in sorted(out.rglob("*")) if p.is_file() and p.name not in ("settings.toml", "writer.lock"))
    return {str(p.relative_to(out)): _lasting(p) for p in names if not p.name.startswith(".")}


def _lasting(path: Path) -> Any:
    if path.suffix not in ("", ".json"):  # a bench file is the job's whole output, under the name it was given
        return path.read_bytes()
    whole = json.loads(path.read_text())
    if not isinstance(whole, dict):
        return whole
    if str(whole.get("schema")).startswith("polykern-bench"):
        return [{key: record[key] for key in MEASURED} for record in whole["results"]]
    return {k: v for k, v in whole.items() if k not in PASSING}

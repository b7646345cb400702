"""Whatever happens to a writer, and whenever: nothing torn is seen, and the next run gives the same bytes."""

import random
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from polykern.cli.failures import Interrupted, exit_code
from polykern.cli.talk import Talk
from tests.driven import driven
from tests.trust.faults import ERRNO, Fault, watched
from tests.trust.ledger import SCALE, scaled, trial
from tests.trust.writers import EVERY, Made

Kill = Callable[..., int]
KILLED, FAILED = "R1 killed: nothing torn is seen", "R8 disk: an error harms nothing"
RESUMED, INTERRUPTED = "R2 resumed: same bytes", "R13 interrupted: resumable"
RANDOM = ", at random"
MAKING = ("progress.json", "parts/", "work/")  # what a reader passes over, and names that begin with a dot


@pytest.fixture(scope="module")
def kill() -> Iterator[Kill]:
    """kill(made, path, ...) -> how a writer ended that was killed there (tests/trust/killed.py)."""
    with driven("tests.trust.killed") as ask:

        def kill(made: Made, path: Path, *, overwrite: bool, **how: Any) -> int:
            return int(ask(name=made.name, path=str(path), overwrite=overwrite, **how))

        yield kill


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, bytes]]:
    """(kind, seed) -> the files that nobody disturbed."""
    root = tmp_path_factory.mktemp("wholes")
    found = {}
    for made in EVERY.values():
        for seed in (0, 1):
            path = root / f"{made.name}-{seed}"
            made.write(path, seed)
            whole = made.committed(path)
            assert whole
            found[made.name, seed] = whole
    assert all(found[name, 0] != found[name, 1] for name in EVERY)
    return found


def calls_of(made: Made, folder: Path, *, overwrite: bool = False) -> int:
    """How many calls of the system a writer makes; what it wrote is removed."""
    path = folder / "counted"
    if overwrite:
        made.write(path, 1)
    with watched() as system:
        made.write(path, overwrite=overwrite)
    shutil.rmtree(path)
    return system.calls


def chosen(calls: int, few: int, seed: str) -> list[int]:
    """Calls at which something happens: all of them in a soak, else a few, the first and the last among them."""
    if SCALE > 1 or calls <= few:
        return list(range(1, calls + 1))
    return sorted({1, calls, *random.Random(seed).sample(range(1, calls + 1), few - 2)})


def require_sound(made: Made, path: Path, seen: Sequence[dict[str, bytes]], whole: dict[str, bytes]) -> None:
    """Fail unless a reader sees nothing or one of these, and the next run makes it whole; then remove it."""
    found = made.committed(path)
    if found is not None:
        assert visible(found) in [visible(one) for one in seen]
    with trial(RESUMED):
        made.write(path, overwrite=not made.resumes or len(seen) > 1)
        assert made.contents(path) == whole
    shutil.rmtree(path)


def visible(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what a reader passes over: locks, marks, what only the making needs."""
    return {
        name: data
        for name, data in files.items()
        if not name.startswith(MAKING) and not name.rpartition("/")[2].startswith(".")
    }


@pytest.mark.parametrize("name", EVERY)
def test_a_writer_that_is_killed(kill: Kill, folder: Path, wholes: Any, name: str) -> None:
    made = EVERY[name]
    for kind in ("kill", "torn"):
        for at in chosen(calls_of(made, folder), 8, name + kind):
            path = folder / f"{kind}-{at}"
            with trial(KILLED):
                assert kill(made, path, overwrite=False, at=at, kind=kind) == -signal.SIGKILL
                require_sound(made, path, [wholes[name, 0]], wholes[name, 0])


@pytest.mark.parametrize("name", EVERY)
def test_a_writer_that_is_killed_while_it_overwrites(kill: Kill, folder: Path, wholes: Any, name: str) -> None:
    made, old, whole = EVERY[name], wholes[name, 1], wholes[name, 0]
    for kind in ("kill", "torn"):
        for at in chosen(calls_of(made, folder, overwrite=True), 5, name + kind):
            path = folder / f"{kind}-{at}"
            made.write(path, 1)
            with trial(KILLED):
                assert kill(made, path, overwrite=True, at=at, kind=kind) == -signal.SIGKILL
                require_sound(made, path, [old, whole], whole)


@pytest.mark.parametrize("name", EVERY)
def test_an_error_of_the_system(folder: Path, wholes: Any, name: str) -> None:
    """Once, or from then on; it is told as one of the disk, with exit code 4 or 2, and never as a bug."""
    made, calls = EVERY[name], calls_of(EVERY[name], folder)
    for kind in ERRNO:
        for lasts in (False, True)[: 1 + (kind != "EINTR")]:  # Python asks again until it is over
            for at in chosen(calls, 3, f"{name}{kind}{lasts}"):
                path = folder / f"{kind}-{at}"
                with trial(FAILED):
                    failed(made, path, Fault(at, kind, lasts), overwrite=False)
                    require_sound(made, path, [wholes[name, 0]], wholes[name, 0])


def failed(made: Made, path: Path, fault: Fault, *, overwrite: bool) -> None:
    """Write while something fails; what is raised has to be told as what it is."""
    told: BaseException | None = None
    try:
        with watched(fault):
            made.write(path, overwrite=overwrite)
    except (Exception, KeyboardInterrupt) as error:
        told = error
    if told is not None:
        codes = (130,) if fault.kind == "interrupt" else (2, 4)
        assert exit_code(told, Talk(json=False, command=())) in codes, repr(told)


@pytest.mark.parametrize("name", EVERY)
def test_an_error_while_it_overwrites(folder: Path, wholes: Any, name: str) -> None:
    made, old, whole = EVERY[name], wholes[name, 1], wholes[name, 0]
    for at in chosen(calls_of(made, folder, overwrite=True), 6, name):
        path = folder / str(at)
        made.write(path, 1)
        with trial(FAILED):
            failed(made, path, Fault(at, "ENOSPC"), overwrite=True)
            require_sound(made, path, [old, whole], whole)


@pytest.mark.parametrize("name", EVERY)
def test_an_interrupt(folder: Path, wholes: Any, name: str) -> None:
    made = EVERY[name]
    for at in chosen(calls_of(made, folder), 6, name):
        path = folder / str(at)
        with trial(INTERRUPTED):
            failed(made, path, Fault(at, "interrupt"), overwrite=False)
            require_sound(made, path, [wholes[name, 0]], wholes[name, 0])


@pytest.mark.parametrize("name", EVERY)
def test_writes_that_are_short(folder: Path, wholes: Any, name: str) -> None:
    made, path = EVERY[name], folder / "short"
    with trial(FAILED), watched(Fault(1, "short")):
        made.write(path)
    assert made.committed(path) == wholes[name, 0]


@pytest.mark.parametrize("name", EVERY)
def test_one_misfortune_after_the_other(kill: Kill, folder: Path, wholes: Any, name: str) -> None:
    """Deaths, errors and interrupts at random, again and again in one folder, while it resumes."""
    made, rng, whole = EVERY[name], random.Random(name), wholes[name, 0]
    calls = calls_of(made, folder)
    for number in range(scaled(4)):
        path, again = folder / str(number), False
        for _ in range(rng.randint(2, 5)):
            at, kind = rng.randint(1, calls), rng.choice(["kill", "torn", "timer", "interrupt", *ERRNO])
            overwrite = again and not made.resumes
            deadly = kind in ("kill", "torn", "timer")
            with trial((KILLED if deadly else INTERRUPTED if kind == "interrupt" else FAILED) + RANDOM):
                if kind == "timer":
                    how = {"microseconds": int(rng.uniform(200, 12_000))}
                    assert kill(made, path, overwrite=overwrite, **how) in (0, -signal.SIGALRM)
                elif kind in ("kill", "torn"):
                    assert kill(made, path, overwrite=overwrite, at=at, kind=kind) in (0, -signal.SIGKILL)
                else:
                    failed(made, path, Fault(at, kind, kind != "EINTR" and rng.random() < 0.3), overwrite=overwrite)
                found = made.committed(path)
                assert found is None or visible(found) == visible(whole)
            again = path.exists()
        require_sound(made, path, [whole], whole)


def test_a_fault_that_does_harm_would_be_noticed(folder: Path, wholes: Any) -> None:
    """A torn file under the name of a whole one, and one that is not there."""
    made = EVERY["findings"]
    harms: tuple[Callable[[Path], object], ...] = (lambda p: p.write_bytes(p.read_bytes()[:-1]), Path.unlink)
    for change in harms:
        path = folder / "harmed"
        made.write(path)
        change(path / "lengths.csv")
        with pytest.raises(AssertionError, match=r"lengths\.csv"):
            made.committed(path)
        shutil.rmtree(path)


def test_a_signal_is_no_bug() -> None:
    talk = Talk(json=False, command=())
    assert [exit_code(Interrupted(s), talk) for s in (signal.SIGINT, signal.SIGTERM)] == [130, 143]

"""Disks that are full, fail, refuse or take a byte at a time: a good store is left, and the same bytes come."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tests.store.synthetic as made_up
from polykern.errors import ResourceError
from polykern.store import Store, Writer, verify

CALLS = ("open", "write", "fsync", "replace")


class Failing:
    """The operating system, with an error at one of its calls and, if it lasts, at all after it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, str]] = []
        self.at, self.lasts = 0, False
        self.error: BaseException = OSError(errno.EIO, os.strerror(errno.EIO))
        for name in CALLS:
            patch.setattr(os, name, self.watched(name, getattr(os, name)))

    def watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            self.calls.append((name, str(args[0])))
            if len(self.calls) == self.at or (self.lasts and 0 < self.at < len(self.calls)):
                raise self.error
            return real(*args, **kwargs)

        return call

    def fail(self, at: int, error: BaseException, *, lasts: bool = False) -> None:
        self.calls.clear()
        self.at, self.error, self.lasts = at, error, lasts

    def heal(self) -> None:
        self.at = 0
        self.calls.clear()


@pytest.fixture
def failing() -> Iterator[Failing]:
    with pytest.MonkeyPatch.context() as patch:
        yield Failing(patch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("whole") / "a.codes"
    made_up.write(path, 2)
    return made_up.contents(path)


def require_good(path: Path, whole: dict[str, bytes]) -> None:
    """Fail unless what is committed is good, nothing uncommitted takes room, and a resumed store is the same."""
    if (path / "manifest.json").exists():
        assert verify(path) == []
        store = Store.open(path)
        made_up.require_rows(store.rows(), len(store.records))
        data = [p for p in path.rglob("*.safetensors") if int(p.name[:6]) >= len(store.records)]
        assert data == []
    assert not list(path.rglob("*.tmp"))
    made_up.write(path, 2)
    assert made_up.contents(path) == whole


@pytest.mark.parametrize("lasts", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS])
def test_an_error_at_every_call(
    folder: Path, whole: dict[str, bytes], failing: Failing, number: int, lasts: bool
) -> None:
    made_up.write(folder / "let", 2)
    calls = len(failing.calls)
    assert calls > 30
    step = 1 if number == errno.ENOSPC else 5
    for at in range(1 + number % step, calls + 1, step):
        path = folder / f"{at}.codes"
        failing.fail(at, OSError(number, os.strerror(number)), lasts=lasts)
        with pytest.raises(ResourceError, match="cannot be written") as told:
            made_up.write(path, 2)
        assert told.value.why == os.strerror(number)
        assert told.value.exit_code == 4
        failing.heal()
        require_good(path, whole)


def test_an_interrupt_at_every_call(folder: Path, whole: dict[str, bytes], failing: Failing) -> None:
    made_up.write(folder / "let", 2)
    for at in range(1, len(failing.calls) + 1):
        path = folder / f"{at}.codes"
        failing.fail(at, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            made_up.write(path, 2)
        failing.heal()
        require_good(path, whole)


def test_a_writer_ends_with_its_disk(tmp_path: Path, failing: Failing) -> None:
    """It does not know what is on the disk; the next one looks."""
    with Writer.open(tmp_path / "a.codes", made_up.manifest()) as writer:
        writer.write(**made_up.shard(0))
        failing.fail(3, OSError(errno.ENOSPC, "full"))
        with pytest.raises(ResourceError, match="full"):
            writer.write(**made_up.shard(1))
        failing.heal()
        with pytest.raises(ValueError, match="ended"):
            writer.write(**made_up.shard(1))
        with pytest.raises(ValueError, match="ended"):
            writer.finish()
    assert len(Store.open(tmp_path / "a.codes").records) == 1


@pytest.mark.parametrize("share", [2, 10**9])
def test_short_writes(tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, share: int) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda d, block: real(d, block[: max(16, len(block) // share)]))
    made_up.write(tmp_path / "a.codes", 2)
    assert made_up.contents(tmp_path / "a.codes") == whole


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda d, block: 0)
    with pytest.raises(ResourceError, match="no more bytes"):
        made_up.write(tmp_path / "a.codes", 2)


def test_everything_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file before it is renamed; its folder before the record is; so that a power cut finds no torn shard."""
    names: dict[int, Path] = {}
    dirty: set[Path] = set()
    renamed: list[Path] = []
    real_open, real_write, real_sync, real_replace = os.open, os.write, os.fsync, os.replace

    def opened(path: Any, *args: Any) -> int:
        descriptor = real_open(path, *args)
        names[descriptor] = Path(path)
        return descriptor

    def written(descriptor: int, block: Any) -> int:
        dirty.add(names[descriptor])
        return real_write(descriptor, block)

    def synced(descriptor: int) -> None:
        dirty.discard(names[descriptor])
        real_sync(descriptor)

    def replaced(beside: Path, path: Path) -> None:
        assert beside not in dirty
        if path.suffix == ".json":
            assert not dirty, "something a record or the manifest speaks of may be lost"
        renamed.append(path)
        dirty.add(path.parent)
        real_replace(beside, path)

    for name, call in (("open", opened), ("write", written), ("fsync", synced), ("replace", replaced)):
        monkeypatch.setattr(os, name, call)
    made_up.write(tmp_path / "a.codes", 2)
    assert not dirty
    assert [p.name for p in renamed] == [
        "manifest.json",
        *("000000.safetensors", "000000.safetensors", "000000.json"),
        *("000001.safetensors", "000001.safetensors", "000001.json"),
        "manifest.json",
    ]


def test_a_disk_without_locks(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*args: Any) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refused)
    made_up.write(tmp_path / "a.codes", 2)
    assert made_up.contents(tmp_path / "a.codes") == whole
    assert "has no locks" in caplog.text


def test_files_obey_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        made_up.write(tmp_path / "a.codes", 1)
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "a.codes").rglob("*.*")} == {0o640}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 40 kB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = shutil.which("mount")
    line = [mount or "mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(path)]
    if os.geteuid() != 0 or mount is None or subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("no leave to mount a file system")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    path = small_disk / "a.codes"
    with pytest.raises(ResourceError, match="No space left"):
        made_up.write(path, 9)
    held = len(Store.open(path, verify="full").records)
    assert 1 <= held < 9
    made_up.require_rows(Store.open(path).rows(), held)
    with pytest.raises(ResourceError, match="No space left"):  # still full, still good
        made_up.write(path, 9)
    assert len(Store.open(path, verify="full").records) == held
    shutil.copytree(path, tmp_path / "roomy.codes", ignore=shutil.ignore_patterns(".*"))
    made_up.write(tmp_path / "roomy.codes", 9)
    made_up.write(tmp_path / "other.codes", 9)
    assert made_up.contents(tmp_path / "roomy.codes") == made_up.contents(tmp_path / "other.codes")

"""Several processes that make one result: on one host or many, on CPUs or GPUs, the same bytes for any number.

    at = ranks()                        # under torchrun or srun; a process alone otherwise
    mine = [make(i) for i in at.share(n)]
    whole = at.gathered(torch.stack(mine))

Every rank makes the same calls in the same order. Tensors on GPUs travel by NCCL where each rank has a GPU of its
own, everything else by gloo; nothing is ever pickled. When a rank dies, the others raise `RankLost` at their next
call; none waits longer than the timeout.
"""

import atexit
import json
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from polykern.errors import RankLost, UsageError
from polykern.launch import Launch, launch

TIMEOUT = 1800.0  # seconds; POLYKERN_RANK_TIMEOUT sets another

_here: "Ranks | None" = None


def ranks(timeout: float | None = None) -> "Ranks":
    """This process among those that were started with it.

    timeout  seconds that a rank waits for the others in one call; None takes POLYKERN_RANK_TIMEOUT, or half an hour

    The first call makes the group, which ends with the process; a process alone makes none. A group that the
    program has made itself is used. Errors: RankLost when the others do not come, UsageError when the launcher's
    variables contradict each other.
    """
    global _here
    if _here is None:
        place = launch()
        _here = Ranks(place) if place.size == 1 else _together(place, timeout or _patience())
    return _here


class Ranks:
    """One process of several; every method but `share` is called by all of them, in the same order.

    place  rank and number of ranks
    group  a gloo group of all ranks; None for a process alone
    cards  an NCCL group, when each rank has a GPU of its own

    rank    0 ... size - 1
    size    processes
    device  the GPU of this rank, or the CPU
    """

    def __init__(self, place: Launch | None = None, group: Any = None, cards: Any = None) -> None:
        place = place or Launch()
        self.rank, self.size, self.device = place.rank, place.size, _device(place.local)
        self._group, self._cards = group, cards

    @property
    def first(self) -> bool:
        """Whether this is the rank that speaks and writes."""
        return self.rank == 0

    def share(self, n: int, rank: int | None = None) -> range:
        """What this rank, or another, does of n things: a contiguous part, at most one longer than any other's."""
        rank = self.rank if rank is None else rank
        return range(n * rank // self.size, n * (rank + 1) // self.size)

    def least(self, x: Tensor) -> Tensor:
        """The least of all ranks, entry by entry.

        x  int32|int64|float32|float64, of the same shape and dtype on every rank; no NaN
        """
        return self._reduced(x, "MIN")

    def total(self, parts: Tensor | Sequence[Tensor]) -> Tensor:
        """The sum of the parts of all ranks.

        parts    a tensor, or several of one shape and dtype: what this rank adds; zeros where it has nothing

        Integers are exact. Floats are added one part after the other, rank after rank: the bytes are the same for
        any number of ranks that divide the same parts among themselves in their order, as `share` does.
        """
        own = [parts] if isinstance(parts, Tensor) else list(parts)
        if not own:
            raise UsageError("a total of no parts", fix="pass zeros of the shape where a rank has nothing")
        if not own[0].dtype.is_floating_point:
            return self._reduced(_added(own[0], own[1:]), "SUM")
        whole = torch.zeros_like(own[0])
        for rank in range(self.size):
            whole = self._broadcast(_added(whole, own) if rank == self.rank else whole, rank)
        return whole

    def gathered(self, x: Tensor) -> list[Tensor]:
        """The tensors of all ranks, in their order; any shapes, one dtype. They lie on x's device."""
        if self.size == 1:
            return [x]
        shapes = self.heard([str(x.dtype), *x.shape])
        if any(dtype != str(x.dtype) for dtype, *_ in shapes):
            raise UsageError(f"ranks gather one dtype, got {', '.join(dtype for dtype, *_ in shapes)}")
        out = []
        for rank, (_, *shape) in enumerate(shapes):
            own = x if rank == self.rank else torch.empty(shape, dtype=x.dtype, device=x.device)
            out.append(self._broadcast(own, rank))
        return out

    def dealt(self, x: Tensor) -> list[Tensor]:
        """The rows of this rank's share, of the tensors of all ranks, in their order.

        x  (n, ...)   of one shape and dtype on every rank
        """
        own = self.share(len(x))
        if self.size == 1 or not x.numel():
            return [x[own.start : own.stop] for _ in range(self.size)]
        octets = x.contiguous().view(len(x), -1).view(torch.uint8)
        sent = [len(self.share(len(x), rank)) for rank in range(self.size)]

        def work(y: Tensor, group: Any) -> Tensor:
            came = y.new_empty(self.size * len(own), y.shape[1])
            return self._call("all_to_all_single", came, y, [len(own)] * self.size, sent, group=group)

        came = self._carried(octets, work).view(x.dtype)
        return list(came.view(self.size, len(own), *x.shape[1:]))

    def handed(self, x: Tensor | None, device: torch.device | str = "cpu") -> Tensor:
        """The tensor of the first rank, on all, on `device`; the others pass None."""
        if self.size == 1:
            assert x is not None
            return x.to(device)
        dtype, *shape = self.sent([str(x.dtype).removeprefix("torch."), *x.shape] if x is not None else None)
        own = x.to(device) if x is not None else torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        return self._broadcast(own, 0)

    def sent(self, what: Any = None) -> Any:
        """What the first rank passes, on all of them: anything that JSON can say. Tuples become lists."""
        return what if self.size == 1 else json.loads(self._octets(json.dumps(what).encode(), 0))

    def heard(self, what: Any) -> list[Any]:
        """What each rank passes, in their order: anything that JSON can say. Tuples become lists."""
        if self.size == 1:
            return [what]
        said = json.dumps(what).encode()
        return [json.loads(self._octets(said, rank)) for rank in range(self.size)]

    def meet(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            self._call("all_reduce", torch.zeros(1, dtype=torch.int64), group=self._group)

    def _reduced(self, x: Tensor, operation: str) -> Tensor:
        if self.size == 1:
            return x.clone()
        import torch.distributed as dist

        op = getattr(dist.ReduceOp, operation)
        return self._carried(x, lambda y, group: self._call("all_reduce", y, op=op, group=group))

    def _broadcast(self, x: Tensor, rank: int) -> Tensor:
        """x of one rank on all; a new tensor where it comes from another."""
        if self.size == 1 or not x.numel():
            return x
        octets = x.contiguous().flatten().view(torch.uint8)
        came = self._carried(octets, lambda y, group: self._call("broadcast", y, group_src=rank, group=group))
        return x if rank == self.rank else came.view(x.dtype).view(x.shape)

    def _octets(self, said: bytes, rank: int) -> bytes:
        """Bytes of one rank on all."""
        size = self._broadcast(torch.tensor([len(said)]), rank)
        own = torch.frombuffer(bytearray(said), dtype=torch.uint8)
        text = own if rank == self.rank else torch.empty(int(size), dtype=torch.uint8)
        return self._broadcast(text, rank).numpy().tobytes()

    def _carried(self, x: Tensor, work: Callable[[Tensor, Any], Tensor]) -> Tensor:
        """What some work makes of a copy of x, in the group that can carry it."""
        if x.device.type == "cpu" or self._cards is None:
            return work(x.to("cpu", copy=True).contiguous(), self._group).to(x.device)
        self.meet()  # gloo sees at once when a rank is gone, NCCL only after the timeout
        return work(x.clone(memory_format=torch.contiguous_format), self._cards)

    def _call(self, name: str, x: Tensor, *args: Any, **named: Any) -> Tensor:
        """x after a call of torch.distributed that changes it."""
        import torch.distributed as dist

        with _told(self):
            getattr(dist, name)(x, *args, **named)
        return x


def _added(whole: Tensor, parts: Sequence[Tensor]) -> Tensor:
    for part in parts:
        whole = whole + part
    return whole


def _device(local: int) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return torch.device("cuda", local % count) if count else torch.device("cpu")


def _patience() -> float:
    word = os.environ.get("POLYKERN_RANK_TIMEOUT", "")
    if not word:
        return TIMEOUT
    if not word.isdecimal() or not int(word):
        raise UsageError(f"POLYKERN_RANK_TIMEOUT={word!r} is no number of seconds")
    return float(word)


def _together(place: Launch, timeout: float) -> Ranks:
    """The ranks of a launch, met."""
    import torch.distributed as dist

    waiting, own = timedelta(seconds=timeout), not dist.is_initialized()
    with _told(None):
        if not own:
            place = Launch(dist.get_rank(), dist.get_world_size(), place.local, place.address, place.port)
            group = dist.new_group(backend="gloo", timeout=waiting)
        else:
            os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a lost rank is an exception, not an abort
            os.environ.update(MASTER_ADDR=place.address, MASTER_PORT=str(place.port))
            meeting: Any = dist  # its stores are not in its list of names
            met = next(meeting.rendezvous("env://", place.rank, place.size, timeout=waiting))[0]
            attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # a store outlives those who died
            store = meeting.PrefixStore(f"polykern/{attempt}", met)
            dist.init_process_group("gloo", store=store, rank=place.rank, world_size=place.size, timeout=waiting)
            group = dist.group.WORLD
        found = Ranks(place, group)
        if dist.is_nccl_available() and _own_cards(found):
            found._cards = dist.new_group(backend="nccl", timeout=waiting)
    atexit.register(_parted, found, destroy=own)
    return found


def _own_cards(found: Ranks) -> bool:
    """Whether every rank has a GPU, and no two the same."""
    card = ""
    if found.device.type == "cuda":
        properties: Any = torch.cuda.get_device_properties(found.device)
        card = f"{socket.gethostname()} {properties.uuid}"
    cards = found.heard(card)
    return all(cards) and len(set(cards)) == len(cards)


def _parted(found: Ranks, *, destroy: bool) -> None:
    """Let go of the groups while the threads that serve them still run."""
    import torch.distributed as dist

    found._group = found._cards = None
    if destroy and dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _told(at: Ranks | None) -> Iterator[None]:
    """What torch.distributed raises, in one line."""
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"rank {at.rank} of {at.size} lost the others" if at else "the ranks did not find each other",
            why=(str(error) or type(error).__name__).splitlines()[0][:200],
            fix="see what the rank that ended first said; the same command begins again where it can",
        ) from error

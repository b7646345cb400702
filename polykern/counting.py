"""Counts of rasters of points while they run through a tail: what the dense and the anchored engine share."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from polykern.block import Block, BlockMaps
from polykern.errors import CorruptError, ResourceError, UsageError
from polykern.layout import Field, Layout
from polykern.tail import Tail
from polykern_kernels import digest, grid, linear, narrow, pack


class Counts:
    """Counts of `groups` rasters of height x width points, field by field.

    layout         of the codes
    height, width  points of a raster: one row and one column more than the pixels that are wanted
    """

    def __init__(
        self, layout: Layout, groups: int, height: int, width: int, device: torch.device | str = "cpu"
    ) -> None:
        self.layout, self.groups, self.height, self.width = layout, groups, height, width
        self.total = grid.GridTotals.zeros(groups, height, width, device)
        none = self.total.take_counts()
        self._counts = dict.fromkeys(layout.fields, none)
        self._nans: list[tuple[Field | None, Tensor]] = []

    def step(
        self,
        field: Field | None,
        thresholds: Sequence[float],
        slopes: Sequence[float],
        anchor: Tensor,
        delta: Tensor,
    ) -> Tensor:
        """Differences behind a piecewise-linear layer; its bits are counted when it is selected.

        field               the layer's bits, or None
        thresholds, slopes  of the activation
        anchor              float64|float32 (groups, *units)
        delta               float32 (groups * points, *units)
        returns             float32 (groups * points, *units)
        raises              CorruptError naming the field when a pre-activation is NaN (on CUDA: `maps` does)
        """
        with self._counted(field, anchor.device) as total:
            done = grid.step(
                anchor.flatten(1),
                delta.reshape(self.groups, self.height * self.width, -1),
                height=self.height,
                width=self.width,
                thresholds=thresholds,
                slopes=slopes,
                bit_offset=0 if field is None else field.offset,
                total=total,
            )
        return done.delta.view(delta.shape)

    def narrow_step(
        self,
        field: Field | None,
        thresholds: Sequence[float],
        slopes: Sequence[float],
        anchor: Tensor,
        delta: Tensor,
        *,
        unit: float,
        unit_out: float,
        gain: Tensor | None,
        out: Tensor | None = None,
    ) -> Tensor:
        """The same for float16 differences, images channels-last; what is not finite is told by `maps`.

        field, thresholds, slopes  as for `step`
        anchor                     float64 (groups, *units)
        delta                      float16 (groups, points, *units); may be expanded over the groups
        unit, unit_out, gain       as for `polykern_kernels.narrow.step`
        out                        of images: float16 (groups, points, height, width, channels), where they are
                                   written, perhaps some of the channels of a wider image
        returns                    float16 (groups, points, *units)
        """
        images = delta.ndim == 5
        if images:
            anchor, delta = anchor.permute(0, 2, 3, 1), delta.permute(0, 1, 3, 4, 2)
        shape = delta.shape
        with self._counted(field, anchor.device) as total:
            rows = narrow.step(
                anchor.flatten(1),
                delta.flatten(2, 3) if images else delta.flatten(2),
                height=self.height,
                width=self.width,
                thresholds=thresholds,
                slopes=slopes,
                bit_offset=0 if field is None else field.offset,
                total=total,
                positions=anchor.shape[1:3].numel() if images else 1,
                unit=unit,
                unit_out=unit_out,
                gain=gain,
                out=None if out is None else out.flatten(2, 3),
            )
        return rows.unflatten(2, shape[2:4]).permute(0, 1, 4, 2, 3) if images else rows.view(shape)

    def linear_step(
        self,
        field: Field | None,
        thresholds: Sequence[float],
        slopes: Sequence[float],
        anchor: Tensor,
        delta: Tensor,
        weight: Tensor,
        *,
        unit: float,
        unit_out: float,
    ) -> Tensor:
        """The same behind a linear layer of vectors, whose product is part of the pass.

        field, thresholds, slopes  as for `step`
        anchor                     float64 (groups, units)   behind the layer
        delta                      float16 (groups, points, inputs) in front of it; may be expanded over the groups
        weight                     float16 (units, inputs)
        unit, unit_out             as for `polykern_kernels.linear.step`
        returns                    float16 (groups, points, units)
        """
        with self._counted(field, anchor.device) as total:
            return linear.step(
                anchor,
                delta,
                weight,
                height=self.height,
                width=self.width,
                thresholds=thresholds,
                slopes=slopes,
                bit_offset=0 if field is None else field.offset,
                total=total,
                unit=unit,
                unit_out=unit_out,
            )

    def require_finite(self, scores: Tensor) -> None:
        """What is not finite in the output is told by `maps` too: no activation behind it would."""
        self._nans.append((None, (~scores.isfinite()).sum()[None]))

    def tally(self, field: Field, z: Tensor) -> None:
        """Count the bits of pre-activations z, float (groups * points, *units); of one row: the same everywhere.

        Raises CorruptError naming the field when one is NaN (on CUDA: `maps` does).
        """
        points = self.height * self.width
        with self._counted(field, z.device) as total:
            if len(z) == self.groups * points:
                grid.tally(
                    z.reshape(self.groups, points, -1),
                    height=self.height,
                    width=self.width,
                    thresholds=field.thresholds,
                    bit_offset=field.offset,
                    total=total,
                )
            elif len(z) != 1:
                raise UsageError(f"{field.name} has {len(z)} rows for {self.groups * points} points")
            else:
                total.nans += z.isnan().sum()
                words = pack.signs(z.flatten(1), field.thresholds)[0]
                total.digest += digest.fingerprints(words, field.bits, offset=field.offset)
                total.margin.clamp_(max=float(gaps(field, z)))

    def maps(self, classes: Tensor | None) -> list[BlockMaps]:
        """The maps of every raster, one row and one column smaller.

        classes  int (groups * points), or None
        raises   CorruptError naming the first field with a NaN among its pre-activations
        """
        return self.sent(classes)()

    def sent(self, classes: Tensor | None) -> Callable[[], list[BlockMaps]]:
        """`maps` in two parts: the copies from the device are begun, and what is returned waits for them."""
        pairs = list(self._counts.values())
        device = self.total.margin.device
        nans = [n for _, n in self._nans] or [self.total.nans]
        sums = [torch.stack([r for r, _ in pairs], 1), torch.stack([d for _, d in pairs], 1), torch.cat(nans)]
        parts = [*sums, self.total.margin, self.total.digest]
        parts += [] if classes is None else [classes.int()]
        copies = [t.to("cpu", non_blocking=True) for t in parts]  # into pinned memory
        done = None
        if device.type == "cuda":
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(device))

        def collect() -> list[BlockMaps]:
            if done is not None:
                done.synchronize()
            return self._arrived(*copies)

        return collect

    def _arrived(
        self,
        right: Tensor,
        down: Tensor,
        nans: Tensor,
        margin: Tensor,
        prints: Tensor,
        classes: Tensor | None = None,
    ) -> list[BlockMaps]:
        for (field, _), count in zip(self._nans, nans.tolist(), strict=False):
            if count:
                raise CorruptError(_nan(field, count))
        height, width = self.height - 1, self.width - 1
        raster = (self.groups, self.height, self.width)
        across, along = right.numpy()[:, :, :height], down.numpy()[:, :, :, :width]
        gap = margin.view(raster).numpy()[:, :height, :width]
        digests = prints.view(*raster, digest.LANES).numpy()[:, :height, :width]
        argmax = None if classes is None else classes.view(raster).numpy()[:, :height, :width]
        return [
            BlockMaps(across[g], along[g], None if argmax is None else argmax[g], gap[g], digests[g])
            for g in range(self.groups)
        ]

    @contextmanager
    def _counted(self, field: Field | None, device: torch.device) -> Iterator[grid.GridTotals]:
        """Accumulators for a field; afterwards its counts are put away."""
        total = self.total
        if field is None:
            total = grid.GridTotals.zeros(self.groups, self.height, self.width, device)
        try:
            yield total
        except ValueError:
            if int(total.nans):
                raise CorruptError(_nan(field, int(total.nans))) from None
            raise
        self._nans.append((field, total.nans.clone()))
        if field is not None:
            self._counts[field] = self.total.take_counts()


def gaps(field: Field, z: Tensor) -> Tensor:
    """float64 (n,): the smallest |z - threshold| of each row of pre-activations z, float (n, *units)."""
    rows = z.reshape(len(z), field.units).double()
    every = torch.cat([(rows - t).abs() for t in field.thresholds], 1)
    return every.amin(1) if field.bits else every.new_full((len(rows),), torch.inf)


def _nan(field: Field | None, count: int) -> str:
    where = "a layer that is not selected" if field is None else field.name
    return f"{count} pre-activations of {where} are NaN, and NaN has no sign"


class Footprint:
    """Bytes that a point takes, from a small run: what lives at once, as seen at the nonlinearities.

    The activations that live together at one nonlinearity, most of all, plus `COPIES` copies of the largest layer,
    float32 or narrower, for what a function holds while it runs: its points and values in float64, its rounded
    operands.
    """

    COPIES = 6

    def __init__(self) -> None:
        self._alive: list[tuple[weakref.ref[Tensor], int]] = []
        self.live = self.largest = self._most = 0

    def see(self, *tensors: Tensor) -> None:
        """These activations live now."""
        self._alive = [(r, n) for r, n in self._alive if r() is not None]
        known = {id(r()) for r, _ in self._alive}
        for t in tensors:
            self.largest = max(self.largest, min(4, t.itemsize) * t.numel())
            self._most = max(self._most, t.numel())
            if id(t) not in known:
                self._alive.append((weakref.ref(t), t.numel() * t.itemsize))
        self.live = max(self.live, sum(n for _, n in self._alive))

    def span(self, numbers: int) -> None:
        """A tensor of so many numbers is an operand somewhere between the nonlinearities."""
        self._most = max(self._most, numbers)

    def bytes(self, points: int) -> int:
        """Bytes a point of a run of `points` points."""
        return -(-(self.live + self.COPIES * self.largest) // points)

    def units(self, points: int) -> int:
        """Units of the largest layer, from a run of `points` points."""
        return -(-self._most // points)


INDEXED = 1 << 31  # numbers of a tensor that every library's indices reach
CACHED = 64 << 20  # bytes of a batch, a thread, beyond which a CPU gets slower


def memory_for(budget: int, each: int, units: int, device: torch.device) -> int:
    """Bytes that a batch may take.

    budget  bytes of the host; a CUDA device gives half of what it has free instead, as far as indices reach
    each    bytes a point
    units   of the largest layer
    device  where the batch runs
    """
    if device.type != "cuda":
        return budget
    free, _ = torch.cuda.mem_get_info(device)
    return min(free // 2, (INDEXED - 1) // max(1, units) * each)


def points_within(budget: int, each: int, least: int, what: str, device: torch.device) -> int:
    """How many points run together.

    budget  bytes
    each    bytes a point
    least   points that must fit into the budget, or ResourceError
    what    they are called
    device  where they run: on a CPU no more than its caches like
    """
    fit = budget // max(1, each)
    if fit < least:
        raise ResourceError(
            f"{what} takes {least * each / 2**20:.0f} MiB, more than the {budget / 2**20:.0f} allowed",
            fix="give a larger memory budget, or start at a later layer",
        )
    if device.type != "cpu":
        return fit
    return max(least, min(fit, CACHED * torch.get_num_threads() // max(1, each)))


def placed(tail: Tail, dtype: torch.dtype, device: torch.device | str) -> Tail:
    """The tail in this dtype and on this device: itself, or a copy."""
    wanted = torch.device(device)
    there = tail.device.type == wanted.type and wanted.index in (None, tail.device.index)
    return tail if tail.dtype == dtype and there else tail.to(dtype, wanted)


def has_classes(tail: Tail) -> bool:
    """Whether the output is a vector, so that it has an argmax."""
    return tail.output_shape is not None and len(tail.output_shape) == 1


def pixels(corners: Sequence[Block], height: int, width: int) -> tuple[Tensor, Tensor]:
    """int64 (n,) rows and columns of rasters of height x width points, one behind the other, row by row."""
    corner = torch.tensor([[b.row, b.column] for b in corners])
    shape = (len(corners), height, width)
    rows = (corner[:, :1, None] + torch.arange(height)[None, :, None]).expand(shape)
    columns = (corner[:, 1:, None] + torch.arange(width)).expand(shape)
    return rows.reshape(-1), columns.reshape(-1)

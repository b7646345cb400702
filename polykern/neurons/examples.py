"""The inputs that excite every neuron most, found in one pass: running top-k, exact, ties to the earlier one.

    example of a neuron in a sequence = the token where its pre-activation is largest, the first of equal ones

Of each neuron the k sequences with the largest such values stay. A value and its place are one 64-bit key, so that
what stays does not depend on how the sequences are batched. What the neuron received there is kept once for all
neurons that share the token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.errors import CorruptError
from polykern.ranks import Ranks

LOW = (1 << 32) - 1
BACK, AHEAD = 20, 10  # tokens of an example's window
HELD = {"cpu": 1 << 13, "cuda": 1 << 17}  # tokens whose inputs all stay for a while


@dataclass(frozen=True, eq=False)
class Examples:
    """The top examples of n neurons, the largest first; k each at most.

    value   float32 (n, k)            pre-activation; -inf where a neuron has fewer
    row     int64 (n, k)              number of the token among all that were read; -1 where there is none
    window  float16 (n, k, 31)        pre-activations from 20 tokens before to 10 behind; nan outside the sequence
    token   int64 (m)                 the different tokens among `row`, ascending
    inputs  float32 (m, d)            what the layer received at each
    """

    value: Tensor
    row: Tensor
    window: Tensor
    token: Tensor
    inputs: Tensor

    def received(self, neurons: slice | Tensor) -> Tensor:
        """float32 (some, k, d): what the neurons received at their examples; 0 where there is none."""
        row = self.row[neurons]
        at = torch.searchsorted(self.token, row.clamp_min(0)).clamp_max(max(0, len(self.token) - 1))
        return self.inputs[at] * (row >= 0)[..., None]


class TopExamples:
    """Running top examples of a layer, on one device.

    neurons  of the layer
    width    of what it receives
    k        examples of each neuron that stay
    device   of all that is added and kept

    At most k * neurons inputs are held, and beside them those of the last `HELD` tokens. Adding copies nothing from
    the device and waits for nothing, but when that many tokens have come in.
    """

    def __init__(self, neurons: int, width: int, k: int, device: torch.device | str = "cpu") -> None:
        self.k = k
        self._key = torch.full((neurons, k), torch.iinfo(torch.int64).min, device=device)
        self._window = torch.full((neurons, k, BACK + 1 + AHEAD), torch.nan, dtype=torch.float16, device=device)
        self._token = torch.zeros(0, dtype=torch.int64, device=device)
        self._inputs = torch.zeros(0, width, device=device)
        self._fresh: list[tuple[Tensor, Tensor]] = []
        self._held, self._most = 0, HELD["cuda" if self._key.is_cuda else "cpu"]
        self._nan = torch.zeros((), dtype=torch.bool, device=device)

    @property
    def size(self) -> tuple[int, int]:
        """Neurons, and the width of what they receive."""
        return len(self._key), self._inputs.shape[1]

    def add(self, values: Tensor, inputs: Tensor, lengths: Tensor, first: Tensor) -> None:
        """More sequences, padded behind their ends.

        values   float (s, t, neurons)   pre-activations at every token
        inputs   float (s, t, width)     what the layer received there
        lengths  int64 (s)               tokens of each sequence, at least 1
        first    int64 (s)               number of the first among all tokens that are read; no two tokens share one
        """
        place = torch.arange(values.shape[1], device=values.device)
        inside = place < lengths[:, None]
        shown = values.float().masked_fill(~inside[..., None], -torch.inf)
        best, at = shown.max(1)  # (s, neurons); of equal ones the first, and NaN before all
        self._nan |= best.isnan().any()
        key = torch.cat([self._key, _key(best, first[:, None] + at).T], 1)
        self._key, index = key.topk(self.k, 1)
        around = at[..., None] + torch.arange(-BACK, AHEAD + 1, device=values.device)
        seen = shown.transpose(1, 2).gather(2, around.clamp(0, values.shape[1] - 1))
        seen = seen.masked_fill((around < 0) | (around >= lengths[:, None, None]), torch.nan).half()
        window = torch.cat([self._window, seen.transpose(0, 1)], 1)
        self._window = window.gather(1, index[..., None].expand(-1, -1, window.shape[2]))
        row = torch.where(inside, first[:, None] + place, -1)
        self._fresh.append((row.flatten(), inputs.flatten(0, 1).float()))
        self._held += row.numel()
        if self._held >= self._most:
            self._settle()

    def share(self, group: Ranks) -> None:
        """Give every rank the top examples of all of them: those that one process would have found."""
        if group.size == 1:
            return
        self._settle()
        key, index = torch.cat(group.gathered(self._key), 1).topk(self.k, 1)
        wide = index[..., None].expand(-1, -1, self._window.shape[2])
        self._window = torch.cat(group.gathered(self._window), 1).gather(1, wide)
        self._fresh = list(zip(group.gathered(self._token), group.gathered(self._inputs), strict=True))
        self._key, self._token, self._inputs = key, self._token[:0], self._inputs[:0]
        self._nan = group.total(self._nan.int()) > 0

    def examples(self) -> Examples:
        """What has been found so far. Raises CorruptError where a pre-activation was NaN."""
        if bool(self._nan):
            raise CorruptError("pre-activations hold NaN, which has no order")
        self._settle()
        value, row = _unkey(self._key)
        return Examples(value, row, self._window, self._token, self._inputs)

    def _settle(self) -> None:
        """Keep the inputs of the tokens that are examples of some neuron, and no others."""
        row = _unkey(self._key)[1].flatten()
        row = row[row >= 0].unique()
        token = torch.cat([self._token, *(t for t, _ in self._fresh)])
        inputs = torch.cat([self._inputs, *(x for _, x in self._fresh)])
        token, order = token.sort()
        at = order[torch.searchsorted(token, row)]
        self._inputs, self._token = inputs[at], row
        self._fresh, self._held = [], 0


def _key(value: Tensor, row: Tensor) -> Tensor:
    """int64 that orders by value, then the earlier row first."""
    bits = value.contiguous().view(torch.int32).long()
    ordered = torch.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))  # -0 and +0 alike
    return (ordered << 32) | (LOW - row)


def _unkey(key: Tensor) -> tuple[Tensor, Tensor]:
    """The values and rows of keys; -inf and -1 where there is none."""
    empty = key == torch.iinfo(torch.int64).min
    ordered = key >> 32
    bits = torch.where(ordered >= 0, ordered, -ordered | 0x80000000)
    value = bits.to(torch.int32).view(torch.float32)
    return value.masked_fill(empty, -torch.inf), (LOW - (key & LOW)).masked_fill(empty, -1)

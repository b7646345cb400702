"""The inputs that excite every neuron most, found in one pass: running top-k, exact, ties to the earlier one.

    example of a neuron in a sequence = the token where its pre-activation is largest, the first of equal ones

Of each neuron the k sequences with the largest such values stay. A value and its place are one 64-bit key, so that
what stays does not depend on how the sequences are batched. What the neuron received there is kept once for all
neurons that share the token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from polykern.ranks import Ranks

LOW = (1 << 32) - 1
BACK, AHEAD = 20, 10  # tokens of an example's window


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
    """Running top examples of a layer.

    neurons  of the layer
    width    of what it receives
    k        examples of each neuron that stay

    At most k * neurons inputs are held, and once more while a batch is taken in.
    """

    def __init__(self, neurons: int, width: int, k: int) -> None:
        self.k = k
        self._key = torch.full((neurons, k), torch.iinfo(torch.int64).min)
        self._window = torch.full((neurons, k, BACK + 1 + AHEAD), torch.nan, dtype=torch.float16)
        self._token = torch.zeros(0, dtype=torch.int64)
        self._inputs = torch.zeros(0, width)
        self._rows = 0

    def add(self, values: Tensor, inputs: Tensor, lengths: Tensor) -> None:
        """More sequences, one behind the other.

        values   float (t, neurons)   pre-activations at every token
        inputs   float (t, width)     what the layer received there
        lengths  int64 (s)            tokens of each sequence; their sum is t
        """
        values, ends = values.float(), lengths.cumsum(0)
        starts = ends - lengths
        best, place = _largest(values, starts, ends)  # (s, neurons)
        key = _key(best, self._rows + place).T
        self._key, index = torch.cat([self._key, key], 1).topk(self.k, 1) if key.shape[1] else (self._key, None)
        if index is None:
            return
        fresh = index >= self.k
        kept = index.clamp_max(self.k - 1)[..., None].expand(-1, -1, self._window.shape[2])
        self._window = self._window.gather(1, kept)
        self._look(fresh, index - self.k, place, values, starts, ends)
        self._hold(inputs.float())
        self._rows += len(values)

    def skip(self, lengths: Tensor) -> None:
        """Sequences that another rank looks at."""
        self._rows += int(lengths.sum())

    def share(self, group: Ranks) -> None:
        """Give every rank the top examples of all of them: those that one process would have found."""
        if group.size == 1:
            return
        token = torch.cat(group.gathered(self._token))
        inputs = torch.cat(group.gathered(self._inputs))
        key, index = torch.cat(group.gathered(self._key), 1).topk(self.k, 1)
        wide = index[..., None].expand(-1, -1, self._window.shape[2])
        self._window = torch.cat(group.gathered(self._window), 1).gather(1, wide)
        row = _unkey(key)[1]
        self._key, self._token = key, row[row >= 0].unique()
        order = token.argsort()
        self._inputs = inputs[order[torch.searchsorted(token[order], self._token)]]

    def examples(self) -> Examples:
        """What has been found so far."""
        value, row = _unkey(self._key)
        return Examples(value, row, self._window, self._token, self._inputs)

    def _look(
        self, fresh: Tensor, sequence: Tensor, place: Tensor, values: Tensor, starts: Tensor, ends: Tensor
    ) -> None:
        """The windows of examples that came in."""
        neuron, slot = fresh.nonzero(as_tuple=True)
        s = sequence[neuron, slot]
        at = place[s, neuron][:, None] + torch.arange(-BACK, AHEAD + 1)
        inside = (at >= starts[s, None]) & (at < ends[s, None])
        seen = values[at.clamp(0, len(values) - 1), neuron[:, None]]
        self._window[neuron, slot] = torch.where(inside, seen, torch.nan).half()

    def _hold(self, inputs: Tensor) -> None:
        """Keep the inputs of the tokens that are examples of some neuron, and no others."""
        row = _unkey(self._key)[1]
        token = row[row >= 0].unique()
        old = token < self._rows
        held = torch.searchsorted(self._token, token[old])
        self._inputs = torch.cat([self._inputs[held], inputs[token[~old] - self._rows]])
        self._token = token


def _largest(values: Tensor, starts: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Of every sequence and neuron the largest value and where it is first, (s, neurons) each."""
    found = [values[a:b].max(0) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
    if not found:
        return values.new_zeros(0, values.shape[1]), torch.zeros(0, values.shape[1], dtype=torch.int64)
    place = torch.stack([f.indices for f in found]) + starts[:, None]
    return torch.stack([f.values for f in found]), place


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

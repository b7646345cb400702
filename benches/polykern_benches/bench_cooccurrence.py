"""How often two bits are on together, beside plain float64 torch."""

from functools import partial

from torch import Tensor

from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_benches.peers import products
from polykern_kernels import cooccurrence
from polykern_kernels._bits import WORD_BITS

CHUNK = 1 << 14  # rows that the peer has in float64


def cases(setting: Setting) -> list[Case]:
    """The neurons of a layer, over the codes of a corpus."""
    gpu = setting.device == "cuda"
    rows, bits = setting.pick((1 << 20, 12288) if gpu else (100_000, 3072), (9, 96))

    def setup() -> Trial:
        words = codes(rows, bits // WORD_BITS, device=setting.device)

        few = words[:CHUNK]

        def holds(got: Tensor) -> bool:
            # the bits of the last word among each other; of float64, which the peer gives, in its rows
            of = few if got.is_floating_point() else words
            want = cooccurrence.counts(of[:, -1:], WORD_BITS, backend="reference")
            return same(got[-WORD_BITS:, -WORD_BITS:].to(want.dtype), want) and same(got, got.T)

        return Trial(
            inputs=(words,),
            run=lambda backend: cooccurrence.counts(words, bits, backend=backend),
            holds=holds,
            beside=partial(products.scaled, few, rows, device=setting.device),
        )

    case = Case(
        operation="cooccurrence.counts",
        params={"rows": rows, "bits": bits},
        dtype="int32",
        cost=cooccurrence.cost(rows, bits),
        ways=cooccurrence.IMPLS,
        setup=setup,
        peers=(products.COOCCURRENCE,),
        memory=16 * CHUNK * bits + 3 * cooccurrence.cost(rows, bits).bytes,
    )
    return [case]

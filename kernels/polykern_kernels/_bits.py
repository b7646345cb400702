"""The one word layout: bit j of a code is bit j % 32 of word j // 32; padding bits are zero."""

import torch
from torch import Tensor

WORD_BITS = 32


def words_for(bits: int) -> int:
    """32-bit words that hold `bits` bits."""
    return -(-bits // WORD_BITS)


def spread(words: Tensor) -> Tensor:
    """int32 (..., words) -> int32 (..., words, 32): the bits of every word, the lowest first."""
    shifts = torch.arange(WORD_BITS, dtype=torch.int32, device=words.device)
    return (words[..., None] >> shifts) & 1

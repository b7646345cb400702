"""The one word layout: bit j of a code is bit j % 32 of word j // 32; padding bits are zero."""

WORD_BITS = 32


def words_for(bits: int) -> int:
    """32-bit words that hold `bits` bits."""
    return -(-bits // WORD_BITS)

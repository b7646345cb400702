"""Words that mean the same: how densely boundaries lie between them, layer by layer of a language model.

draw      which pairs of words, and with whom each is paired instead
reading   codes and MLP inputs of words in a text
compute   `pk.synonyms`
result    what comes of it
"""

from polykern.words.compute import synonyms as synonyms
from polykern.words.draw import read_pairs as read_pairs
from polykern.words.result import Synonyms as Synonyms

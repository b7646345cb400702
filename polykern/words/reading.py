"""Words in a language model: the code of each one's last token, and what enters every MLP there."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from polykern.codes import Codes
from polykern.errors import UsageError
from polykern.models.language import Language
from polykern.progress import Progress
from polykern.tracing import trace

BATCH = 32  # texts a pass
HOLE = "{}"


@dataclass(frozen=True, eq=False)
class Read:
    """Words as a model reads them.

    codes   of n words, of their last tokens
    inputs  float32 (layers, n, width)   what enters each MLP
    """

    codes: Codes
    inputs: Tensor


@dataclass(frozen=True)
class Placed:
    """A text with a word in it.

    tokens  of the text, with what opens and closes it
    last    which of them is the word's last one
    size    tokens of the word
    rank    the highest number among them: vocabularies of pairs and of word pieces begin with what is frequent
    """

    tokens: tuple[int, ...]
    last: int
    size: int
    rank: int


def placed(language: Language, words: Sequence[str], text: str) -> dict[str, Placed]:
    """Each word in a text; those that the tokenizer does not part from the text around them are left out.

    text  with "{}" where the word stands

    Errors: UsageError for a text without a place.
    """
    if text.count(HOLE) != 1:
        raise UsageError(
            f"a text for words has one place for them, got {text!r}", fix=f'write "The word is {HOLE}."'
        )
    before, _, after = text.partition(HOLE)
    vocabulary = language.vocabulary
    pieces = vocabulary.pieces([before + word + after for word in words])
    front = len(before.rstrip().encode())  # the blank before a word is part of its first token, or of none
    found = {}
    for word, piece in zip(words, pieces, strict=True):
        end = len((before + word).encode())
        inside = np.flatnonzero((piece.ends > len(before.encode())) & (piece.ends <= end))
        if not len(inside) or piece.ends[inside[-1]] != end or front not in (0, *piece.ends[: inside[0]].tolist()):
            continue
        ids = piece.ids.tolist()
        tokens = (*vocabulary.opening, *ids, *vocabulary.closing)
        last = len(vocabulary.opening) + int(inside[-1])
        found[word] = Placed(tokens, last, len(inside), max(ids[k] for k in inside))
    return found


def read(language: Language, texts: Sequence[Placed], progress: Progress | None = None) -> Read:
    """Codes and MLP inputs of words in their texts.

    texts     n of them; those of one length run together, so that none is padded
    progress  called with (stage, done, total)

    Errors: UsageError for a model whose nonlinearities are not one an MLP.
    """
    model, order, done = language.model, _by_length(texts), 0
    codes: list[Codes] = []
    inputs: list[Tensor] = []
    for rows in order:
        tokens = torch.tensor([texts[k].tokens for k in rows])
        last = torch.tensor([texts[k].last for k in rows])
        with trace(model, rows="tokens") as traced, torch.no_grad(), ExitStack() as stack:
            seen: dict[str, list[Tensor]] = {}
            for name, module in model.named_modules():
                handle = module.register_forward_pre_hook(_noted(seen, name, last))
                stack.callback(handle.remove)
            model(**language.inputs(tokens))
        codes.append(traced.codes[torch.arange(len(rows)) * tokens.shape[1] + last])
        inputs.append(torch.stack([_only(seen, mlp_of(model, f.module)) for f in traced.layout.fields]))
        done += len(rows)
        if progress:
            progress("words", done, len(texts))
    back = torch.from_numpy(np.argsort(np.concatenate(order)))
    return Read(Codes.cat(codes)[back], torch.cat(inputs, 1)[:, back])


def mlp_of(model: nn.Module, name: str) -> str:
    """The module whose input is the MLP's: the one that holds a nonlinearity, or in which it is called."""
    module = model.get_submodule(name)
    alone = not any(True for _ in module.children()) and not any(True for _ in module.parameters())
    return name.rpartition(".")[0] if alone else name


def _noted(seen: dict[str, list[Tensor]], name: str, last: Tensor) -> Any:
    def note(module: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor) and args[0].ndim == 3:
            seen.setdefault(name, []).append(args[0][torch.arange(len(last)), last].detach().clone())

    return note


def _only(seen: dict[str, list[Tensor]], name: str) -> Tensor:
    found = seen.get(name, [])
    if len(found) != 1:
        raise UsageError(f"{len(found)} vectors a token enter the module {name}", why="an MLP reads one")
    return found[0]


def _by_length(texts: Sequence[Placed]) -> list[list[int]]:
    """Numbers of texts of one length, at most 32 together."""
    by_length: dict[int, list[int]] = {}
    for k, text in enumerate(texts):
        by_length.setdefault(len(text.tokens), []).append(k)
    return [rows[i : i + BATCH] for _, rows in sorted(by_length.items()) for i in range(0, len(rows), BATCH)]

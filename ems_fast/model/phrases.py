"""Phrases: frequent pairs of neighbouring tokens, with vectors of their own in a token table.

The mean of token vectors knows no order and no idioms. A phrase's vector, which begins at zero, is
what the table adds where its two tokens stand side by side: context at the price of a look-up.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Beyond every phrase's key, which is below V².
_BEYOND = torch.iinfo(torch.int64).max


def phrase_keys(first: Tensor, second: Tensor, vocab_size: int) -> Tensor:
    """One number, int64 of the shape of both, for a token and the one after it."""
    return first * vocab_size + second


def with_phrases(
    ids: Tensor, lengths: Tensor, phrases: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Put the phrases of B sentences behind their second tokens.

    Args:
        ids: int64 [N], the tokens of the sentences one after another.
        lengths: int64 [B], the tokens of each sentence, at least 1.
        phrases: int64 [K], ascending keys; phrase k has the id ``vocab_size + k``.
        vocab_size: V, above every token.

    Returns:
        ids int64 [N + P] and lengths int64 [B], with the P phrases that were found.
    """
    ends = lengths.cumsum(0)
    keys = phrase_keys(ids[:-1], ids[1:], vocab_size)
    nearest = torch.searchsorted(phrases, keys).clamp_max(len(phrases) - 1)
    second = torch.zeros_like(ids, dtype=torch.bool)  # the second token of a phrase
    second[1:] = phrases[nearest] == keys
    second[ends[:-1]] = False  # the first token of a sentence
    shift = second.cumsum(0)  # phrases up to and including this token's
    found = second.nonzero()[:, 0]
    joined = ids.new_empty(len(ids) + len(found))
    joined[torch.arange(len(ids), device=ids.device) + shift - second.long()] = ids
    joined[found + shift[found]] = vocab_size + nearest[found - 1]
    upto = shift[ends - 1]
    return joined, lengths + upto.diff(prepend=upto.new_zeros(1))


def find_phrases(keys: Tensor, phrases: Tensor) -> tuple[Tensor, Tensor]:
    """Look `keys` up by bisection, in operations that every runtime has.

    Args:
        keys: int64 of any shape.
        phrases: int64 [K], ascending.

    Returns:
        Of every key its place among the phrases, int64, and whether it is there, bool; the place of
        one that is not there is any.
    """
    steps = len(phrases).bit_length()
    padded = torch.cat([phrases, phrases.new_full(((1 << steps) - len(phrases),), _BEYOND)])
    place = torch.zeros_like(keys)
    for step in reversed(range(steps)):
        further = place + (1 << step)
        place = torch.where(padded[further] <= keys, further, place)
    return place, padded[place] == keys

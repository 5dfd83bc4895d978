"""From an example that is fine to one that is not: of bytes, and of what JSON and TOML hold."""

from __future__ import annotations

import copy
import random
import struct
from collections.abc import Sequence
from typing import Any

NUMBERS = (
    0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1,
    2**32, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, 10**30,
)  # fmt: skip
_DEEP: list[Any] = []
for _ in range(100):
    _DEEP = [_DEEP]
VALUES: tuple[Any, ...] = (
    *NUMBERS, None, True, False, 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), "",
    "x", "\0", "../x", "/", "de", "é\u202e", "a" * 300, "F64", "float32", [], {}, [[]], [0, -1],
    {"": 0}, _DEEP,
)  # fmt: skip
# What breaks one format or another: ends of lines and strings, declarations, numbers, encodings.
TOKENS = (
    b"\0", b"\n", b"\r", b"\t", b'"', b'""', b"\\", b"\\x", b"\\777", b"[99999999999999999999]",
    b",", b";", b"<", b">", b"</seg>", b"<tu>", b"</tu>", b"&amp;", b"&#0;", b"&x;", b"]]>",
    b'<?xml version="1.0" encoding="utf-7"?>', b'encoding="shift_jis"', b"<!DOCTYPE x [",
    b'<!ENTITY x "y">', b"charset=rot13", b"charset=utf-16", b"charset=idna", b"\xff\xfe",
    b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x80\xa8", b"1e999", b"-1", b"NaN",
    b"null", b"true", b"{}", b"[]", b"[" * 2000, b'{"a":' * 2000, b'"\\ud800"', b"9" * 5000,
    b"PK\x03\x04", b"PK\x05\x06", b"PK\x01\x02", b"\x1f\x8b", b"(\xb5/\xfd", b"en", b"de", b"en-de",
    b"xx", b"xml:lang", b"\x93NUMPY", b"'descr'", b"|O", b"(0, -1)", b"A" * 4096,
)  # fmt: skip


def mutate(rng: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """`data` with one to four things wrong; parts may come from `others`."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(rng, changed, others)
    return bytes(changed)


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 9, 10, 34, 92, 127, 128, 255))


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _span(rng: random.Random, data: bytearray) -> slice:
    begin = rng.randrange(len(data) + 1)
    return slice(begin, begin + rng.choice((1, 2, 4, 8, 32, 128, 1024)))


def _delete(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    del data[_span(rng, data)]


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    span = _span(rng, data)
    data[span] = data[span] * rng.choice((2, 3, 20))


def _insert(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(TOKENS)


def _overwrite(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    token = rng.choice(TOKENS)[:64]
    at = rng.randrange(len(data) + 1)
    data[at : at + len(token)] = token


def _number(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    form = rng.choice(("<H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    # Numbers of files stand at multiples of their size more often than not.
    at = rng.randrange(len(data) + 1)
    at -= at % size if rng.random() < 0.7 else 0
    data[at : at + size] = struct.pack(form, rng.choice(NUMBERS) % (1 << 8 * size))


def _decimal(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> None:
    """Another number in the place of one that is written in digits."""
    digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
    if digits:
        begin = end = rng.choice(digits)
        while end < len(data) and 48 <= data[end] <= 57:
            end += 1
        data[begin:end] = str(rng.choice(NUMBERS)).encode()


def _splice(rng: random.Random, data: bytearray, others: Sequence[bytes]) -> None:
    if others:
        other = rng.choice(others)
        at, begin = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
        data[at : at + rng.choice((0, 16, len(data)))] = other[begin : begin + 4096]


_CHANGES = (
    _flip, _flip, _set, _cut, _delete, _repeat, _insert, _insert, _overwrite, _number, _number,
    _decimal, _splice,
)  # fmt: skip


def mutate_tree(rng: random.Random, tree: Any, values: Sequence[Any] = VALUES) -> Any:
    """A copy of nested dicts and lists in which one or two places hold something else."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2))):
        places = list(_places(tree))
        if not places:
            return copy.deepcopy(rng.choice(values))
        parent, key = rng.choice(places)
        what = rng.randrange(10)
        if what == 0:
            del parent[key]
        elif what == 1 and isinstance(parent, dict):
            parent[rng.choice(("", "x", "format", "\0"))] = parent.pop(key)
        elif what == 2:
            other, place = rng.choice(places)
            parent[key] = copy.deepcopy(other[place])
        elif what == 3 and isinstance(parent[key], (list, str)):
            parent[key] = parent[key] * 2
        else:
            parent[key] = copy.deepcopy(rng.choice(values))
    return copy.deepcopy(rng.choice(values)) if rng.random() < 0.02 else tree


def _places(tree: Any) -> Any:
    if isinstance(tree, (dict, list)):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            yield tree, key
            yield from _places(tree[key])

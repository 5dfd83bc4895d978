from __future__ import annotations

from ems_fast.text.table import aligned


def test_words_stand_at_the_left_and_numbers_at_the_right():
    blocks = [
        [("set", "languages", "n")],
        [("a", "de-en", "7"), ("b", "", "1,000")],
        [("", "", "")],
    ]
    assert aligned(blocks, labels=2).split("\n") == [
        "set  languages      n",
        "---------------------",
        "a    de-en          7",
        "b               1,000",
        "---------------------",
        "",
    ]

from __future__ import annotations

from pathlib import Path

import pytest

import ems_fast
from ems_fast.demo.first_look import SENTENCES, first_look
from ems_fast.encoding import shipped
from ems_fast.text.languages import normalize_language


def test_every_language_has_every_sentence() -> None:
    rows = [line.split("\t") for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    assert len({len(row) for row in rows}) == 1
    codes = [row[0] for row in rows]
    assert codes[0] == "en"
    assert [normalize_language(code) for code in codes] == codes
    assert len({text for row in rows for text in row[1:]}) == sum(len(row) - 1 for row in rows)


def test_it_shows_neighbours(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ems_fast.export(run, tmp_path / "multilingual", to="ems-fast")
    monkeypatch.setattr(shipped, "_FOLDER", tmp_path)
    text = first_look(shown=2).splitlines()
    rows = SENTENCES.read_text(encoding="utf-8").splitlines()
    queries = rows[0].count("\t")
    assert len(text) == 2 + 3 * queries
    assert f"of the {queries * (len(rows) - 1)} translations" in text[-1]


def test_the_shipped_model_finds_them() -> None:
    assert shipped.shipped_models() == ["multilingual"]
    counted = first_look().splitlines()[-1].split()
    assert int(counted[0]) >= 0.95 * int(counted[3])

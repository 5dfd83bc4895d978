from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.fake_encoder import CollapsedEncoder, NgramEncoder

import ems_fast
from ems_fast.corpus import BinaryCorpus
from ems_fast.evaluation import EvalSet
from ems_fast.evaluation.held_out import held_out_sets
from ems_fast.reporting.findings import Findings, find
from ems_fast.reporting.matrix import FEWEST, measure, pivot
from ems_fast.reporting.meanings import LONGEST, pools
from ems_fast.reporting.sentence_map import MOST_POINTS, draw_map


def sets(n: int = 40) -> list[EvalSet]:
    """English with two languages: to the encoder of spellings, German is English, French not."""
    english = tuple(f"sentence {i * 7919 % 10007} of many {i * 104729 % 99991}" for i in range(n))
    german = tuple(f"{text}." for text in english)
    french = tuple("".join(chr(ord(c) + 512) for c in text) for text in english)
    return [EvalSet("s", "en", "de", english, german), EvalSet("s", "en", "fr", english, french)]


LINKS = [("en", "de"), ("en", "fr")]


def test_a_shared_sentence_joins_its_translations() -> None:
    found = pools(NgramEncoder(), sets(), 1000)
    assert [(pool.language, len(pool.texts)) for pool in found] == [
        ("de", 40), ("en", 40), ("fr", 40),
    ]  # fmt: skip
    meanings = {pool.language: pool.meanings.tolist() for pool in found}
    assert meanings["de"] == meanings["en"] == meanings["fr"]
    for pool in found:
        np.testing.assert_allclose(np.linalg.norm(pool.vectors, axis=1), 1, rtol=1e-5)


def test_pairs_that_share_a_side_are_taken_first() -> None:
    one, other = sets(20)
    # Only the last ten are in the second set.
    other = EvalSet("s", "en", "fr", other.source[10:], other.target[10:])
    found = {pool.language: pool for pool in pools(NgramEncoder(), [one, other], 10)}
    assert set(found["de"].texts) == set(one.target[10:])
    assert len(found["en"].texts) == 10


def test_matrix_and_mistakes() -> None:
    matrix, mistakes = measure(pools(NgramEncoder(512), sets(), 1000), LINKS)
    assert set(matrix.languages) == {"en", "de", "fr"}
    assert matrix.languages[-1] == "fr"
    share = {(a, b): value for value, a, b in matrix.cells()}
    assert len(share) == 6
    assert share["en", "de"] == share["de", "en"] == 1
    assert share["en", "fr"] < 0.3
    assert share["de", "fr"] < 0.3  # known by way of English alone
    assert matrix.means()["en"] > matrix.means()["fr"]
    # Those of the language that has them, worst first, between languages of a set.
    assert list(mistakes) == ["fr"]
    gaps = [one.gap for one in mistakes["fr"]]
    assert gaps == sorted(gaps, reverse=True)
    assert all(gap > 0 for gap in gaps)
    english = sets()[0].source
    for one in mistakes["fr"]:
        assert {one.source, one.target} == {"en", "fr"}
        assert one.taken != one.right
        if one.source == "en":
            at = english.index(one.query)
            assert one.right == sets()[1].target[at]


def test_a_collapsed_model_finds_by_chance() -> None:
    matrix, mistakes = measure(pools(CollapsedEncoder(), sets(), 1000), LINKS)
    assert [value for value, *_ in matrix.cells()] == pytest.approx([1 / 40] * 6)
    assert mistakes == {}


def test_few_translations_are_no_share() -> None:
    matrix, _ = measure(pools(NgramEncoder(), sets(FEWEST - 1), 1000), LINKS)
    assert list(matrix.cells()) == []
    assert matrix.queries[0][1] == FEWEST - 1
    assert matrix.means() == {}


def test_pivot() -> None:
    assert pivot([("en", "de"), ("fr", "en")]) == "en"
    assert pivot([("en", "de")]) == "en"
    assert pivot([("en", "de"), ("fr", "it")]) is None
    assert pivot([]) is None


def test_map_is_bounded_and_shows_all_languages() -> None:
    many = [
        EvalSet(
            "s", "en", f"x{at}", sets(60)[0].source,
            tuple(f"{at} {text}" for text in sets(60)[0].source),
        )
        for at in range(59)
    ]  # fmt: skip
    found = draw_map(pools(NgramEncoder(), many, 60))
    assert found is not None
    assert 0.9 * MOST_POINTS < len(found.texts) <= MOST_POINTS
    assert len(set(found.languages)) == 60
    assert len(set(found.meanings)) >= 20
    assert min(found.x) >= 0
    assert max(found.y) <= 1


def test_no_map_without_translations() -> None:
    (pool, *_) = pools(NgramEncoder(), sets(), 1000)
    assert draw_map([pool]) is None


def test_findings_are_written_and_read(run: Path, corpus: BinaryCorpus, tmp_path: Path) -> None:
    found = find(ems_fast.load(run), held_out_sets(corpus, 500), corpus, step=3, digests={"a": "b"})
    assert found.matrix is not None
    assert found.map is not None
    assert found.text is not None
    assert found.text.total["kept"] == corpus.num_pairs
    assert set(found.text.lengths) == {"en", "de", "fr"}
    assert sum(share for *_, share in found.text.histogram) == pytest.approx(1)
    found.write(tmp_path / "f.json")
    again = Findings.read(tmp_path / "f.json")
    assert again is not None
    assert again.matrix == found.matrix
    assert again.mistakes == found.mistakes
    assert again.map == found.map
    assert again.digests == {"a": "b"}
    for text in ("", "{}", '{"format": 2}', "[1]"):
        (tmp_path / "f.json").write_text(text)
        assert Findings.read(tmp_path / "f.json") is None
    assert Findings.read(tmp_path / "missing.json") is None


def test_long_sentences_are_shown_in_part() -> None:
    one = sets(12)[0]
    long = EvalSet("s", "en", "de", tuple(f"{t} {'x' * 900}" for t in one.source), one.target)
    found = draw_map(pools(NgramEncoder(), [long], 100))
    assert found is not None
    assert max(map(len, found.texts)) == LONGEST

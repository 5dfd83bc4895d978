"""Noise out of parallel text: each test, the output, and going on after an interruption."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from support.fake_encoder import NgramEncoder

from ems_fast import BackendError, InputError, Tsv, cli, filter_pairs
from ems_fast.filtering import api
from ems_fast.filtering.duplicates import NearDuplicates
from ems_fast.filtering.scoring import length_deviations, score_pool
from ems_fast.mining import score_pairs

WORDS = [
    "stone",
    "river",
    "light",
    "paper",
    "house",
    "garden",
    "winter",
    "silver",
    "morning",
    "bridge",
    "yellow",
    "forest",
]


def sentences(n: int) -> list[str]:
    """Different sentences; the encoder of n-grams takes equal spelling for equal meaning."""
    rows = itertools.product(WORDS, repeat=4)
    return [" ".join(row) for row in itertools.islice(rows, 0, n * 17, 17)]


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    return path


def good(n: int) -> list[tuple[str, str]]:
    return [(text, text.replace("e", "é") + " ja") for text in sentences(n)]


def run(source: Path, output: Path, **options):
    return filter_pairs(source, output, encoder=NgramEncoder(), progress=False, **options)


def kept(output: Path) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in Tsv(output)]


def test_each_pair_falls_to_the_first_test_that_it_fails(tmp_path):
    pairs = good(100)
    bad = [
        (pairs[3][0], ""),
        (pairs[4][0], pairs[4][0].upper()),
        (pairs[5][0], pairs[5][1][:8]),
        (pairs[6][0], "9137 2846 0571 9482 7350 61"),
    ]
    source = write(tmp_path / "en-de.tsv", pairs + bad)
    report = run(source, tmp_path / "clean.tsv", min_score=0.2)
    assert report.dropped == {"empty": 1, "identical": 1, "length": 1, "score": 1}
    assert (report.read, report.kept) == (104, 100)
    assert kept(tmp_path / "clean.tsv") == pairs
    assert report.below[0][2].startswith("9137")
    assert len(report.above) == 5
    assert sum(scored for _, scored, _ in report.histogram) == 101
    assert sum(passed for _, _, passed in report.histogram) == 100
    found = json.loads((tmp_path / "clean.tsv.report.json").read_text())
    assert found["dropped"] == report.dropped
    assert "kept, nearest to min_score" in report.to_text()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".xz"])
def test_the_output_says_its_languages(tmp_path, suffix):
    source = write(tmp_path / "zh_Hans-pt-BR.tsv", good(60))
    output = tmp_path / f"clean.tsv{suffix}"
    run(source, output)
    assert {(p.source_lang, p.target_lang) for p in Tsv(output)} == {("zh_hans", "pt-br")}
    assert not list(tmp_path.glob(".*"))


def test_top_keeps_the_highest_margins(tmp_path):
    source = write(tmp_path / "en-de.tsv", good(100))
    run(source, tmp_path / "all.tsv")
    report = run(source, tmp_path / "top.tsv", top=30)
    assert (report.kept, report.dropped) == (30, {"top": 70})
    lines = (tmp_path / "all.tsv").read_text().splitlines()
    chosen = (tmp_path / "top.tsv").read_text().splitlines()
    margins = [float(line.split("\t")[4]) for line in lines]
    assert min(float(line.split("\t")[4]) for line in chosen) >= sorted(margins)[-30]
    assert chosen == [line for line in lines if line in set(chosen)]  # in the order of the text


def test_scores_are_those_of_the_pairs(tmp_path):
    source, target = map(list, zip(*good(80), strict=True))
    encoder = NgramEncoder()
    cosine, margin = score_pool(encoder, source + source[:5], target + target[:5])
    assert encoder.encoded == 170  # each side once
    expected = score_pairs(NgramEncoder(), source + source[:5], target + target[:5])
    np.testing.assert_allclose(margin, expected, rtol=1e-5)
    assert (cosine <= 1).all()


def test_lengths_are_seen_against_what_is_usual():
    sources, targets = ["a" * 40] * 60, ["b" * 90] * 59 + ["b" * 35]
    found = length_deviations(sources, targets, [("en", "de")] * 60)
    np.testing.assert_allclose(found[:59], 1, rtol=1e-5)
    assert found[59] == pytest.approx(100 / 45, rel=1e-5)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(api, "POOL_PAIRS", 50)
    monkeypatch.setattr(api, "SEGMENT_PAIRS", 100)


class Failing:
    """A reader that fails once, after some pairs."""

    def __init__(self, reader, after):
        self.reader, self.after = reader, after
        self.name = reader.name

    def check(self):
        self.reader.check()

    def __iter__(self):
        after, self.after = self.after, None
        yield from itertools.islice(self.reader, after)
        if after is not None:
            raise InputError("the line is gone")


@pytest.mark.parametrize("near_duplicates", [False, True])
def test_goes_on_where_it_was_interrupted(tmp_path, small, near_duplicates):
    if near_duplicates:
        pytest.importorskip("datasketch", reason="needs datasketch")
    pairs = good(330)
    pairs[310] = (pairs[20][0].upper(), pairs[20][1])
    reader = Failing(Tsv(write(tmp_path / "en-de.tsv", pairs)), 250)
    options = {"near_duplicates": near_duplicates}
    whole = run(reader.reader, tmp_path / "whole.tsv", **options)
    with pytest.raises(InputError, match="the line is gone"):
        run(reader, tmp_path / "clean.tsv", **options)
    assert not (tmp_path / "clean.tsv").exists()
    with pytest.raises(InputError, match="progress of a call with other criteria"):
        run(reader, tmp_path / "clean.tsv", min_score=0.3, **options)
    report = run(reader, tmp_path / "clean.tsv", **options)
    assert report.resumed == 200
    assert (tmp_path / "clean.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert (report.read, report.dropped, report.above) == (330, whole.dropped, whole.above)
    if near_duplicates:
        assert report.dropped["near_duplicate"] >= 1  # seen before the interruption
    assert not list(tmp_path.glob(".*"))


def test_near_duplicates_within_a_window():
    pytest.importorskip("datasketch", reason="needs datasketch")
    found = NearDuplicates(window=2)
    one = sentences(1)[0]
    one += " which is a rather long sentence, and so is its translation"
    assert found.add(one, one)
    assert not found.add(one + ".", one)
    assert found.add("wholly different words", "ganz andere Wörter")
    assert found.add("and again something else", "und noch etwas anderes")
    assert found.add(one, one)  # forgotten by now


def test_languages(tmp_path):
    pytest.importorskip("py3langid", reason="needs py3langid")
    english = [
        "This is the garden that my father planted a long time ago.",
        "She did not want to go to school this morning because it rained.",
        "Nobody knows where the children have gone with their bicycles.",
    ]
    german = ["Das ist der Garten, den mein Vater vor langer Zeit gepflanzt hat.",
              "Sie wollte heute Morgen nicht zur Schule gehen, weil es regnete.",
              "Niemand weiß, wohin die Kinder mit ihren Fahrrädern gegangen sind."]  # fmt: skip
    french = ["C'est le jardin que mon père a planté il y a très longtemps, dit-on.",
              "Elle ne voulait pas aller à l'école ce matin parce qu'il pleuvait.",
              "Personne ne sait où les enfants sont allés avec leurs vélos."]  # fmt: skip
    rows = [
        *zip(english, german, strict=True),
        *zip(english, french, strict=True),
        ("Hi you", "a b"),
    ]
    source = write(tmp_path / "en-de.tsv", rows)
    report = run(source, tmp_path / "c.tsv", min_score=None, max_length=None, identify=True)
    assert report.dropped == {"language": 3}
    assert kept(tmp_path / "c.tsv") == [*zip(english, german, strict=True), ("Hi you", "a b")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 2.0}, "min_score: got 2.0, expected a cosine"),
        ({"max_length": 0.5}, "max_length: got 0.5"),
        ({"top": 0}, "top: got 0"),
        ({"min_margin": float("nan")}, "min_margin: got nan"),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    source = write(tmp_path / "en-de.tsv", good(3))
    with pytest.raises(InputError, match=message):
        run(source, tmp_path / "clean.tsv", **options)


def test_outputs_that_cannot_be(tmp_path):
    source = write(tmp_path / "en-de.tsv", good(3))
    with pytest.raises(InputError, match=r"a name that ends in \.tsv"):
        run(source, tmp_path / "clean.txt")
    with pytest.raises(InputError, match="another file than the input"):
        run(source, source)
    with pytest.raises(InputError, match="its folder does not exist"):
        run(source, tmp_path / "none" / "clean.tsv")


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    source = write(tmp_path / "en-de.tsv", good(3))
    for name, option in (("datasketch", "near_duplicates"), ("py3langid.langid", "identify")):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(BackendError, match=rf"{'languages' if option == 'identify' else option}"
                                               r": .*ems-fast\[filter\]"):  # fmt: skip
            run(source, tmp_path / "clean.tsv", **{option: True})


def test_the_command(tmp_path, capsys):
    pairs = [("Good morning!", "Guten Morgen!"), ("Thank you very much.", "Vielen Dank."),
             ("Where is the station?", "Der Hund schläft im Garten.")]  # fmt: skip
    source, output = write(tmp_path / "en-de.tsv", pairs), tmp_path / "clean.tsv.zst"
    arguments = ["filter", str(source), "--output", str(output), "--device", "cpu", "--quiet"]
    assert cli.main(arguments) == 0
    assert kept(output) == pairs[:2]
    assert "The pairs are in" in capsys.readouterr().out

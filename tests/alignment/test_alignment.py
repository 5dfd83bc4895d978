from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_encoder import NgramEncoder

from ems_fast import InputError, Tmx, align, align_files
from ems_fast.alignment.band import Band
from ems_fast.alignment.band import Path as Corners
from ems_fast.alignment.path import Side, cheapest_path
from ems_fast.alignment.reference import cheapest_path_reference
from ems_fast.alignment.search import log_lengths, make_sides, search
from ems_fast.cli import main


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def random_sides(seed: int, n: int, m: int, S: int, D: int) -> tuple[Side, Side]:
    rng = np.random.default_rng(seed)
    vectors = [unit(rng.standard_normal((S, k, D)) + 0.5).astype(np.float32) for k in (n, m)]
    return make_sides(vectors, [rng.random((S, k)) * 0.3 for k in (n, m)])


def check_is_cheapest(sides: tuple[Side, Side], band: Band, skip: float) -> None:
    path, cost = cheapest_path(*sides, band, skip)
    wanted, wanted_cost = cheapest_path_reference(*sides, band, skip)
    assert cost == pytest.approx(wanted_cost, rel=1e-5)
    np.testing.assert_array_equal(path.source, wanted.source)
    np.testing.assert_array_equal(path.target, wanted.target)
    assert path.source.dtype == path.target.dtype == np.int64


@pytest.mark.parametrize("S", [1, 2, 4])
@pytest.mark.parametrize(("n", "m", "D"), [(1, 1, 3), (1, 9, 4), (9, 1, 4), (17, 13, 33)])
def test_equals_the_definition(isa: str, n: int, m: int, D: int, S: int):
    for skip in (0.05, 0.4, 3.0):
        check_is_cheapest(random_sides(n, n, m, S, D), Band.whole(n, m), skip)


@settings(max_examples=40)
@given(
    n=st.integers(1, 14), m=st.integers(1, 14), S=st.integers(1, 5), D=st.integers(1, 9),
    radius=st.integers(1, 4), seed=st.integers(0, 999), skip=st.floats(0.1, 2),
)  # fmt: skip
def test_equals_the_definition_within_any_band(n, m, S, D, radius, seed, skip):
    rng = np.random.default_rng(seed)
    # A random path: steps right, down, or both.
    steps = np.array([[1, 0]] * n + [[0, 1]] * m)[rng.permutation(n + m)]
    corners = np.concatenate([[[0, 0]], np.cumsum(steps, axis=0)])
    kept = np.sort(rng.choice(np.arange(1, n + m), size=(n + m) // 2, replace=False))
    corners = corners[np.concatenate([[0], kept, [n + m]])].T
    band = Band.around(Corners(corners[0], corners[1]), radius)
    check_is_cheapest(random_sides(seed, n, m, S, D), band, skip)


def test_more_rows_than_are_computed_at_once():
    check_is_cheapest(random_sides(1, 300, 4, 2, 3), Band.whole(300, 4), 0.3)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1), st.integers(1, 5))
def test_band_holds_what_is_near_its_path(steps, radius):
    corners = np.concatenate([[[0, 0]], np.cumsum(steps, axis=0)]).T
    n, m = corners[:, -1]
    if n == 0 or m == 0:
        return
    band = Band.around(Corners(corners[0], corners[1]), radius)
    ends = band.begins + np.diff(band.offsets)
    for i, j in corners.T:
        for near in range(max(i - radius, 0), min(i + radius, n) + 1):
            assert band.begins[near] <= max(j - radius, 0)
            assert ends[near] > min(j + radius, m)
    assert (np.diff(band.begins) >= 0).all()
    assert (np.diff(ends) >= 0).all()
    assert (band.begins[1:] < ends[:-1]).all()
    assert (band.begins[0], ends[-1]) == (0, m + 1)


def made_vectors(n: int, D: int = 48, seed: int = 0) -> list[np.ndarray]:
    """Lines with noisy translations, of which every ninth is missing on one of the sides."""
    rng = np.random.default_rng(seed)
    lines = rng.standard_normal((n, D)) + 0.3
    sides = []
    for missing in (range(3, n, 18), range(12, n, 18)):
        kept = np.delete(lines, list(missing), axis=0)
        single = kept + 0.4 * rng.standard_normal(kept.shape)
        double = np.concatenate([single[:-1] + single[1:], single[:1]])
        sides.append(unit(np.stack([single, double])).astype(np.float32))
    return sides


def test_coarse_to_fine_finds_what_the_whole_grid_has():
    vectors = made_vectors(1500)
    sides = make_sides(vectors, [np.zeros(v.shape[:2]) for v in vectors])
    found = search(sides)
    ends = list(zip(found.source.tolist(), found.target.tolist(), strict=True))
    pairs = {(a, c) for (a, c), (b, d) in pairwise(ends) if b - a == d - c == 1}
    kept = [[i for i in range(1500) if i % 18 != gap] for gap in (3, 12)]
    numbers = [{line: i for i, line in enumerate(side)} for side in kept]
    true = {(numbers[0][k], numbers[1][k]) for k in numbers[0].keys() & numbers[1].keys()}
    assert len(pairs & true) / len(true) > 0.99


def test_long_passages_without_translation():
    vectors = made_vectors(1200)
    vectors[1] = np.concatenate([vectors[1][:, :300], vectors[1][:, 800:]], axis=1)
    found = search(make_sides(vectors, [np.zeros(v.shape[:2]) for v in vectors]))
    steps = np.diff(found.source), np.diff(found.target)
    alone = found.source[:-1][(steps[0] == 1) & (steps[1] == 0)]
    assert np.isin(np.arange(330, 790), alone).mean() > 0.95


def test_other_threads_run_meanwhile():
    sides = random_sides(0, 1500, 1500, 2, 64)
    waited, done = [], threading.Event()

    def tick() -> None:
        while not done.is_set():
            before = time.perf_counter()
            time.sleep(0.001)
            waited.append(time.perf_counter() - before)

    thread = threading.Thread(target=tick)
    thread.start()
    before = time.perf_counter()
    cheapest_path(*sides, Band.whole(1500, 1500), 0.3)
    took = time.perf_counter() - before
    done.set()
    thread.join()
    assert max(waited) < took / 2


SOURCE = [
    "the red house stands here", "", "a small bird sings in the garden today",
    "cold water from the long river", "nothing like this is there", "many people walk at night",
]  # fmt: skip
TARGET = [
    "the redd house stand here", "a smal bird sings", "in the gardn today",
    "cold watr from the long rivr", "many peple walk at nigt", " ",
]  # fmt: skip
EXPECTED = [((0,), (0,)), ((2,), (1, 2)), ((3,), (3,)), ((4,), ()), ((5,), (4,))]


def test_align_finds_blocks_and_keeps_line_numbers():
    aligned = align(NgramEncoder(512), SOURCE, TARGET)
    assert [(block.source, block.target) for block in aligned.blocks] == EXPECTED
    scores = [block.score for block in aligned.blocks]
    assert scores[3] == 0
    assert all(0.3 < score <= 1 for score in scores[:3])
    pairs = list(aligned.pairs())
    assert [pair[:2] for pair in pairs][1] == (SOURCE[2], "a smal bird sings in the gardn today")
    assert len(pairs) == 4
    low = sorted(score for *_, score in pairs)[1]
    assert len(list(aligned.pairs(min_score=low))) == 3


def test_swapping_the_sides_swaps_the_blocks():
    aligned = align(NgramEncoder(512), TARGET, SOURCE)
    assert [(block.target, block.source) for block in aligned.blocks] == EXPECTED


def test_a_document_is_its_own_translation():
    lines = [f"line number {i * 37} of {i % 7}" for i in range(600)]
    aligned = align(NgramEncoder(256), lines, lines)
    assert all(block[:2] == ((i,), (i,)) for i, block in enumerate(aligned.blocks))
    assert min(block.score for block in aligned.blocks) > 0.999


@pytest.mark.parametrize("n", [1, 2, 3])
def test_short_documents(n: int):
    aligned = align(NgramEncoder(512), SOURCE[2 : 2 + n], SOURCE[2 : 2 + n])
    assert [block[:2] for block in aligned.blocks] == [((i,), (i,)) for i in range(n)]


def test_every_line_is_in_one_block():
    lines = [f"word {i}" for i in range(40)]
    aligned = align(NgramEncoder(), lines, ["quite", "other", "words"], max_lines=15)
    assert [i for block in aligned.blocks for i in block.source] == list(range(40))
    assert [j for block in aligned.blocks for j in block.target] == [0, 1, 2]


def test_lengths_do_not_depend_on_the_language():
    lines = ["abc", "abcdefgh", "a"]
    doubled = [2 * line + " " for line in lines]
    wanted = log_lengths(lines, 2)
    np.testing.assert_allclose(log_lengths(doubled, 2)[0], wanted[0], atol=0.15)
    assert wanted[1, 2] == log_lengths(lines, 3)[2, 1]


def test_files_in_both_forms(tmp_path: Path):
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    for file, lines in zip(files, (SOURCE, TARGET), strict=True):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = align_files(NgramEncoder(512), *files, tmp_path / "ab.tsv")
    assert (done.documents, done.skipped, done.pairs, done.unaligned) == (1, 0, 4, 1)
    rows = [row.split("\t") for row in (tmp_path / "ab.tsv").read_text().splitlines()]
    memory = tmp_path / "ab.tmx"
    align_files(NgramEncoder(512), *files, memory, to="tmx", languages="en-zh_Hans")
    assert [[pair.source, pair.target] for pair in Tmx(memory)] == [row[:2] for row in rows]
    assert {(pair.source_lang, pair.target_lang) for pair in Tmx(memory)} == {("en", "zh_hans")}


def test_tmx_escapes_what_xml_cannot_hold(tmp_path: Path):
    lines = ['<b> & "quotes" \x00\x0b\ufffe \U0001f600 at the end', "another line of text"]
    align(NgramEncoder(), lines, lines).to_tmx(tmp_path / "a.tmx", "en", "de")
    first, _ = Tmx(tmp_path / "a.tmx")
    assert first.source.split() == ["<b>", "&", '"quotes"', "😀", "at", "the", "end"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    source, target, output = (tmp_path / name for name in ("en", "de", "out"))
    for folder, lines in ((source, SOURCE), (target, TARGET)):
        folder.mkdir()
        for name in ("one.txt", "two.txt"):
            (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return source, target, output


def test_folders_go_on_where_a_call_was_stopped(folders: tuple[Path, Path, Path]):
    *_, output = folders
    encoder = NgramEncoder(512)
    assert align_files(encoder, *folders).documents == 2
    assert sorted(path.name for path in output.iterdir()) == ["one.txt.tsv", "two.txt.tsv"]
    (output / "one.txt.tsv").unlink()
    done = align_files(encoder, *folders)
    assert (done.documents, done.skipped) == (1, 1)


def test_one_blank_document_loses_no_other(folders: tuple[Path, Path, Path]):
    source, _, output = folders
    (source / "two.txt").write_text("\n \n")
    with pytest.raises(InputError, match=r"two\.txt: all 2 lines are blank"):
        align_files(NgramEncoder(), *folders)
    assert [path.name for path in output.iterdir()] == ["one.txt.tsv"]


def test_bad_folders(folders: tuple[Path, Path, Path]):
    source, target, output = folders
    encoder = NgramEncoder()
    (source / "two.txt").write_text("")
    with pytest.raises(InputError, match=r"two\.txt: the file is empty"):
        align_files(encoder, *folders)
    assert not output.exists()
    (source / "three.txt").write_text("text")
    with pytest.raises(InputError, match=r"de: lacks 'three\.txt', which the other folder has"):
        align_files(encoder, *folders)
    with pytest.raises(InputError, match=r"is a folder, but .* is not"):
        align_files(encoder, source, target / "one.txt", output)
    with pytest.raises(InputError, match="is a folder, expected the file to write"):
        align_files(encoder, source / "one.txt", target / "one.txt", target)
    for folder in (source, target):
        for path in folder.iterdir():
            path.unlink()
    with pytest.raises(InputError, match="en: holds no files"):
        align_files(encoder, *folders)


def test_bad_input(tmp_path: Path):
    encoder, lines = NgramEncoder(), ["one", "two"]

    class Broken(NgramEncoder):
        def encode(self, sentences, *, normalize=False):
            return super().encode(sentences) * np.nan

    cases = [
        (lambda: align(encoder, [], lines), "source_lines: got no sentences"),
        (lambda: align(encoder, lines, []), "target_lines: got no sentences"),
        (lambda: align(encoder, lines, ["", " "]), "target_lines: all 2 lines are blank"),
        (lambda: align(encoder, "one", lines), "source_lines: got one string"),
        (lambda: align(encoder, lines, [1]), "target_lines: item 0 is of type int"),
        (lambda: align(encoder, lines, lines, max_lines=0), "max_lines: got 0, expected 1 to 15"),
        (lambda: align(encoder, lines, lines, max_lines=16), "max_lines: got 16"),
        (lambda: align(Broken(), lines, lines), "vectors of source_lines: row 0 holds NaN"),
        (lambda: align_files(encoder, "a", "b", "c", to="csv"), "to: got 'csv'"),
        (lambda: align_files(encoder, "a", "b", "c", to="tmx"), "languages: got None, but TMX"),
        (lambda: align_files(encoder, "a", "b", "c", languages="en-de"), "a TSV file names none"),
        (
            lambda: align_files(encoder, "a", "b", "c", to="tmx", languages="en-en"),
            "languages: both sides are in 'en'",
        ),
        (lambda: align_files(encoder, tmp_path / "a", tmp_path / "b", "c"), "a: cannot be read"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()


def test_command_with_the_shipped_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    english = ["Good morning!", "Where is the station?", "It is raining. Take an umbrella."]
    german = ["Guten Morgen!", "Wo ist der Bahnhof?", "Es regnet.", "Nimm einen Regenschirm."]
    files = [tmp_path / name for name in ("en.txt", "de.txt", "out.tsv")]
    for file, lines in zip(files, (english, german), strict=False):
        file.write_text("\n".join(lines), encoding="utf-8")
    assert main(["align", *map(str, files)]) == 0
    rows = [row.split("\t")[:2] for row in files[2].read_text(encoding="utf-8").splitlines()]
    assert rows == [
        [english[0], german[0]],
        [english[1], german[1]],
        [english[2], " ".join(german[2:])],
    ]
    assert "3 pairs of 1 documents" in capsys.readouterr().err
    assert main(["align", *map(str, files[:2]), str(tmp_path / "no" / "x.tsv")]) == 2
    assert "cannot be written" in capsys.readouterr().err

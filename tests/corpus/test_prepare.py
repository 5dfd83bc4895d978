from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ems_fast.corpus import (
    BinaryCorpus,
    Moses,
    RawPair,
    Tsv,
    format_report,
    prepare,
    sentence_hash,
)
from ems_fast.corpus.hashing import flag_duplicates
from ems_fast.corpus.prepare import _sampling_rates
from ems_fast.errors import InputError
from ems_fast.text.tokenizer import Tokenizer

NOUNS = (
    *("house", "tree", "river", "cloud", "stone", "bird", "king"),
    *("road", "ship", "song", "lamp", "door", "hill", "fish"),
)
WORTE = (
    *("Haus", "Baum", "Fluss", "Wolke", "Stein", "Vogel", "König"),
    *("Weg", "Schiff", "Lied", "Lampe", "Tür", "Hügel", "Fisch"),
)


def lines(n: int, start: int = 0) -> list[str]:
    """Different pairs of sentences."""
    triples = itertools.islice(itertools.product(range(14), repeat=3), start, start + n)
    return [
        f"the {NOUNS[a]} near the {NOUNS[b]} and {NOUNS[c]}\t"
        f"{WORTE[a]} bei {WORTE[b]} mit {WORTE[c]}\n"
        for a, b, c in triples
    ]


def write(path: Path, content: list[str]) -> Path:
    path.write_text("".join(content), encoding="utf-8")
    return path


def quiet(corpora, output, **options) -> BinaryCorpus:
    options = {"vocab_size": 320, "progress": False, "num_threads": 2} | options
    return prepare(corpora, output, **options)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def decoded(corpus: BinaryCorpus, name: str) -> list[tuple[str, str]]:
    [shard] = [shard for shard in corpus.shards if shard.name == name]
    return [
        (
            corpus.tokenizer.decode(shard.pair(i)[0].tolist()),
            corpus.tokenizer.decode(shard.pair(i)[1].tolist()),
        )
        for i in range(shard.num_pairs)
    ]


def test_content_and_order(tmp_path):
    pairs = lines(200)
    corpus = quiet(write(tmp_path / "en-de.tsv", pairs), tmp_path / "out")
    held_out = {"\t".join(pair) + "\n" for pair in corpus.shards[0].valid_pairs()}
    assert len(held_out) == 10  # 5 %
    expected = [tuple(line.strip().lower().split("\t")) for line in pairs if line not in held_out]
    assert decoded(corpus, "en-de") == expected
    assert sorted(os.listdir(tmp_path / "out")) == ["corpus.json", "shards", "tokenizer.model"]
    total = corpus.report.total
    assert (total.read, total.kept, total.held_out) == (200, 190, 10)
    assert not total.dropped.total()


def test_hashes_are_those_of_the_text(tmp_path):
    corpus = quiet(write(tmp_path / "en-de.tsv", lines(50)), tmp_path / "out", valid_pairs=0)
    expected = [sentence_hash(side) for pair in decoded(corpus, "en-de") for side in pair]
    assert corpus.shards[0].hashes.tolist() == expected


def test_both_directions_land_in_one_shard(tmp_path):
    swapped = ["\t".join(reversed(line.strip().split("\t"))) + "\n" for line in lines(100)]
    inputs = [
        write(tmp_path / "en-de.tsv", lines(60)),
        write(tmp_path / "de-en.tsv", swapped),
        write(tmp_path / "fr-de.tsv", [f"un mot {i}\tein Wort {i}\n" for i in range(30)]),
    ]
    corpus = quiet(inputs, tmp_path / "out", valid_pairs=0)
    assert [(s.name, s.num_pairs) for s in corpus.shards] == [("en-de", 100), ("de-fr", 30)]
    assert corpus.languages == ["de", "en", "fr"]
    assert decoded(corpus, "de-fr")[0] == ("ein wort 0", "un mot 0")
    assert [entry.dropped["duplicate"] for entry in corpus.report.inputs] == [0, 60, 0]
    assert [entry.kept for entry in corpus.report.inputs] == [60, 40, 30]


def test_everything_dropped_is_counted(tmp_path):
    good = lines(100)
    bad = [
        "\tleer\n",
        "the same\tThe  Same\n",
        "bell \x07\tGlocke\n",
        "x" * 300 + "\tkurz\n",
        "y" * 3000 + "\t" + "z" * 3000 + "\n",
        good[3].upper(),  # a duplicate but for its case
        "word " * 200 + "\t" + "wort " * 200 + "\n",
        "a" * 1000 + "\t" + "b" * 100_000 + "\n",
    ]
    path = write(tmp_path / "en-de.tsv", good + bad)
    corpus = quiet(path, tmp_path / "out", valid_pairs=0)
    [entry] = corpus.report.inputs
    assert entry.read == 108
    assert entry.kept == corpus.num_pairs == 100
    assert {reason: n for reason, n in entry.dropped.items() if n} == {
        "empty": 1,
        "identical": 1,
        "control_characters": 1,
        "length_ratio": 2,
        "too_many_characters": 1,
        "duplicate": 1,
        "too_many_tokens": 1,
    }
    table = format_report(corpus.report)
    assert "length ratio" in table
    assert "held out overlap" not in table
    assert table.splitlines()[2].split()[1:5] == ["108", "100", "0", "1"]


def test_text_that_normalises_to_nothing_is_empty(tmp_path):
    path = write(tmp_path / "en-de.tsv", [*lines(20), "\u200b\tnichts\n"])
    corpus = quiet(path, tmp_path / "out")
    [shard] = corpus.shards
    assert corpus.report.total.dropped["empty"] == 1
    assert (np.diff(shard.offsets) > 0).all()


def test_held_out_pairs_share_nothing_with_training(tmp_path):
    pairs = lines(400)
    twins = [f"{line.split(chr(9))[0]}\tein Zwilling {i}\n" for i, line in enumerate(pairs)]
    corpus = quiet(write(tmp_path / "en-de.tsv", pairs + twins), tmp_path / "out", valid_pairs=15)
    held_out = corpus.shards[0].valid_pairs()
    assert len(held_out) == 15
    train = decoded(corpus, "en-de")
    assert not {source.lower() for source, _ in held_out} & {source for source, _ in train}
    assert not {target.lower() for _, target in held_out} & {target for _, target in train}
    assert len({source for source, _ in held_out}) == len({t for _, t in held_out}) == 15
    total = corpus.report.total
    assert total.dropped["held_out_overlap"] == 15
    assert total.read == total.kept + total.held_out + total.dropped.total()


def test_no_sentence_is_held_out_of_one_pair_and_trained_in_another(tmp_path):
    """The same English sentences in two languages, as software translations have them."""
    for language in ("de", "fr"):
        lines = "".join(f"english sentence {i}\t{language} satz {i}\n" for i in range(300))
        (tmp_path / f"en-{language}.tsv").write_text(lines)
    corpus = prepare([tmp_path / "en-de.tsv", tmp_path / "en-fr.tsv"], tmp_path / "out",
                     vocab_size=300, progress=False)  # fmt: skip
    held_out = {sentence_hash(a) for shard in corpus.shards for a, _ in shard.valid_pairs()}
    trained = {int(h) for shard in corpus.shards for h in shard.hashes}
    assert len(held_out) == 15  # the same 5 % in both
    assert not held_out & trained


def test_common_sentences_are_not_held_out(tmp_path):
    """Holding out any of these would cost all of them."""
    pairs = [f"Hello there\tHallo Nummer {i}\n" for i in range(100)]
    corpus = quiet(write(tmp_path / "en-de.tsv", pairs), tmp_path / "out")
    assert (corpus.num_pairs, corpus.shards[0].num_valid) == (100, 0)


def test_held_out_choice_ignores_the_order(tmp_path):
    pairs = lines(300)
    a = quiet(write(tmp_path / "en-de.tsv", pairs), tmp_path / "a")
    b = quiet(write(tmp_path / "en-de.tsv", pairs[::-1]), tmp_path / "b")
    c = quiet(write(tmp_path / "en-de.tsv", pairs), tmp_path / "c", seed=1)
    assert set(a.shards[0].valid_pairs()) == set(b.shards[0].valid_pairs())
    assert set(a.shards[0].valid_pairs()) != set(c.shards[0].valid_pairs())


def test_same_input_same_bytes(tmp_path):
    inputs = [
        write(tmp_path / "en-de.tsv", lines(300)),
        write(tmp_path / "en-fr.tsv", [f"one word {i}\tun mot {i}\n" for i in range(50)]),
    ]
    quiet(inputs, tmp_path / "a", num_threads=1, tokenizer_sentences=200)
    quiet(inputs, tmp_path / "b", num_threads=3, tokenizer_sentences=200)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_small_blocks_give_the_same_bytes(tmp_path, monkeypatch):
    """The bounds on memory change nothing but the number of steps."""
    path = write(tmp_path / "en-de.tsv", lines(500) + lines(500, 250))
    quiet(path, tmp_path / "a")
    monkeypatch.setattr("ems_fast.corpus.spool._BLOCK_PAIRS", 7)
    monkeypatch.setattr("ems_fast.corpus.spool._BUFFERED_CHARACTERS", 300)
    monkeypatch.setattr("ems_fast.corpus.hashing._PARTITION", 64)
    b = quiet(path, tmp_path / "b")
    assert b.report.total.dropped["duplicate"] == 250
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("partition", [1 << 18, 100])
def test_duplicate_flags(tmp_path, monkeypatch, partition):
    monkeypatch.setattr("ems_fast.corpus.hashing._PARTITION", partition)
    hashes = np.random.default_rng(0).integers(0, 2**64, 700, dtype=np.uint64)
    hashes = np.random.default_rng(1).choice(hashes, 2000)
    duplicates = flag_duplicates(tmp_path / "flags", np.array_split(hashes, 13), 2000)
    first = np.zeros(2000, dtype=bool)
    first[np.unique(hashes, return_index=True)[1]] = True
    assert duplicates == (~first).sum()
    assert (np.fromfile(tmp_path / "flags", dtype=bool) == ~first).all()
    assert os.listdir(tmp_path) == ["flags"]


def test_given_tokenizer(tmp_path):
    path = write(tmp_path / "en-de.tsv", lines(100))
    first = quiet(path, tmp_path / "a")
    model = tmp_path / "a" / "tokenizer.model"
    for index, given in enumerate((model, str(model), Tokenizer.from_file(model))):
        again = quiet(path, tmp_path / f"b{index}", tokenizer=given)
        assert again.tokenizer_sha256 == first.tokenizer_sha256
        assert (again.shards[0].tokens == first.shards[0].tokens).all()


def test_one_pair(tmp_path):
    corpus = prepare(
        write(tmp_path / "en-de.tsv", ["Hello world\tHallo Welt\n"]),
        tmp_path / "out",
        progress=False,
    )
    assert corpus.num_pairs == 1
    assert corpus.vocab_size < 64_000
    assert "too little in it for vocab_size 64000" in corpus.report.notes[0]
    assert "note: " in format_report(BinaryCorpus.open(tmp_path / "out").report)


def test_language_seen_once(tmp_path):
    inputs = [
        write(tmp_path / "en-de.tsv", lines(100)),
        write(tmp_path / "en-fr.tsv", ["only one\tune seule\n"]),
    ]
    corpus = quiet(inputs, tmp_path / "out")
    assert corpus.languages == ["en", "de", "fr"]
    assert decoded(corpus, "en-fr") == [("only one", "une seule")]
    assert corpus.shards[1].valid_pairs() == []


def test_language_pair_of_which_nothing_is_left(tmp_path):
    inputs = [
        write(tmp_path / "en-de.tsv", lines(100)),
        write(tmp_path / "en-fr.tsv", ["word " * 200 + "\t" + "mot " * 200 + "\n"]),
    ]
    corpus = quiet(inputs, tmp_path / "out", tokenizer_type="bpe")
    assert [shard.name for shard in corpus.shards] == ["en-de"]
    assert corpus.report.notes == ["no pair of en-fr is left"]
    assert os.listdir(tmp_path / "out" / "shards") == ["en-de"]


def test_nothing_left(tmp_path):
    path = write(tmp_path / "en-de.tsv", ["same\tsame\n", "\tx\n", "a\ta\n"])
    with pytest.raises(
        InputError, match=r"no pair is left .* of 3 pairs read .* 1 as empty, 2 as id"
    ):
        quiet(path, tmp_path / "out")
    path = write(tmp_path / "en-de.tsv", ["some words here\tein paar Wörter\n"])
    with pytest.raises(InputError, match="max_tokens: no pair has at most 2 tokens"):
        quiet(path, tmp_path / "out", max_tokens=2)
    assert os.listdir(tmp_path) == ["en-de.tsv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 100}, "vocab_size: got 100, expected an integer of at least 258"),
        ({"vocab_size": 16000.0}, "vocab_size: got 16000.0"),
        ({"vocab_size": 260}, "vocab_size: 260 is too small for the characters of this text"),
        ({"valid_pairs": -1}, "valid_pairs: got -1"),
        ({"max_tokens": 0}, "max_tokens: got 0"),
        ({"num_threads": 0}, "num_threads: got 0"),
        ({"seed": True}, "seed: got True"),
        ({"tokenizer": "missing.model"}, "missing.model: cannot read the tokenizer"),
        ({"languages": "english"}, "languages='english' gives 'english', which is not a pair"),
    ],
)
def test_bad_arguments(tmp_path, options, message):
    path = write(tmp_path / "en-de.tsv", lines(20))
    with pytest.raises(InputError, match=message):
        quiet(path, tmp_path / "out", **options)
    assert os.listdir(tmp_path) == ["en-de.tsv"]


def test_output_folder(tmp_path):
    path = write(tmp_path / "en-de.tsv", lines(20))
    (tmp_path / "out").mkdir()
    quiet(path, tmp_path / "out")  # empty is fine
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match="out: exists and is not empty"):
        quiet(path, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    with pytest.raises(InputError, match=r"en-de\.tsv: exists and is not empty"):
        quiet(path, path)
    with pytest.raises(InputError, match=r"en-de\.tsv/x: was not written .*File exists"):
        quiet(path, path / "x")
    assert quiet(path, tmp_path / "deep" / "er").num_pairs == 19


class Failing:
    """A reader that fails in its middle."""

    name = "failing"

    def __init__(self, error: BaseException):
        self.error = error

    def check(self) -> None:
        pass

    def __iter__(self) -> Iterator[RawPair]:
        yield RawPair("hello", "hallo", "en", "de", 1)
        raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InputError("bad line"), MemoryError()])
def test_interrupted(tmp_path, error):
    with pytest.raises(type(error)):
        quiet(Failing(error), tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_unequal_moses_leaves_nothing(tmp_path):
    write(tmp_path / "x.en", ["a\n", "b\n"])
    write(tmp_path / "x.de", ["a\n"])
    with pytest.raises(InputError, match=r"x\.en has 2 lines and .*x\.de has 1"):
        quiet([Moses(tmp_path / "x", "en", "de")], tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["x.de", "x.en"]


@pytest.mark.parametrize("name", ["ShardWriter.add_pairs", "Spool.flush"])
def test_full_disk(tmp_path, monkeypatch, name):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    module = "binary" if name.startswith("Shard") else "spool"
    monkeypatch.setattr(f"ems_fast.corpus.{module}.{name}", full)
    path = write(tmp_path / "en-de.tsv", lines(20))
    with pytest.raises(InputError, match="out: the disk is full; nothing was left there"):
        quiet(path, tmp_path / "out")
    assert os.listdir(tmp_path) == ["en-de.tsv"]


def test_two_at_once(tmp_path):
    path = write(tmp_path / "en-de.tsv", lines(20))
    with (tmp_path / ".out.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="out: another process is writing it"):
            quiet(path, tmp_path / "out")
    assert quiet(path, tmp_path / "out").num_pairs == 19


def test_killed(tmp_path):
    """After kill -9 the output does not exist, and the next call cleans up and succeeds."""
    program = (
        "import sys, time\n"
        "from ems_fast.corpus import RawPair, prepare\n"
        "class Slow:\n"
        "    name = 'slow'\n"
        "    def check(self): pass\n"
        "    def __iter__(self):\n"
        "        yield RawPair('hello', 'hallo', 'en', 'de', 1)\n"
        "        print('reading', flush=True)\n"
        "        time.sleep(60)\n"
        "prepare(Slow(), sys.argv[1], progress=False)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        cwd=tmp_path,  # not the source tree, whose package has no compiled part
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"reading\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert ".out.partial" in os.listdir(tmp_path)
    assert not (tmp_path / "out").exists()
    assert quiet(write(tmp_path / "en-de.tsv", lines(20)), tmp_path / "out").num_pairs == 19
    assert sorted(os.listdir(tmp_path)) == ["en-de.tsv", "out"]


def test_sampling_rates():
    rates = _sampling_rates({"en": 10_000, "de": 2_500, "fr": 100, "xx": 1, "yy": 0}, 1000)
    taken = {"en": 10_000 * rates["en"], "de": 2_500 * rates["de"], "fr": 100 * rates["fr"]}
    assert taken["en"] / taken["de"] == pytest.approx(2)
    assert sum(taken.values()) + rates["xx"] == pytest.approx(1000)
    assert rates["yy"] == 0
    assert _sampling_rates({"en": 10, "de": 5}, 1000) == {"en": 1, "de": 1}


MEASURE = """
import random, re, sys
from ems_fast.corpus import RawPair, prepare
class Synthetic:
    name = "synthetic"
    def check(self): pass
    def __iter__(self):
        rng = random.Random(0)
        for i in range(int(sys.argv[1])):
            a = " ".join(rng.choices("abcdefghijklmnop", k=8))
            yield RawPair(f"{i} {a}", f"{a} {i}x", "en", ("de", "fr", "ja")[i % 3], i + 1)
prepare(Synthetic(), sys.argv[2], vocab_size=400, tokenizer_sentences=20_000, progress=False)
print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    """Ten times the corpus takes less than 20 % more memory."""
    peaks = {}
    for pairs in (100_000, 1_000_000):
        output = subprocess.run(
            [sys.executable, "-c", MEASURE, str(pairs), str(tmp_path / str(pairs))],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        )
        peaks[pairs] = int(output.stdout)
        assert BinaryCorpus.open(tmp_path / str(pairs)).num_pairs > 0.9 * pairs
    assert peaks[1_000_000] < 1.2 * peaks[100_000], peaks


@pytest.mark.corpora
def test_shared_corpora(corpora, tmp_path):
    """Real text of several scripts: what is read is accounted for, and decodes to itself."""
    inputs = [
        Tsv(corpora / "train" / f"{code}.tsv.zst", "en", code, tags=["tat"])
        for code in ("ko", "hi")
    ]
    corpus = prepare(inputs, tmp_path / "out", vocab_size=4000, progress=False)
    total = corpus.report.total
    assert total.read == total.kept + total.held_out + total.dropped.total()
    assert total.kept > 0.9 * total.read
    assert json.loads((tmp_path / "out" / "corpus.json").read_text())["languages"][0] == "en"
    for shard in corpus.shards:
        assert shard.num_valid == len(shard.valid_pairs()) > 50
        assert int(shard.offsets[-1]) == shard.num_tokens
        assert int(shard.tokens.max()) < corpus.vocab_size
        assert np.diff(shard.offsets).max() <= corpus.max_tokens

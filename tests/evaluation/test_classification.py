from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support.fake_encoder import CollapsedEncoder, NgramEncoder

from ems_fast.errors import InputError
from ems_fast.evaluation import evaluate_classification
from ems_fast.evaluation.probe import Probes

WORDS = {
    "eng_Latn": {"sports": "football goal", "travel": "airport hotel", "health": "doctor vaccine"},
    "deu_Latn": {"sports": "football goal!", "travel": "airport hotels", "health": "vaccines"},
    "zho_Hans": {"sports": "足球 进球", "travel": "机场 酒店", "health": "医生 疫苗"},
    "zho_Hant": {"sports": "足球 進球", "travel": "機場 酒店", "health": "醫生 疫苗"},
}
SIZES = {"train": 60, "dev": 12, "test": 18}


def write_collection(folder: Path) -> Path:
    """A collection in SIB-200's layout whose categories show in the words."""
    for code, words in WORDS.items():
        (folder / code).mkdir(parents=True)
        for split, n in SIZES.items():
            lines = ["index_id\tcategory\ttext"]
            for i in range(n):
                category = [*words][i % len(words)]
                lines.append(f'{i}\t{category}\t{words[category]} "{split} {i}')
            (folder / code / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    return write_collection(tmp_path / "toy")


class Scaled(NgramEncoder):
    """Vectors of a length that a small network learns from quickly."""

    def encode(self, sentences, *, normalize=False):
        return 8 * super().encode(sentences, normalize=True)


def test_what_transfers_and_what_does_not(collection: Path, capsys) -> None:
    result = evaluate_classification(Scaled(), collection, epochs=60, repeats=2, progress=True)
    assert "classifier" in capsys.readouterr().err
    rows = {row.language: row for row in result.rows}
    assert {*rows} == {"en", "de", "zh_Hans", "zh_Hant"}
    assert {row.n for row in result.rows} == {18}
    assert {row.name for row in result.rows} == {"toy"}
    assert rows["en"].accuracy > 0.9
    assert rows["de"].accuracy > 0.6  # spelt almost alike
    (average,) = result.averages()
    others = [row.accuracies for row in result.rows if row.language != "en"]
    assert average.accuracies == pytest.approx(tuple(np.mean(others, axis=0)))
    assert average.n == 54
    assert result.mean == pytest.approx(average.accuracy)
    first, second = rows["de"].accuracies
    assert rows["de"].spread == pytest.approx(abs(first - second) / 2**0.5)
    table = result.to_table().splitlines()
    assert table[0].split()[:2] == ["set", "trained-tested"]
    assert table[-1].startswith("toy  zero-shot average")
    assert result.to_markdown().count("\n") == 6
    assert json.loads(result.to_json())["rows"][0]["accuracies"]


def test_the_seed_decides(collection: Path) -> None:
    def accuracies(**options):
        result = evaluate_classification(Scaled(), collection.parent, epochs=3, **options)
        return [row.accuracies for row in result.rows]

    both = accuracies(repeats=2)
    assert both == accuracies(repeats=2)
    assert [first for first, _ in both] == [value for (value,) in accuracies(repeats=1)]
    assert [second for _, second in both] == [v for (v,) in accuracies(repeats=1, seed=1)]


def test_chosen_languages_source_and_split(collection: Path) -> None:
    result = evaluate_classification(
        Scaled(), collection, source_language="deu", languages=["zho"], split="dev",
        epochs=1, repeats=1,
    )  # fmt: skip
    assert [(row.language, row.n) for row in result.rows] == [
        ("de", 12), ("zh_Hans", 12), ("zh_Hant", 12),
    ]  # fmt: skip
    assert result.source_language == "de"
    assert result.rows[0].spread == 0.0


def test_a_collapsed_encoder_guesses(collection: Path) -> None:
    result = evaluate_classification(CollapsedEncoder(), collection, epochs=2, repeats=1)
    assert [row.accuracy for row in result.rows] == pytest.approx([1 / 3] * 4)


def test_probes_learn_what_one_layer_cannot() -> None:
    """Exclusive or, and the kept parameters are those of the best epoch."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(0, 2, (200, 2), generator=rng).float()
    y = (x[:, 0] != x[:, 1]).long()
    x = torch.cat([x * 4 - 2] * 8, dim=1)
    probes = Probes((16, 10, 8, 2), range(3))
    best = probes.fit((x, y), (x, y), 60)
    assert best.max() == 1.0
    np.testing.assert_array_equal(probes.accuracy(x, y), best)


def test_threads_are_as_before(collection: Path) -> None:
    threads = torch.get_num_threads()
    evaluate_classification(Scaled(), collection, epochs=1, repeats=1)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "eng_Latn/train.tsv",
            "index_id\tlabel\ttext\n",
            r"train\.tsv:1: has the columns index_id,",
        ),
        ("eng_Latn/dev.tsv", "category\ttext\n", r"dev\.tsv: has no sentence"),
        (
            "deu_Latn/test.tsv",
            "category\ttext\nsports\n",
            r"test\.tsv:2: has 1 columns, expected 2",
        ),
        (
            "deu_Latn/test.tsv",
            "category\ttext\nsports\tball\nart\tpicture\n",
            r"test\.tsv:3: category 'art' is not among those of the training sentences, health,",
        ),
        ("deu_Latn/test.tsv", None, r"test\.tsv: cannot be read"),
    ],
)
def test_bad_files(collection: Path, file: str, content: str | None, message: str) -> None:
    path = collection / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        evaluate_classification(Scaled(), collection, epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "train"}, "split: got 'train'"),
        ({"repeats": 0}, "repeats: got 0, expected at least 1"),
        ({"epochs": 0}, "epochs: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"source_language": "ja"}, "toy has no ja; it has de, en, zh_Hans, zh_Hant"),
        ({"languages": ["ja", "en"]}, "toy has none of ja; it has"),
        ({"languages": "de"}, "languages: got the string"),
    ],
)
def test_bad_options(collection: Path, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate_classification(Scaled(), collection, **options)


def test_no_collection(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no classification set, expected deu_Latn/train"):
        evaluate_classification(Scaled(), tmp_path)

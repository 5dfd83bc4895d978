from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.names import HOSTILE

from ems_fast import InputError, ModelConfig
from ems_fast.runs.card import model_card, write_model_card
from ems_fast.runs.folder import RunFolder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(run, tmp_path / "copy")
    return RunFolder(tmp_path / "copy")


def front_matter(card: str) -> list[str]:
    _, matter, _ = card.split("---\n", 2)
    return matter.splitlines()


def test_a_run_ends_with_a_card(run: Path) -> None:
    card = (run / "README.md").read_text(encoding="utf-8")
    lines = front_matter(card)
    assert lines[0] == "language:"
    assert {'- "en"', '- "de"', '- "fr"'} <= set(lines)
    assert 'license: "unknown"' in lines
    assert "**Licence**: unknown: depends on your corpus." in card
    config = RunFolder(run).read_config()
    for name, count in config["data"]["language_pairs"].items():
        assert f"| {name} | {count:,} |" in card
    assert sum(config["data"]["language_pairs"].values()) == config["data"]["pairs"]
    assert "| held-out | en-de |" in card
    assert "first 120 tokens" in card
    assert str(run.parent) not in card


def test_the_scores_are_those_of_the_saved_weights(copy: RunFolder) -> None:
    copy.metrics.unlink()
    for step, accuracy in ((1, 0.25), (2, 0.75), (3, 0.75), (4, 0.5)):
        copy.log("train", step=step, pairs=1000 * step)
        rows = [{"set": "held-out", "languages": "en-de", "accuracy": accuracy}]
        scores = {"held-out": accuracy, "other": 1 - accuracy}
        copy.log("evaluation", step=step, accuracy=scores, rows=rows)
    write_model_card(copy)
    card = (copy.path / "README.md").read_text()
    assert "after 3 steps, 3,000 pairs seen" in card
    assert "| held-out | 75.0 |" in card
    assert "| other | 25.0 |" in card


def test_without_counts_and_scores(copy: RunFolder) -> None:
    document = copy.read_config()
    document.pop("format")
    document["data"] = {"pairs": 1234}
    copy.write_config(document)
    copy.metrics.unlink()
    write_model_card(copy, licence="cc-by-4.0")
    card = (copy.path / "README.md").read_text()
    assert "1,234 sentence pairs." in card
    assert "Not evaluated." in card
    assert 'license: "cc-by-4.0"' in front_matter(card)


def test_the_front_matter_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    licence = 'our: "own" # licence'
    config = ModelConfig(languages=("no", "en"))
    card = model_card(config, licence=licence)
    data = yaml.safe_load("\n".join(front_matter(card)))
    assert data["language"] == ["no", "en"]  # bare, no is false
    assert data["license"] == licence
    assert data["pipeline_tag"] == "sentence-similarity"
    assert json.dumps(data)


def test_names_are_text(copy: RunFolder) -> None:
    yaml = pytest.importorskip("yaml")
    document = copy.read_config()
    document.pop("format")
    document["model"]["languages"] = ["en", HOSTILE]
    document["data"] = {"pairs": 2, "language_pairs": {HOSTILE: 2}}
    copy.write_config(document)
    rows = [{"set": HOSTILE, "languages": HOSTILE, "accuracy": 1.0}]
    copy.log("evaluation", step=99, accuracy={HOSTILE: 1.0}, rows=rows)
    run = RunFolder(copy.path.rename(copy.path.with_name("a\n# <b> |")))
    write_model_card(run, licence=HOSTILE)
    card = (run.path / "README.md").read_text(encoding="utf-8")
    data = yaml.safe_load("\n".join(front_matter(card)))
    assert (data["language"], data["license"]) == (["en", HOSTILE], HOSTILE)
    _, _, text = card.split("---\n", 2)
    assert "# a # &lt;b&gt; \\|\n" in text
    assert "<script" not in text
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt;\|a b: \[c\](d) \`e\` \_f\_"
    assert f"**Languages**: en, {shown}.\n\n**Licence**: {shown}." in text
    assert f"| {shown} | 2 |" in text
    assert f"| {shown} | 100.0 |" in text
    assert f"| {shown} | {shown} | 100.0 |" in text


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        write_model_card(RunFolder(tmp_path))

"""The filter for OpusFilter, from its own configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from ems_fast.errors import InputError

pytest.importorskip("opusfilter", reason="needs OpusFilter")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of its many libraries

PAIRS = [("Good morning!", "Guten Morgen!"), ("Thank you very much.", "Vielen Dank."),
         ("Where is the station?", "Der Hund schläft im Garten.")]  # fmt: skip


def test_scores_and_decisions():
    from ems_fast.filtering.opusfilter import EmbeddingFilter

    chosen = EmbeddingFilter(device="cpu", pool=2)
    scores = list(chosen.score(PAIRS))
    assert min(scores[:2]) > 0.1 > scores[2]
    assert list(chosen.filter(iter(PAIRS))) == PAIRS[:2]
    assert list(chosen.filterfalse(PAIRS)) == PAIRS[2:]
    assert list(chosen.decisions(PAIRS)) == [True, True, False]
    with pytest.raises(InputError, match="margin: got 'none'"):
        EmbeddingFilter(margin="none")
    with pytest.raises(InputError, match="expected source and target"):
        list(chosen.score([("a", "b", "c")]))


def test_in_its_configuration(tmp_path: Path):
    from opusfilter.opusfilter import OpusFilter

    for side, code in enumerate(("en", "de")):
        text = "".join(f"{pair[side]}\n" for pair in PAIRS)
        (tmp_path / f"in.{code}").write_text(text, encoding="utf-8")
    step = {"inputs": ["in.en", "in.de"], "outputs": ["out.en", "out.de"], "filters": [
        {"EmbeddingFilter": {"threshold": 0.1, "device": "cpu"},
         "module": "ems_fast.filtering.opusfilter"}]}  # fmt: skip
    configuration = {"common": {"output_directory": str(tmp_path)},
                     "steps": [{"type": "filter", "parameters": step}]}  # fmt: skip
    OpusFilter(configuration).execute_steps()
    found = [(tmp_path / f"out.{code}").read_text().splitlines() for code in ("en", "de")]
    assert list(zip(*found, strict=True)) == PAIRS[:2]

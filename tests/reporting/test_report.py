from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
from support.names import HOSTILE
from support.synthetic import TINY, make_corpus

import ems_fast
from ems_fast import InputError, ModelConfig
from ems_fast.evaluation import EvalSet
from ems_fast.reporting.charts import Chart, Curve, nice_ticks, number
from ems_fast.reporting.colours import HEAT_STEPS, contrast, heat, mark_class, shape, srgb
from ems_fast.reporting.findings import Findings
from ems_fast.reporting.history import History, label_pairs, thinned
from ems_fast.reporting.matrix import Matrix, Mistake
from ems_fast.reporting.page import run_page
from ems_fast.reporting.sentence_map import SentenceMap
from ems_fast.reporting.text_facts import TextFacts
from ems_fast.runs.folder import RunFolder
from ems_fast.runs.session import command

BAD = f"</script><img src=x onerror=alert(1)>'\"{HOSTILE}"


def history(languages: list[str], evaluations: int = 3) -> History:
    rows = [
        {"set": "held-out", "languages": f"{languages[0]}-{code}", "accuracy": 0.5 + at / 1000}
        for at, code in enumerate(languages[1:])
    ]
    return History(
        "run",
        {"model": {"languages": languages}, "data": {"pairs": 9, "language_pairs": {}}},
        [
            {"step": s, "pairs": 10 * s, "minutes": s / 60, "loss": 9 / s, "pairs_per_second": 5.0}
            for s in range(1, 900)
        ],
        [
            {"event": "evaluation", "step": 100 * at, "accuracy": {"held-out": 0.5}, "rows": rows}
            for at in range(1, evaluations + 1)
        ],
        [],
        [],
    )


def findings(languages: list[str], text: str = "words") -> Findings:
    size = len(languages)
    shares: list[list[float | None]] = [
        [None if a == b else 0.9 for b in range(size)] for a in range(size)
    ]
    names = [languages[at % size] for at in range(60)]
    places = [at / 60 for at in range(60)]
    return Findings(
        7, text, 60, Matrix(languages, shares, [[20] * size for _ in languages]),
        SentenceMap(places, places, [at // 6 for at in range(60)], names, [text] * 60, 99, 0.5, 1),
        {code: [Mistake(code, code, text, text, text, 0.5, 0.25)] for code in languages[1:]},
        {},
        TextFacts(
            {"read": 2, "kept": 1, "held_out": 0, "dropped": {"empty": 1}},
            [{"name": text, "read": 2, "kept": 1, "held_out": 0, "dropped": {"empty": 1}}],
            3, [text], dict.fromkeys(languages, (8, 20)), [(0, 3, 0.5), (4, None, 0.5)],
        ),
        {text: "0f"},
    )  # fmt: skip


def test_the_page_of_a_trained_run(run: Path) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for anchor in ("languages", "matrix", "map", "mistakes", "training", "text", "machine"):
        assert f"<section id='{anchor}'" in page
    assert "class='missing'" not in page
    assert "Not shown" not in page
    assert "trained on" in page
    line = next(x for x in RunFolder(run).read_metrics() if x["event"] == "session")
    assert line["step"] == 0
    assert line["versions"]["ems-fast"] == ems_fast.__version__
    assert len(page) < 500_000
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'")


def test_everything_is_text(tmp_path: Path) -> None:
    codes = ["en", BAD, f"{BAD}2"]
    page = run_page(history(codes), findings(codes, BAD))
    script = page.index("<script>")
    assert "<img" not in page
    assert page.count("<script>") == 1
    assert page.count("</script>") == 1
    assert "onerror=alert(1)>" not in page[:script].replace("&gt;", "")
    assert page.count("&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;&#x27;&quot;") > 70


@pytest.mark.parametrize("size", [1, 2, 61])
def test_any_number_of_languages(size: int) -> None:
    codes = [f"l{at}" for at in range(size)]
    page = run_page(history(codes), findings(codes))
    assert len(page) < 700_000
    assert page.count("<th scope='col'><span>") == (size if size > 1 else 0)


def test_a_run_without_evaluation_says_so(tmp_path: Path) -> None:
    page = run_page(history(["en", "de"], evaluations=0), Findings(missing={"sentences": "why"}))
    assert page.count("Not shown: why") == 4
    assert "nothing was scored" in page
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_config({"model": {"languages": ["en"]}, "data": {"pairs": 2, "corpus": "gone"}})
    with pytest.raises(InputError, match="has no line yet"):
        ems_fast.report(folder.path)
    folder.log("train", step=1, pairs=3, minutes=0.5, loss=float("nan"))
    page = ems_fast.report(folder.path).read_text(encoding="utf-8")
    assert "the run has no weights yet" in page
    assert "the corpus cannot be read" in page


def test_an_earlier_version_s_run(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    (old / "findings.json").unlink()
    lines = [json.loads(line) for line in (old / "metrics.jsonl").read_text().splitlines()]
    kept = [line for line in lines if line["event"] != "session"]
    for line in kept:
        if line["event"] == "evaluation":
            del line["pairs"], line["minutes"]
    (old / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
    page = ems_fast.report(old).read_text(encoding="utf-8")
    assert "did not log command and machine" in page
    assert page.count("Not shown") == 1
    ((found,), (new,)) = (
        History.of(RunFolder(folder)).averages().values() for folder in (old, run)
    )
    assert [y for _, y in found] == [y for _, y in new]
    assert [x for x, _ in found] == pytest.approx([x for x, _ in new], abs=32)  # a batch


def test_what_was_measured_is_kept_for_when_the_text_is_gone(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    options = {"model": ModelConfig(**TINY), "max_steps": 2, "batch_pairs": 16, "device": "cpu"}
    ems_fast.train(corpus.path, tmp_path / "run", progress=False, **options)
    before = (tmp_path / "run" / "findings.json").read_bytes()
    shutil.rmtree(corpus.path)
    page = ems_fast.report(tmp_path / "run", output=tmp_path / "page.html")
    assert "class='map'" in page.read_text(encoding="utf-8")
    assert (tmp_path / "run" / "findings.json").read_bytes() == before


def test_a_resumed_run_shows_each_session(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path)
    run, options = tmp_path / "run", {"batch_pairs": 16, "device": "cpu", "progress": False}
    ems_fast.train(corpus.path, run, model=ModelConfig(**TINY), max_steps=3, log_steps=1, **options)
    for steps in (5, 7):
        ems_fast.train(None, run, resume=True, max_steps=steps, device="cpu", progress=False)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "resumed 2 times" in page
    assert page.count("<pre ") == 3
    assert page.count("class='mark'") >= 2


def test_other_sentences(run: Path, tmp_path: Path) -> None:
    words = tuple(f"word {at}" for at in range(30))
    sets = [EvalSet("mine", "en", "de", words, words)]
    page = ems_fast.report(run, output=tmp_path / "page.html", eval_sets=sets)
    assert "On mine sentences" in page.read_text(encoding="utf-8")


def test_comparison(run: Path, table_run: Path, tmp_path: Path) -> None:
    page = ems_fast.report(run, table_run, run, output=tmp_path / "compare.html")
    text = page.read_text(encoding="utf-8")
    assert f"{run.name} (1)" in text
    assert f"{run.name} (2)" in text
    assert "<th scope='row'>model.layers</th><td>1</td><td>0</td><td>1</td>" in text
    assert "<th scope='row'>model.width</th>" not in text  # it is the same
    assert "class='worse'" in text or "class='better'" in text
    words = tuple(f"word {at}" for at in range(30))
    sets = [EvalSet("mine", "en", "de", words, words)]
    ems_fast.report(run, table_run, output=page, eval_sets=sets)
    assert "among mine sentences, the same for all runs" in page.read_text(encoding="utf-8")


def test_bad_input(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs: got none"):
        ems_fast.report()
    with pytest.raises(InputError, match="output: is missing"):
        ems_fast.report(run, run)
    with pytest.raises(InputError, match="holds no model"):
        ems_fast.report(tmp_path)


# -- parts -----------------------------------------------------------------------------------------


def test_the_text_of_cells_and_marks_can_be_read() -> None:
    for scheme, card in (("light", "#ffffff"), ("dark", "#181b24")):
        for step in range(HEAT_STEPS):
            background, ink = heat(step, scheme)
            assert contrast(background, ink) >= 4.5, (scheme, step)
        lightness, chroma = {"light": (0.56, 0.15), "dark": (0.76, 0.13)}[scheme]
        for hue in range(0, 360, 30):  # marks, not text
            assert contrast(srgb(lightness, chroma, hue), card) >= 3, (scheme, hue)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert srgb(1, 0, 0) == "#ffffff"


def test_marks_of_60_languages_differ() -> None:
    assert len({(mark_class(at), shape(at)) for at in range(72)}) == 72


@pytest.mark.parametrize("low", [-3.0, 0.0, 0.1, 99.0])
@pytest.mark.parametrize("extent", [1e-9, 0.003, 1.0, 7.3, 12345.0])
def test_ticks_are_round_and_span(low: float, extent: float) -> None:
    ticks = nice_ticks(low, low + extent, 4)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-6 * extent
    assert ticks[-1] >= low + extent * (1 - 1e-6)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)


def test_charts_of_little() -> None:
    assert Chart("t", [Curve("a", [])], "x").html() == ""
    for points in ([(0.0, 0.0)], [(5.0, 3.0)], [(0.0, 1.0), (1.0, 1.0)]):
        assert "nan" not in Chart("t", [Curve("a", points)], "x").html()


def test_numbers_are_short() -> None:
    values = (0, 0.25, 12.3, 999, 1234, 15_300, 123_456, 2_500_000, 0.00002)
    assert [number(value) for value in values] == [
        "0", "0.25", "12.3", "999", "1,234", "15.3 k", "123 k", "2.5 M", "2.0e-05",
    ]  # fmt: skip


def test_long_curves_are_thinned_by_means() -> None:
    points = [(float(x), float(x % 2)) for x in range(10_000)]
    found = thinned(points)
    assert len(found) == 200
    assert all(y == 0.5 for _, y in found)
    assert thinned(points[:5]) == points[:5]


def test_labels_leave_out_what_all_share() -> None:
    assert label_pairs(["en-de", "fr-en"]) == {"en-de": "de", "fr-en": "fr"}
    assert label_pairs(["en-de", "fr-it"]) == {"en-de": "en-de", "fr-it": "fr-it"}
    assert label_pairs(["en-de"]) == {"en-de": "de"}
    assert label_pairs(["x"]) == {"x": "x"}


def test_commands_are_as_typed() -> None:
    assert command(["/usr/bin/ems-fast", "train", "a b", "--output", "c"]) == (
        "ems-fast train 'a b' --output c"
    )
    assert command(["/x/ems_fast/__main__.py", "train"]) == "ems-fast train"
    assert command(["/home/me/fit.py"]) == "fit.py"
    assert len(command(["ems-fast", "x" * 5000])) == 2000

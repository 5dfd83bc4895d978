"""From collected text to the model in the wheel: ``python pretrained/train.py --help``.

Each step keeps what it has written (the corpus, the run with its checkpoints, the scores) and a
second call goes on behind it, also in the middle of training.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import Counter, defaultdict
from hashlib import sha256
from pathlib import Path
from statistics import fmean
from typing import Any

import ems_fast
from ems_fast.encoding.shipped import DEFAULT
from ems_fast.evaluation.folders import language_of
from ems_fast.model.config import preset

VOCABULARY = 96_000
# With so many the table in 4 bits is as large as one of tokens alone in 8.
PHRASES = 98_304
TOKENIZER_SENTENCES = 1_000_000
# Beside those of the preset `static`: docs/tuning.md says what was measured on text of many kinds.
OPTIONS: dict[str, Any] = {
    "sampling_exponent": 0.7, "evaluations": 3, "evaluation_pairs": 100, "seed": 0,
}  # fmt: skip
# Below it a language is not called supported.
LEAST_FLORES = 0.30
LICENCE = "other"
# Of the corpora's tags; collect.py knows those of packages.
LICENCES = {
    "tat": "CC-BY-2.0-FR", "tatp": "CC-BY-2.0-FR", "tico": "CC0-1.0", "tldr": "CC-BY-4.0",
    "bib": "mostly public domain; pt CC-BY, hi CC-BY-SA-4.0, pl and ro free to copy",
}  # fmt: skip


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--text", type=Path, required=True, help="what collect.py wrote")
    parser.add_argument("--corpora", type=Path, required=True, help="eval/ is read")
    parser.add_argument("--work", type=Path, default=Path("build/pretrained"))
    parser.add_argument("--minutes", type=float, default=40.0, help="of training")
    parser.add_argument("--output", type=Path, default=Path("ems_fast/models") / DEFAULT)
    given = parser.parse_args()
    corpus, run = given.work / "corpus", given.work / "run"
    if not corpus.exists():
        ems_fast.prepare(
            given.text, corpus, vocab_size=VOCABULARY, tokenizer_sentences=TOKENIZER_SENTENCES
        )
    ems_fast.train(
        corpus, run, model=preset("phrases", phrases=PHRASES), resume="auto",
        max_minutes=given.minutes, **OPTIONS,
    )  # fmt: skip
    small = given.work / "quantised"
    if not small.exists():
        ems_fast.export(run, small, to="ems-fast", bits=4, licence=LICENCE)
    scores = {
        name: evaluated(folder, given.corpora / "eval", given.work / f"{name}.json")
        for name, folder in (("float32", run), ("quantised", small))
    }
    (small / "README.md").write_text(card(corpus, run, given.text, scores), encoding="utf-8")
    shutil.rmtree(given.output, ignore_errors=True)
    shutil.copytree(small, given.output)
    print(f"The model is in {given.output}.")


def evaluated(model: Path, sets: Path, output: Path) -> dict[str, Any]:
    """All tasks on the model's languages, as JSON; from `output` if they were measured already."""
    if not output.exists():
        encoder = ems_fast.load(model, device="cpu")
        found = ems_fast.evaluate_folders(
            encoder, [sets], languages=encoder.languages, bitext=False, progress=True
        )
        output.write_text(found.to_json(), encoding="utf-8")
    scores: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return scores


def by_language(scores: dict[str, Any], name: str) -> dict[str, float]:
    """Accuracy of a collection of translations; of two scripts of a language the better one."""
    found: dict[str, float] = defaultdict(float)
    for row in scores["retrieval"]["rows"]:
        if row["name"].startswith(name):
            code = language_of(row["source_lang"])
            found[code] = max(found[code], row["mean"])
    return found


def averages(scores: dict[str, Any]) -> dict[str, float]:
    """The means over languages of every kind of evaluation."""
    found = {row["name"]: row["mean"] for row in scores["retrieval"]["averages"]}
    for row in scores["classification"]["averages"]:
        found[row["name"]] = fmean(row["accuracies"])
    return found | {row["name"]: row["spearman"] for row in scores["sts"]["averages"]}


def card(corpus: Path, run: Path, text: Path, scores: dict[str, dict[str, Any]]) -> str:
    """The model card: languages with their figures, text with its licences, how it was made."""
    sources = json.loads((text / "sources.json").read_text(encoding="utf-8"))
    config = ems_fast.load(run, device="cpu").config
    flores, tatoeba = (by_language(scores["quantised"], name) for name in ("flores", "tatoeba"))
    counts = {code: kept["pairs"] for code, kept in sources["languages"].items()}
    digest = sha256((corpus / "corpus.json").read_bytes()).hexdigest()
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    seen = max(line["pairs"] for line in metrics if line["event"] == "train")
    supported = [code for code, value in flores.items() if value >= LEAST_FLORES]
    weak = sorted(set(flores) - set(supported))
    lines = [
        "---",
        "language:", *(f"- {code}" for code in ("en", *sorted(supported))),
        "license: other",
        "library_name: ems-fast",
        "pipeline_tag: sentence-similarity",
        "---",
        "",
        f"# {DEFAULT}",
        "",
        f"Sentence embeddings of {config.width} dimensions: the mean of the vectors of the tokens "
        f"({config.vocab_size:,}) and of frequent pairs of neighbouring tokens "
        f"({config.phrases:,}), in 4 bits. `ems_fast.load()` loads it.",
        "",
        f"**Languages**: English and {len(supported)} more, each with at least "
        f"{100 * LEAST_FLORES:.0f} % on FLORES-200 devtest. Trained on, too, but not supported: "
        f"{', '.join(weak) or 'none'}.",
        "",
        "## Quality",
        "",
        "Retrieval among a set's sentences, with English, mean of both directions, in %; SIB-200, "
        "topics learnt on English and told in the others; STS benchmark, Spearman × 100.",
        "",
        "| | 4 bits | float32 |", "|---|---|---|",
    ]  # fmt: skip
    small, whole = averages(scores["quantised"]), averages(scores["float32"])
    lines += [f"| {k}, mean | {100 * v:.1f} | {100 * whole[k]:.1f} |" for k, v in small.items()]
    lines += ["", "| language | pairs | FLORES | Tatoeba |", "|---|---|---|---|"]
    for code in sorted(flores):
        at = f"{100 * tatoeba[code]:.1f}" if code in tatoeba else ""
        lines.append(f"| {code} | {counts.get(code, 0):,} | {100 * flores[code]:.1f} | {at} |")
    lines += [
        "", "## Text", "",
        "Freely licensed text, the same pairs in no part of Tatoeba's test, FLORES-200 devtest, "
        "SIB-200 or STS-B. Pairs with English by source:", "",
        "| source | licence | pairs |", "|---|---|---|",
    ]  # fmt: skip
    by_source: Counter[str] = Counter()
    for kept in sources["languages"].values():
        for source, count in kept["sources"].items():
            by_source[source.removesuffix(".short")] += count
    licences = {name: source["licence"] for name, source in sources["sources"].items()} | LICENCES
    lines += [f"| {k} | {licences[k]} | {count:,} |" for k, count in by_source.most_common()]
    beside = sources["beside english"].get("pairs", 0)
    lines += [
        f"| Tatoeba, pairs without English | CC-BY-2.0-FR | {beside:,} |",
        "",
        "## How it was made", "",
        f"`make pretrained`: {seen:,} pairs seen, options {json.dumps(OPTIONS)} beside those of "
        f"the preset `static`; SHA-256 of the prepared corpus's `corpus.json` {digest}.",
        "",
        "## Limits", "",
        f"- A sentence counts up to its first {config.max_tokens} tokens. An empty one gets the "
        "zero vector.",
        "- The order of words counts within frequent pairs of neighbouring tokens only.",
        "- The text that may be given away is poor in topics of news: pretrained/README.md says by "
        "how much.",
        "- Much of the text is that of software, and short; names, numbers and rare words are "
        "weak, and what is wrong or unfair in the text may show in which sentences are near.",
        "",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()

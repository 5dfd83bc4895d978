"""A model from nothing in a few minutes, on real text that Python packages carry."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch

from ems_fast.demo.corpus import collect
from ems_fast.demo.first_look import first_look
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.shipped import DEFAULT, shipped_models
from ems_fast.evaluation import EvalSet, Evaluation, evaluate, nearest_examples
from ems_fast.evaluation.held_out import held_out_sets
from ems_fast.evaluation.results import percent
from ems_fast.model.encoder import Encoder
from ems_fast.text.table import aligned
from ems_fast.training import train

HELD_OUT_PAIRS = 500
QUERIES = 8
# Queries that a person can judge at a glance.
QUERY_CHARACTERS = range(25, 90)


def run(
    packages: Path | None = None,
    output: Path = Path("runs/demo"),
    *,
    minutes: float = 2.0,
    seed: int = 0,
) -> None:
    """Show the shipped model, then train one and print what it finds in sentences it never saw.

    Args:
        packages: folder with the packages whose catalogues are the text; None: the installed ones.
        output: folder of the run; a number is appended if it is taken.
        minutes: minutes of training.
        seed: of everything drawn.

    Raises:
        InputError: the packages are missing.
    """
    if DEFAULT in shipped_models():
        print(f"{first_look()}\n", flush=True)
    output = first_free(output)
    text = output.with_name(f"{output.name}-text")
    counts = collect(packages, text)
    listed = ", ".join(f"{language} {n:,}" for language, n in counts.items())
    print(f"{sum(counts.values()):,} sentences and their translations: {listed}\n")

    result = train(text, output, max_minutes=minutes, seed=seed)
    trained = result.encoder
    sets = held_out_sets(result.corpus, HELD_OUT_PAIRS)
    torch.manual_seed(seed)  # as training found it
    untrained = SentenceEncoder(
        Encoder(trained.config), trained.tokenizer, trained.config, torch.device("cpu")
    )
    print(f"\n{comparison_table(evaluate(untrained, sets), evaluate(trained, sets))}\n")
    print(neighbour_examples(trained, sets, seed))
    print(
        f"\nThe run is in {output}: look at its report.html, or use it from Python:\n\n"
        f"  import ems_fast\n"
        f'  encoder = ems_fast.load("{output}")\n'
        f'  vectors = encoder.encode(["Hello world", "Hallo Welt"], normalize=True)'
    )


def first_free(path: Path) -> Path:
    """`path`, or the first of path-2, path-3, … that does not exist."""
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def comparison_table(before: Evaluation, after: Evaluation) -> str:
    """Accuracy on held-out sentences, language by language."""
    header = ("languages", "sentences", "untrained", "trained")
    rows = [
        (f"{a.source_lang}-{a.target_lang}", str(a.n), percent(a.mean), percent(b.mean))
        for a, b in zip(before.rows, after.rows, strict=True)
    ]
    average = ("average", "", percent(before.mean), percent(after.mean))
    title = "How often the translation of a held-out sentence is its nearest neighbour, in %"
    return f"{title}\n{aligned([[header], rows, [average]])}"


def neighbour_examples(encoder: SentenceEncoder, sets: Sequence[EvalSet], seed: int) -> str:
    """What the model finds among all held-out English sentences, for queries drawn at random."""
    rng = random.Random(seed)
    english = [sentence for one in sets for sentence in one.source]
    lines = [f"Nearest of {len(set(english)):,} held-out English sentences"]
    for one in rng.sample(list(sets), min(QUERIES, len(sets))):
        both = zip(one.source, one.target, strict=True)
        pairs = [pair for pair in both if len(pair[0]) in QUERY_CHARACTERS]
        if not pairs:
            continue
        translation, query = rng.choice(pairs)
        (example,) = nearest_examples(encoder, [query], english, n=2)
        lines.append(f"\n  {one.target_lang}: {query}")
        for text, score in zip(example.texts, example.scores, strict=True):
            mark = "✓" if text == translation else " "
            lines.append(f"    {mark} {score:.2f}  {text}")
        if translation not in example.texts:
            lines.append(f"      its translation: {translation}")
    return "\n".join(lines)

"""``README.md`` of a model: what it was trained on, how well it does, what it cannot.

In the form that model hubs read: YAML front matter, then Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ems_fast.files.atomic import write_text
from ems_fast.model.config import ModelConfig
from ems_fast.runs.folder import RunFolder, best_evaluation
from ems_fast.text.markdown import plain_markdown

CARD = "README.md"
UNKNOWN_LICENCE = "unknown: depends on your corpus"

_USE = """\
```python
import ems_fast

encoder = ems_fast.load("PATH_OF_THIS_FOLDER")
vectors = encoder.encode(["Good morning!"], normalize=True)  # float32 [1, {width}]
```"""


def write_model_card(run: RunFolder, *, licence: str = UNKNOWN_LICENCE) -> None:
    """Write the card of a run into its folder, from what the folder holds.

    Args:
        run: with ``config.toml``; ``metrics.jsonl`` is used if it is there.
        licence: of the model, such as ``cc-by-4.0``.

    Raises:
        InputError: the folder holds no run.
    """
    write_card(run.path, model_card(run.read_model_config(), run=run, licence=licence))


def write_card(folder: Path, text: str) -> None:
    """Put a card into a folder."""
    write_text(folder / CARD, text)


def model_card(
    config: ModelConfig,
    *,
    run: RunFolder | None = None,
    licence: str = UNKNOWN_LICENCE,
    library: str = "ems-fast",
    use: str = _USE,
    notes: Sequence[str] = (),
) -> str:
    """The text of a card.

    Args:
        run: where it was trained, if that is known.
        library: what loads it.
        use: Markdown that shows how; ``{width}`` stands for the width of a vector.
        notes: further limits, one a line.
    """
    languages = ", ".join(map(plain_markdown, config.languages)) or "not recorded"
    parts = [
        _front_matter(config, licence, library),
        f"# {plain_markdown(run.path.resolve().name) if run else 'EMS sentence encoder'}",
        f"Sentence embeddings of {config.width} dimensions, made by one encoder for all languages "
        "([EMS](https://arxiv.org/abs/2205.15744)): translations get similar vectors, to be "
        "compared by cosine. Trained with ems-fast.",
        f"**Languages**: {languages}.\n\n**Licence**: {plain_markdown(licence)}.",
        "## Use",
        use.replace("{width}", str(config.width)),
        "## Training data",
        *(_data(run) if run else ["Not recorded with this model."]),
        "## Model",
        _table(
            ("", ""),
            ("layers", config.layers),
            ("width of a vector", config.width),
            ("attention heads", config.heads),
            ("feed-forward width", config.ffn_width),
            ("vocabulary", f"{config.vocab_size:,}"),
            *([("phrases", f"{config.phrases:,}")] if config.phrases else []),
            ("longest sentence, tokens", config.max_tokens),
        ),
    ]
    if run:
        parts += ["## Evaluation", *_evaluation(run)]
        parts += _certificate(run)
    limits = [
        f"A sentence counts up to its first {config.max_tokens} tokens; the rest is cut off.",
        "An empty sentence has no meaning here, and gets the zero vector.",
        "Languages and kinds of text that were not in the training data are embedded without a "
        "warning, and may be embedded badly.",
        "What is wrong, unfair or offensive in the training text may show in which sentences are "
        "near to each other.",
        *notes,
    ]
    parts += ["## Limits", "\n".join(f"- {limit}" for limit in limits)]
    return "\n\n".join(parts) + "\n"


def _front_matter(config: ModelConfig, licence: str, library: str) -> str:
    # JSON strings are YAML strings; hubs know the licence "unknown" by that word alone.
    known = "unknown" if licence == UNKNOWN_LICENCE else licence
    languages = [f"- {json.dumps(code)}" for code in config.languages]
    lines = [
        "---",
        *(["language:", *languages] if languages else []),
        f"license: {json.dumps(known, ensure_ascii=False)}",
        f"library_name: {library}",
        "pipeline_tag: sentence-similarity",
        "tags:\n- sentence-embeddings\n- sentence-similarity\n- ems",
        "---",
    ]
    return "\n".join(lines)


def _data(run: RunFolder) -> list[str]:
    data = run.read_config().get("data", {})
    total = f"{data['pairs']:,} sentence pairs." if "pairs" in data else "Not recorded."
    if "init" in data:
        total += f" It began with the weights of {plain_markdown(data['init'])}."
    rows = [(name, f"{count:,}") for name, count in data.get("language_pairs", {}).items()]
    return [total, _table(("languages", "pairs"), *rows)] if rows else [total]


def _evaluation(run: RunFolder) -> list[str]:
    """The evaluation at which the saved weights were written: the best, the later of equals."""
    events = run.read_metrics()
    best = best_evaluation(events)
    if best is None:
        return ["Not evaluated."]
    averages = ((name, f"{100 * value:.1f}") for name, value in best["accuracy"].items())
    rows = ((row["set"], row["languages"], f"{100 * row['accuracy']:.1f}") for row in best["rows"])
    trained = [line for line in events if line.get("event") == "train"]
    seen = [line["pairs"] for line in trained if line["step"] <= best["step"]]
    after = f", {seen[-1]:,} pairs seen" if seen else ""
    return [
        "Accuracy of finding the translation among a set's sentences, mean of both directions, "
        f"after {best['step']:,} steps{after}.",
        _table(("set", "average, %"), *averages),
        _table(("set", "languages", "accuracy, %"), *rows),
    ]


def _certificate(run: RunFolder) -> list[str]:
    """What an extended model keeps of the one before; nothing for other models."""
    found = [line for line in run.read_metrics() if line.get("event") == "certificate"]
    if not found:
        return []
    *_, last = found
    rows = (
        (
            row["set"], row["languages"], "old" if row["old"] else "new",
            *(f"{100 * row[name]:.1f}" for name in ("neighbours", "before", "after")),
        )
        for row in last["rows"]
    )  # fmt: skip
    return [
        f"## What it keeps of {plain_markdown(last['model'])}",
        "Neighbours kept: the share of sentences of the second language for which this model finds "
        "the same nearest sentence of the first in an index of the earlier model's vectors as that "
        f"model does. Accuracy as above, of both models. Extended with keep={last['keep']}.",
        _table(
            ("set", "languages", "", "neighbours kept, %", "accuracy before, %", "after, %"), *rows
        ),
    ]


def _table(head: Sequence[str], *rows: Sequence[object]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(plain_markdown, line))} |" for line in lines)

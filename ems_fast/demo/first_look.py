"""What the model that came with the installation knows: translations found among many languages."""

from __future__ import annotations

from pathlib import Path

from ems_fast.encoding.load import load
from ems_fast.mining.exact import nearest

# A language a line and then the same sentences in all; the first line asks for the others.
SENTENCES = Path(__file__).with_name("sentences.tsv")


def first_look(shown: int = 3) -> str:
    """The nearest `shown` sentences of each English one, and how many of all are right."""
    rows = [line.split("\t") for line in SENTENCES.read_text(encoding="utf-8").splitlines()]
    queries, languages = rows[0][1:], [row[0] for row in rows[1:]]
    sentences = [text for row in rows[1:] for text in row[1:]]
    encoder = load(device="cpu")
    found = nearest(encoder.encode(queries), encoder.encode(sentences), len(languages))
    lines, right = [], 0
    for query, places, cosines in zip(
        range(len(queries)), found.indices, found.scores, strict=True
    ):
        right += int((places % len(queries) == query).sum())
        lines.append(f"  {queries[query]}")
        for at, cosine in zip(places[:shown].tolist(), cosines.tolist(), strict=False):
            lines.append(f"    {cosine:5.2f}  {languages[at // len(queries)]}  {sentences[at]}")
    return "\n".join(
        [
            f"The model that came with ems-fast: {len(queries)} sentences among "
            f"{len(sentences)} in {len(languages)} languages",
            *lines,
            f"  {right} of the {len(sentences)} translations are among the {len(languages)} "
            "nearest of their sentence.",
        ]
    )

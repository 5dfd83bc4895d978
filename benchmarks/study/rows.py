"""The rows of the study, in the order in which they run and are shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ems_fast.model.config import preset
from ems_fast.training.recommended import recommended_tokenizer
from study.config import Row, System, Text

# The best of each system in the table "tuning", by the mean of held-out and news.
ST_STATIC = {"learning_rate": 0.5, "scale": 10.0}
ST_BERT_LEARNING_RATE = 1e-3
ST_CACHED_LEARNING_RATE = 1e-3
RECIPE_LEARNING_RATE = 1e-3

SHORT = 3
MIDDLE = 6
LONG = 20
LONGEST = 60
SEEDS = (0, 1, 2)
FEW = ("he", "tr", "uk", "zh")


def text_for(model: str, **changes: Any) -> Text:
    """Tatoeba's text, with the vocabulary that the preset is given by default."""
    options = recommended_tokenizer(preset(model))
    text = Text(vocab_size=options["vocab_size"], tokenizer_type=options["tokenizer_type"])
    return replace(text, **changes)


TABLE, LAYERS = text_for("static"), text_for("mini")
ALL = {"tags": None}
# What is compared: the system, its label, its text and its options.
SYSTEMS: dict[str, tuple[System, str, Text, dict[str, Any]]] = {
    "phrases": ("ems-fast", "`phrases`", TABLE, {"model": "phrases"}),
    "static": ("ems-fast", "`static`", TABLE, {"model": "static"}),
    "mini": ("ems-fast", "`mini`", LAYERS, {"model": "mini"}),
    "small": ("ems-fast", "`small`", text_for("small"), {"model": "small"}),
    "st-static": (
        "sentence-transformers", "sentence-transformers, `StaticEmbedding`", TABLE,
        {"model": "static", "batch_pairs": 2048, **ST_STATIC},
    ),
    "st-bert": (
        "sentence-transformers", "sentence-transformers, `BertModel`", LAYERS,
        {"model": "bert", "batch_pairs": 256, "learning_rate": ST_BERT_LEARNING_RATE},
    ),
    "st-bert-cached": (
        "sentence-transformers", "sentence-transformers, `BertModel`, Cached loss", LAYERS,
        {
            "model": "bert", "batch_pairs": 1024, "cached": 128,
            "learning_rate": ST_CACHED_LEARNING_RATE,
        },
    ),
    "recipe": (
        "recipe", "the released recipe, plain PyTorch", LAYERS,
        {"batch_pairs": 152, "learning_rate": RECIPE_LEARNING_RATE},
    ),
}  # fmt: skip


def _row(
    base: str,
    name: str,
    table: str,
    label: str,
    *,
    minutes: float | None = None,
    pairs: int | None = None,
    seed: int = 0,
    text: dict[str, Any] | None = None,
    also: tuple[str, ...] = (),
    narrow: tuple[int, ...] = (),
    **options: Any,
) -> Row:
    """A row of the system `base` with other text and options."""
    system, _, base_text, base_options = SYSTEMS[base]
    return Row(
        name=name, system=system, table=table, label=label,
        text=replace(base_text, **(text or {})), minutes=minutes, pairs=pairs, seed=seed,
        options={**base_options, **options}, also=also,
        narrow=narrow,
    )  # fmt: skip


# -- equal minutes, the same text ------------------------------------------------------------------

SHOWN_ALSO = {
    f"phrases-{SHORT}": ("table",),
    f"static-{SHORT}": ("table", "pairs"),
    f"static-{LONG}": ("table",),
}


def _minutes() -> Iterator[Row]:
    for minutes in (SHORT, LONG, LONGEST):
        for base in SYSTEMS:
            if base == "small" and minutes == SHORT:
                continue
            for seed in SEEDS if minutes == SHORT else SEEDS[:1]:
                name = f"{base}-{minutes}"
                yield _row(
                    base, name + (f"-seed{seed}" if seed else ""), "minutes",
                    f"{SYSTEMS[base][1]}, {minutes} minutes", minutes=minutes, seed=seed,
                    also=SHOWN_ALSO.get(name, ()),
                )  # fmt: skip


def _minutes_all() -> Iterator[Row]:
    """With all of the text."""
    for minutes, bases in (
        (4, ("phrases", "static", "st-static")),
        (LONG, ("phrases", "static", "mini", "st-static", "st-bert")),
        (LONGEST, ("phrases", "static", "mini", "small")),
    ):
        for base in bases:
            for seed in SEEDS if minutes == 4 else SEEDS[:1]:
                yield _row(
                    base, f"{base}-all-{minutes}" + (f"-seed{seed}" if seed else ""),
                    "minutes-all", f"{SYSTEMS[base][1]}, {minutes} minutes", minutes=minutes,
                    seed=seed, text=ALL,
                )  # fmt: skip

    yield _row(
        "phrases", "phrases-k512k-all-6", "minutes-all", "`phrases`, 524,288 of them, 6 minutes",
        minutes=6, text=ALL, phrases=524_288,
    )  # fmt: skip


# -- the baselines' options ------------------------------------------------------------------------


def _tuning() -> Iterator[Row]:
    def rates(
        base: str, minutes: float, *learning_rates: float, told: str = "", **options: Any
    ) -> Iterator[Row]:
        for learning_rate in learning_rates:
            label = f"{SYSTEMS[base][1]}, learning rate {learning_rate:g}"
            name = f"tune-{base}-{learning_rate:g}"
            if told:
                label += f", {told}"
                name += f"-{told.replace(' ', '-').replace(',', '')}"
            yield _row(
                base, name, "tuning", label, minutes=minutes, learning_rate=learning_rate, **options
            )  # fmt: skip

    small: dict[str, Any] = {"init_std": 0.05}
    usual: dict[str, Any] = {"scale": 20.0}  # the library's default
    yield from rates("st-static", SHORT, 0.02, 0.05, 0.1, 0.2, 0.5, **usual)
    yield from rates("st-static", SHORT, 0.1, 0.2, 0.5, 1.0, told="scale 10", scale=10.0)
    yield from rates("st-static", SHORT, 0.01, 0.05, told="initial 0.05", **usual, **small)
    yield from rates("st-static", SHORT, 0.01, 0.05, told="initial 0.05, scale 10", scale=10.0,
                     **small)  # fmt: skip
    yield from rates("st-static", SHORT, 0.2, told="bfloat16", bf16=True, **usual)
    yield from rates("st-static", SHORT, 0.2, told="no duplicates", no_duplicates=True, **usual)
    yield from rates("st-bert", MIDDLE, 3e-4, 1e-3, 2e-3, 4e-3)
    yield from rates("st-bert", MIDDLE, 1e-3, told="scale 10", scale=10.0)
    yield from rates("st-bert", MIDDLE, 1e-3, told="bfloat16", bf16=True)
    yield from rates("st-bert", MIDDLE, 1e-3, told="batch 512", batch_pairs=512)
    yield from rates("st-bert-cached", MIDDLE, 3e-4, 1e-3, 2e-3, 4e-3)
    yield from rates("recipe", MIDDLE, 3e-4, 1e-3, 2e-3)
    # Ours: the layers' rate and optimiser; what is best is for `recommended_options` to say.
    yield from rates("mini", MIDDLE, 5e-4, 1e-3, 2e-3)
    yield from rates("mini", MIDDLE, 1e-3, 2e-3, 4e-3, told="Muon", optimizer="muon")
    others = {"table_learning_rate": 1e-3, "heads_learning_rate": 1e-3}
    yield from rates("mini", MIDDLE, 2e-3, 4e-3, told="Muon, the table and the heads at 0.001",
                     optimizer="muon", **others)  # fmt: skip


# -- ablations -------------------------------------------------------------------------------------

XTR = {"reconstruction": True, "xtr_weight": 1.0, "contrastive_weight": 1.0}
# Its vectors of one side are computed before the minutes begin.
TEACHER = {"teacher": "phrases", "teacher_minutes": SHORT}
# A distance of cosines is a tenth of the contrastive loss.
TEACHER_BESIDE = {**TEACHER, "teacher_weight": 10.0}
TEACHERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("teacher", "teacher (`phrases`, 3 minutes) alone", {**TEACHER, "contrastive_weight": 0.0}),
    ("teacher-both", "teacher (`phrases`, 3 minutes) and contrastive", TEACHER_BESIDE),
)
# As much of it as costs a table's step little; the expected gradient is the same.
SAMPLED = {**XTR, "xtr_every": 32, "xtr_one_in": 16}
SAMPLED_TOLD = "XTR on one step in 32 from one sentence in 16, and contrastive"


def _table() -> Iterator[Row]:
    """Of the token table, which stands still after minutes."""
    for name, label, options in (
        ("d512", "width 512", {"width": 512}),
        ("both", "XTR and contrastive", XTR),
        ("both-tenth", "XTR with weight 0.1 and contrastive", {**XTR, "xtr_weight": 0.1}),
        ("sampled", SAMPLED_TOLD, SAMPLED),
        ("sampled-tenth", f"{SAMPLED_TOLD}, with weight 0.1", {**SAMPLED, "xtr_weight": 0.1}),
        ("xtr", "XTR alone", {**XTR, "contrastive_weight": 0.0}),
        *TEACHERS,
    ):
        for minutes in (SHORT, LONG) if name == "d512" else (SHORT,):
            yield _row(
                "static", f"static-{name}-{minutes}", "table", f"{label}, {minutes} minutes",
                minutes=minutes, **options,
            )  # fmt: skip
    for name, label, text, options in (
        ("nolang", "XTR and contrastive, without the language embedding", {},
         {**XTR, "language_embedding": False}),
        ("head", "projection head of width 128", {}, {"projection_width": 128}),
        ("m0", "no margin", {}, {"contrastive_margin": 0.0}),
        ("m0-t0.1", "no margin, temperature 0.1", {},
         {"contrastive_margin": 0.0, "temperature": 0.1}),
        ("k32k", "32,768 phrases", {}, {"phrases": 32_768}),
        ("k512k", "524,288 phrases", {}, {"phrases": 524_288}),
        ("t0.04", "temperature 0.04", {}, {"temperature": 0.04}),
        ("t0.06", "temperature 0.06", {}, {"temperature": 0.06}),
        ("t0.1", "temperature 0.1", {}, {"temperature": 0.1}),
        ("sorted", "batches of sentences of about one length", {}, {"sort_by_length": True}),
        ("unmasked", "duplicates not masked", {}, {"mask_duplicates": False}),
        ("b512", "batch 512", {}, {"batch_pairs": 512}),
        ("b8192", "batch 8,192", {}, {"batch_pairs": 8192}),
        ("d128", "width 128", {}, {"width": 128}),
        ("v8k", "vocabulary 8,000", {"vocab_size": 8_000}, {}),
        ("v16k", "vocabulary 16,000", {"vocab_size": 16_000}, {}),
        ("v32k", "vocabulary 32,000", {"vocab_size": 32_000}, {}),
        ("v128k", "vocabulary 128,000", {"vocab_size": 128_000}, {}),
        ("bpe", "BPE", {"tokenizer_type": "bpe"}, {}),
    ):  # fmt: skip
        yield _row(
            "static", f"static-{name}-{SHORT}", "table", f"{label}, {SHORT} minutes",
            minutes=SHORT, text=text, **options,
        )  # fmt: skip


# The contrastive loss on the embedding itself, so that only the objectives differ.
BOTH = {
    "projection_width": 0, "reconstruction": True, "xtr_weight": 1.0, "contrastive_weight": 2.0
}  # fmt: skip
CONTRASTIVE = {"projection_width": 0, "reconstruction": False, "xtr_weight": 0.0}


def _layers() -> Iterator[Row]:
    """Of two Transformer layers."""
    for name, label, options in (
        ("both", "XTR and contrastive", BOTH),
        ("contrastive", "contrastive alone", CONTRASTIVE),
        ("xtr", "XTR alone", {**BOTH, "contrastive_weight": 0.0}),
        ("nolang", "both, without the language embedding", {**BOTH, "language_embedding": False}),
        ("distinct", "both, weighting `distinct`", {**BOTH, "weighting": "distinct"}),
        ("released", "both, weighting `released`", {**BOTH, "weighting": "released"}),
        ("head", "both, projection head of width 128", {**BOTH, "projection_width": 128}),
        ("t0.05", "contrastive alone, temperature 0.05", {**CONTRASTIVE, "temperature": 0.05}),
        ("t0.2", "contrastive alone, temperature 0.2", {**CONTRASTIVE, "temperature": 0.2}),
        ("unmasked", "contrastive alone, duplicates not masked",
         {**CONTRASTIVE, "mask_duplicates": False}),
        ("b128", "contrastive alone, batch 128", {**CONTRASTIVE, "batch_pairs": 128}),
        ("b1024", "contrastive alone, batch 1,024", {**CONTRASTIVE, "batch_pairs": 1024}),
    ):  # fmt: skip
        yield _row(
            "mini", f"mini-{name}-{MIDDLE}", "layers", f"{label}, {MIDDLE} minutes",
            minutes=MIDDLE,
            **options,
        )  # fmt: skip


def _equal_pairs() -> Iterator[Row]:
    """The objectives when each sees as many pairs, whatever the time."""
    for base, pairs, variants in (
        ("static", 1_000_000,
         (("both", "XTR and contrastive", XTR), ("contrastive", "contrastive alone", {}),
          ("sampled", SAMPLED_TOLD, SAMPLED),
          ("sampled-tenth", f"{SAMPLED_TOLD}, with weight 0.1", {**SAMPLED, "xtr_weight": 0.1}),
          ("xtr", "XTR alone", {**XTR, "contrastive_weight": 0.0}))),
        ("mini", 400_000,
         (("both", "XTR and contrastive", BOTH), ("contrastive", "contrastive alone", CONTRASTIVE),
          ("xtr", "XTR alone", {**BOTH, "contrastive_weight": 0.0}))),
    ):  # fmt: skip
        for name, label, options in variants:
            yield _row(
                base, f"pairs-{base}-{name}", "equal-pairs",
                f"{SYSTEMS[base][1]}, {label}, {pairs / 1e6:g} M pairs", pairs=pairs, **options,
            )  # fmt: skip


def _objectives() -> Iterator[Row]:
    """The contrastive loss and its options, on a token table, at equal steps."""
    widths, wide = (64, 128), {"width": 512, "narrow": (128, 256)}
    for name, label, options in (
        ("margin", "margin 0.3, as by default", {"narrow": widths}),
        ("plain", "no margin", {"contrastive_margin": 0.0}),
        ("hardness", "margin and hardness 5", {"hardness": 5.0}),
        ("learnt", "margin and learnt temperature", {"learn_temperature": True}),
        ("several", "margin and several positives", {"several_positives": True}),
        *(
            (
                f"matryoshka-{weight:g}", f"margin and matryoshka 64, 128 of weight {weight:g}",
                {"matryoshka": widths, "matryoshka_weight": weight, "narrow": widths},
            )
            for weight in (1.0, 0.1, 0.03)
        ),
        ("d512", "width 512, margin", wide),
        ("d512-matryoshka", "width 512, margin and matryoshka 128, 256 of weight 0.1",
         {**wide, "matryoshka": wide["narrow"], "matryoshka_weight": 0.1}),
        *TEACHERS,
    ):  # fmt: skip
        yield _row(
            "static", f"objective-{name}", "objectives", f"{SYSTEMS['static'][1]}, {label}",
            pairs=2_000_000, **options,
        )  # fmt: skip


# -- how many pairs there are ----------------------------------------------------------------------

VARIANTS: tuple[tuple[str, str, str, float, dict[str, Any]], ...] = (
    ("static", "static", "contrastive alone", SHORT, {}),
    ("static-both", "static", "XTR and contrastive", SHORT, XTR),
    ("mini-contrastive", "mini", "contrastive alone", MIDDLE, CONTRASTIVE),
    ("mini-both", "mini", "XTR and contrastive", MIDDLE, BOTH),
    ("st-static", "st-static", "", SHORT, {}),
)


def _pairs() -> Iterator[Row]:
    """Every language has the first n pairs only."""
    for name, base, told, minutes, options in VARIANTS:
        label = SYSTEMS[base][1] + (f", {told}" if told else "")
        for n in (1_000, 3_000, 10_000, 30_000):
            yield _row(
                base, f"few-{name}-{n}", "pairs", f"{label}, {n:,} pairs a language",
                minutes=minutes, text={"pairs": n}, **options,
            )  # fmt: skip


def _low_resource() -> Iterator[Row]:
    """Some languages have n pairs only, the others all."""
    for name, base, told, minutes, options in VARIANTS[:-1]:
        for n in (1_000, 10_000):
            yield _row(
                base, f"low-{name}-{n}", "low-resource",
                f"{SYSTEMS[base][1]}, {told}, {n:,} pairs in {', '.join(FEW)}", minutes=minutes,
                text={"pairs": n, "limited": FEW}, **options,
            )  # fmt: skip


ROWS: tuple[Row, ...] = (
    *_tuning(), *_minutes(), *_minutes_all(), *_table(), *_layers(), *_equal_pairs(),
    *_objectives(), *_pairs(), *_low_resource(),
)  # fmt: skip

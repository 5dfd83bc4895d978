"""The trainer of sentence-transformers with its in-batch loss, on a fresh model.

Options: ``model``, ``static`` (`StaticEmbedding`) or ``bert`` (a `BertModel` with mean pooling);
``learning_rate``; ``batch_pairs``; ``width``, and of a BERT ``layers``, ``heads``, ``ffn_width``,
``dropout``; ``init_std`` of a table, else the library's own; ``scale`` of cosines, 1 / temperature;
``symmetric``; ``cached``, the mini-batch of the Cached loss; ``warmup``, a share of the run;
``bf16``; ``no_duplicates``, the library's sampler of batches without equal sentences;
``sampling_exponent``. The tokenizer is that of the corpus, exported.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Nothing is to be looked up on a hub, and no card to be made of the training.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

import numpy as np
import numpy.typing as npt
import pyarrow
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.modules import (
    Pooling,
    StaticEmbedding,
    Transformer,
)
from tokenizers import Tokenizer
from transformers import (
    BertConfig,
    BertModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ems_fast.corpus import BinaryCorpus
from ems_fast.exporting.fast_tokenizer import fast_tokenizer
from ems_fast.text.tokenizer import PAD_ID, UNK_ID
from study.budget import Budget, learning_rate_factor
from study.config import Places, Row
from study.memory import forget_peak
from study.systems import Trained
from study.systems.sampling import epoch
from study.texts import training_text


@dataclass(frozen=True)
class Options:
    """As above."""

    model: str
    learning_rate: float
    batch_pairs: int
    width: int = 256
    layers: int = 2
    heads: int = 4
    ffn_width: int = 1024
    dropout: float = 0.0
    init_std: float | None = None
    scale: float = 20.0
    symmetric: bool = True
    cached: int | None = None
    warmup: float = 0.05
    bf16: bool = False
    no_duplicates: bool = False
    sampling_exponent: float = 0.5


class Encoder:
    """What is trained, as evaluation asks for it."""

    def __init__(self, model: SentenceTransformer):
        self._model = model

    def encode(
        self, sentences: Sequence[str], *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        """Float32 [n, D]."""
        return np.asarray(
            self._model.encode(
                list(sentences), batch_size=256, normalize_embeddings=normalize,
                show_progress_bar=False, convert_to_numpy=True,
            ),
            dtype=np.float32,
        )  # fmt: skip


class Watch(TrainerCallback):
    """Starts the clock, counts pairs, and ends the training when the budget is spent."""

    def __init__(self, budget: Budget, batch_pairs: int):
        self._budget = budget
        self._batch_pairs = batch_pairs

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Everything is set up."""
        forget_peak()
        self._budget.start()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """A batch is done."""
        self._budget.step(self._batch_pairs)
        if self._budget.progress >= 1:
            self._budget.stop()
            control.should_training_stop = True


def train(row: Row, corpus: BinaryCorpus, places: Places) -> Trained:
    """Train with the library's defaults but for the options, and a schedule by the clock."""
    options = Options(**row.options)
    torch.manual_seed(row.seed)
    build = {"static": _static, "bert": _bert}[options.model]
    model = SentenceTransformer(modules=build(corpus, options, places, row), device="cpu")
    dataset = _dataset(row, corpus, places, options)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(places.work / "runs" / row.name / "trainer"),
        per_device_train_batch_size=options.batch_pairs,
        learning_rate=options.learning_rate,
        bf16=options.bf16,
        batch_sampler="no_duplicates" if options.no_duplicates else "batch_sampler",
        max_steps=1_000_000_000,  # the budget ends it
        dataloader_drop_last=True,
        seed=row.seed,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=20,
        report_to="none",
    )
    budget = Budget(row.minutes, row.pairs)
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=dataset,
        loss=_loss(model, options),
        callbacks=[Watch(budget, options.batch_pairs)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        trainer.optimizer,
        lambda _: learning_rate_factor(budget.progress, options.warmup, "linear"),
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return Trained(
        Encoder(model.eval()), budget.seconds / 60, budget.pairs, budget.steps,
        {"options": asdict(options), "last_loss": logged[-1] if logged else None},
    )  # fmt: skip


def _loss(model: SentenceTransformer, options: Options) -> torch.nn.Module:
    """In-batch negatives, from the target's side too if symmetric: the mean of both."""
    arguments: dict[str, Any] = {"scale": options.scale}
    if options.symmetric:
        arguments |= {
            "directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"
        }  # fmt: skip
    if options.cached is None:
        return losses.MultipleNegativesRankingLoss(model, **arguments)
    return losses.CachedMultipleNegativesRankingLoss(
        model, mini_batch_size=options.cached, **arguments
    )


def _static(
    corpus: BinaryCorpus, options: Options, places: Places, row: Row
) -> list[torch.nn.Module]:
    weights = None
    if options.init_std is not None:
        weights = options.init_std * torch.randn(corpus.vocab_size, options.width)
    return [
        StaticEmbedding(_tokenizer(corpus), embedding_weights=weights, embedding_dim=options.width)
    ]


def _bert(corpus: BinaryCorpus, options: Options, places: Places, row: Row) -> list[Any]:
    """A fresh model, by way of the folder that the library reads models from."""
    folder = places.work / "runs" / row.name / "fresh"
    config = BertConfig(
        vocab_size=corpus.vocab_size,
        hidden_size=options.width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=options.ffn_width,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        max_position_embeddings=corpus.max_tokens,
        type_vocab_size=1,
        pad_token_id=PAD_ID,
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(corpus),
        model_max_length=corpus.max_tokens,
        pad_token=corpus.tokenizer.piece(PAD_ID),
        unk_token=corpus.tokenizer.piece(UNK_ID),
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return [Transformer(str(folder)), Pooling(options.width, pooling_mode="mean")]


def _tokenizer(corpus: BinaryCorpus) -> Tokenizer:
    text = json.dumps(fast_tokenizer(corpus.tokenizer, corpus.max_tokens), ensure_ascii=False)
    return Tokenizer.from_str(text)


def _dataset(row: Row, corpus: BinaryCorpus, places: Places, options: Options) -> Dataset:
    """The corpus's training pairs as text, all languages in one, in a file that is mapped."""
    rng = np.random.default_rng(row.seed)
    rows = epoch([s.num_pairs for s in corpus.shards], options.sampling_exponent, rng)
    file = places.work / "runs" / row.name / "text.arrow"
    file.parent.mkdir(parents=True, exist_ok=True)
    schema = pyarrow.schema({"anchor": pyarrow.string(), "positive": pyarrow.string()})
    with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
        for shard, chosen in zip(corpus.shards, rows, strict=True):
            pairs = training_text(row.text, places, shard)
            sides = ([pairs[i][side] for i in chosen.tolist()] for side in (0, 1))
            columns = dict(zip(schema.names, sides, strict=True))
            writer.write_table(pyarrow.table(columns, schema=schema), max_chunksize=1_000)
    return Dataset.from_file(str(file))

"""Where a run's weights come from when they are not drawn: an earlier model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ems_fast.corpus import BinaryCorpus
from ems_fast.corpus.phrases import frequent_phrases
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.load import module_of
from ems_fast.encoding.shipped import folder_of
from ems_fast.errors import InputError
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.runs.folder import RunFolder
from ems_fast.text.tokenizer import Tokenizer
from ems_fast.training.adagrad import RowwiseAdagrad
from ems_fast.training.optimizers import PartOptimizers

TOKENS = "encoder.tokens.weight"
PHRASES = "encoder.phrases"
_LANGUAGES = "xtr_head.languages.weight"
_ENCODER_SIZES: tuple[str, ...] = ("layers", "width", "heads", "ffn_width", "max_tokens")


class Parts(NamedTuple):
    """Names of a model's parts: those taken from an earlier one, and those that begin anew."""

    taken: tuple[str, ...]
    fresh: tuple[str, ...]

    def __str__(self) -> str:
        fresh = ", ".join(self.fresh) or "nothing"
        return f"{', '.join(self.taken)} taken; {fresh} begun anew"


@dataclass(frozen=True)
class Start:
    """An earlier model, to go on from.

    Attributes:
        name: what it is called in messages: its folder or name.
        config: its sizes and languages.
        tokenizer: what it reads text with.
        weights: by their names in `EMSModel`; a loaded encoder has none of the heads.
        accumulators: float32 [V + K], what row-wise AdaGrad is to begin with for the rows of tokens
            and phrases, so that a known row is moved by small steps; None begins with nothing.
        folder: where it is on disk.
        new_phrases: most phrases that a table of them is to get from the text it goes on with.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    weights: Mapping[str, Tensor]
    accumulators: Tensor | None = None
    folder: Path | None = None
    new_phrases: int = 0

    @classmethod
    def of(cls, init: Init) -> Start:
        """Read the model that `init` names or is.

        Raises:
            InputError: it is no model of ours, is damaged, or reads text that has been
                preprocessed, as a converted checkpoint does.
        """
        if isinstance(init, Start):
            return init
        if isinstance(init, SentenceEncoder):
            state = init.as_module().state_dict()
            weights = {
                f"encoder.{k}": (v.detach().float() if v.is_floating_point() else v).cpu()
                for k, v in state.items()
            }
            preprocessed = init.preprocessing is not None
            start = cls("the encoder", init.config, init.tokenizer, weights)
        elif isinstance(init, str | Path):
            folder = RunFolder(folder_of(init))
            document = folder.read_config()
            tokenizer, _ = folder.open_model(document)
            config = folder.model_config(document)
            weights = folder.read_weights()
            module_of(config, weights, f"init: {folder.weights} does not fit config.toml")
            preprocessed = "preprocessing" in document.get("text", {})
            start = cls(str(init), config, tokenizer, weights, folder=folder.path)
        else:
            raise InputError(
                f"init: got an object of type {type(init).__name__}, expected the folder of a run, "
                "the name of a shipped model or a SentenceEncoder"
            )
        if preprocessed:
            raise InputError(
                f"init: {start.name} reads text after a preprocessing that training does not do; "
                "give a model that was trained here"
            )
        return start

    @property
    def phrases(self) -> Tensor | None:
        """Keys of the phrases that have rows of their own, int64 [K]; None without any."""
        return self.weights.get(PHRASES)

    def check_sizes(self, model: ModelConfig) -> None:
        """Raise `InputError` unless a model of those sizes can take these weights.

        A table can become the token embedding of a model with layers of the same width; phrases are
        then left behind, and a table without any can be given some. Dropout, vocabulary and
        languages are free: the latter two follow the text.
        """
        names = _ENCODER_SIZES
        if self.config.is_table:
            names = ("width",)  # whatever is laid upon it
        if self._has("contrastive_head.") and model.projection_width:
            names += ("projection_width",)
        if self._has("xtr_head.") and model.reconstruction:
            names += ("language_width", "tied")
        other = [n for n in names if getattr(self.config, n) != getattr(model, n)]
        if other:
            theirs = ", ".join(f"{name} {getattr(self.config, name)}" for name in other)
            ours = ", ".join(f"{name} {getattr(model, name)}" for name in other)
            raise InputError(
                f"init: {self.name} has {theirs}, but the model to train has {ours}; leave `model` "
                "out to train one of its sizes"
            )

    def check_tokenizer(self, corpus: BinaryCorpus) -> None:
        """Raise `InputError` unless `corpus` was prepared with this model's tokenizer."""
        if corpus.tokenizer_sha256 != self.tokenizer.sha256:
            raise InputError(
                f"init: {self.name} has another tokenizer than {corpus.path} was prepared with; "
                "give the files themselves, or prepare them with its tokenizer "
                "(tokenizer=, ems-fast prepare --tokenizer, takes the folder of a run)"
            )

    def with_phrases_of(self, corpus: BinaryCorpus) -> Start:
        """This model with up to `new_phrases` of the text's, beside those that it has.

        They are the most frequent that it lacks in the languages that are new to it; in all if none
        is. Their rows begin at zero, so that no vector changes by them, and with nothing in their
        accumulators. Keys stay ascending, and each has its row.
        """
        old = self.phrases
        if not self.new_phrases or old is None:
            return self
        others = [code for code in corpus.languages if code not in self.config.languages]
        keys = frequent_phrases(
            corpus, self.new_phrases, besides=old.numpy(), languages=others or None
        )
        merged, order = torch.cat([old, torch.from_numpy(keys)]).sort()

        def grown(rows: Tensor) -> Tensor:
            first = len(rows) - len(old)
            new = rows.new_zeros(len(keys), *rows.shape[1:])
            return torch.cat([rows[:first], torch.cat([rows[first:], new])[order]])

        return replace(
            self,
            config=replace(self.config, phrases=len(merged)),
            weights={**self.weights, PHRASES: merged, TOKENS: grown(self.weights[TOKENS])},
            accumulators=None if self.accumulators is None else grown(self.accumulators),
        )

    @torch.no_grad()
    def copy_into(self, model: EMSModel) -> Parts:
        """Give `model` these weights; what they do not have stays as it was drawn."""
        taken: dict[str, None] = {}  # in order, each once
        fresh: dict[str, None] = {}
        for name, weight in model.state_dict().items():
            if name == "output" and model.config.tied:
                continue  # it is the token embedding
            part = ".".join(name.split(".")[:2])
            given = self.weights.get(name)
            if given is None:
                fresh[part] = None
            elif name == _LANGUAGES:
                known = [code for code in model.config.languages if code in self.config.languages]
                for code in known:
                    row = given[self.config.languages.index(code)]
                    weight[model.config.languages.index(code)] = row.to(weight)
                (taken if known else fresh)[part] = None
            elif name == TOKENS:
                rows = min(len(weight), len(given))  # those of tokens come first
                weight[:rows] = given[:rows].to(weight)
                taken[part] = None
            else:
                weight.copy_(given)
                taken[part] = None
        return Parts(tuple(taken), tuple(fresh))

    def steady(self, optimizers: PartOptimizers, model: EMSModel) -> None:
        """Give the tokens' row-wise AdaGrad the `accumulators`; others begin with nothing."""
        table = model.encoder.tokens.weight
        for optimizer in optimizers:
            mine = any(
                table is each for group in optimizer.param_groups for each in group["params"]
            )
            if mine and self.accumulators is not None and isinstance(optimizer, RowwiseAdagrad):
                optimizer.state[table]["sum"] = self.accumulators.to(table.device, copy=True)

    def _has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.weights)


Init: TypeAlias = str | Path | SentenceEncoder | Start
"""The folder of a run, the name of a shipped model, a loaded encoder, or what was made of one."""

"""Every option of a training run, in groups; one flat namespace for users."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import torch

from ems_fast.errors import InputError, check, check_one_of
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.ops.native import cuda_has_bfloat16, has_fast_bfloat16
from ems_fast.text.docstrings import described
from ems_fast.training.batches.config import SIZES, BatchConfig, gives_size
from ems_fast.training.nonfinite import NonfiniteConfig
from ems_fast.training.objective import ObjectiveConfig
from ems_fast.training.optimizers import Kind, Parameters, Part, PartOptimizers
from ems_fast.training.schedule import Limits, Schedule

TableOptimizer = Literal["adamw", "rowwise-adagrad"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights follow the gradient.

    Attributes:
        optimizer: ``adamw``, ``adam-amsgrad`` as in the paper, ``rowwise-adagrad``, for token
            tables: see `RowwiseAdagrad`, or ``muon`` for the layers' matrices and AdamW for all
            else: see `Muon`.
        table_optimizer: ``adamw`` or ``rowwise-adagrad`` for the table of token vectors; by default
            as `optimizer` says.
        learning_rate: the peak of its schedule.
        table_learning_rate: of the table of token vectors, by default `learning_rate`.
        layers_learning_rate: of what else the encoder has, by default `learning_rate`.
        heads_learning_rate: of what only training needs, by default `learning_rate`.
        weight_decay: its share; decoupled, or added to the gradient for ``adam-amsgrad``.
        schedule: how it ends: ``cosine``, ``linear``, or ``constant`` with a linear last fifth.
        warmup_steps: length of the linear warm-up; by default `warmup_fraction` of the run.
        warmup_fraction: length of the warm-up as a share of the run.
        max_gradient_norm: gradients are scaled down to this norm; 0 leaves them alone.
        ema: decay of a moving average of the weights, such as 0.999, which is scored and saved
            instead of them; by default there is none.
        precision: ``bf16`` computes matrix products in bfloat16 (weights stay float32); ``auto``
            does so where the device has instructions for it.
    """

    optimizer: Kind = "adamw"
    table_optimizer: TableOptimizer | None = None
    learning_rate: float = 1e-3
    table_learning_rate: float | None = None
    layers_learning_rate: float | None = None
    heads_learning_rate: float | None = None
    weight_decay: float = 0.01
    schedule: Schedule = "cosine"
    warmup_steps: int | None = None
    warmup_fraction: float = 0.05
    max_gradient_norm: float = 1.0
    ema: float | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for part in ("", "table_", "layers_", "heads_"):
            name = f"{part}learning_rate"
            rate = getattr(self, name)
            check(rate is None or rate > 0, name, rate, "more than 0")
        share = self.warmup_fraction
        check(0 <= share < 1, "warmup_fraction", share, "between 0 and 1")
        ema = self.ema
        check(ema is None or 0 < ema < 1, "ema", ema, "above 0 and below 1")

    def check_model(self, model: ModelConfig) -> None:
        """Raise `InputError` unless `model` has the parts that are spoken of."""
        if model.is_table:
            check(self.optimizer != "muon", "optimizer", self.optimizer, "another without layers")
            rate = self.layers_learning_rate
            check(rate is None, "layers_learning_rate", rate, "none for a model without layers")
        if not (model.reconstruction or model.projection_width):
            rate = self.heads_learning_rate
            check(rate is None, "heads_learning_rate", rate, "none for a model without heads")

    @property
    def steps_touched_rows(self) -> bool:
        """Whether the table's optimiser takes gradients of single rows."""
        return (self.table_optimizer or self.optimizer) == "rowwise-adagrad"

    def build(self, model: EMSModel) -> PartOptimizers:
        """The optimisers of all of the model's parameters."""
        parameters = Parameters.of(model)
        kind: Kind = "adamw" if self.optimizer == "muon" else self.optimizer
        rate = self.learning_rate
        layers = self.layers_learning_rate or rate
        parts = [
            Part(parameters.table, self.table_optimizer or kind, self.table_learning_rate or rate),
            Part(parameters.matrices, self.optimizer, layers),
            Part(parameters.vectors, kind, layers),
            Part(parameters.heads, kind, self.heads_learning_rate or rate),
        ]
        return PartOptimizers(parts, self.weight_decay)

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """The dtype of matrix products, or None for float32."""
        if self.precision == "fp32":
            return None
        if self.precision == "bf16":
            return torch.bfloat16
        on_gpu = device.type == "cuda"
        fast = cuda_has_bfloat16(device) if on_gpu else has_fast_bfloat16()
        return torch.bfloat16 if fast else None


@dataclass(frozen=True)
class ReportingConfig:
    """What a run tells on its way.

    Attributes:
        evaluations: how many times the held-out pairs and evaluation sets are scored.
        evaluation_pairs: held-out pairs of a language pair that are scored.
        patience: so many evaluations without a better one on held-out pairs end the run; by default
            it goes on to its limits.
        checkpoint_minutes: minutes between checkpoints; 0 writes one after every step.
        log_steps: steps between lines of ``metrics.jsonl``.
    """

    evaluations: int = 5
    evaluation_pairs: int = 200
    patience: int | None = None
    checkpoint_minutes: float = 5.0
    log_steps: int = 20

    def __post_init__(self) -> None:
        minutes = self.checkpoint_minutes
        check(minutes >= 0, "checkpoint_minutes", minutes, "at least 0")
        check(self.patience is None or self.patience >= 1, "patience", self.patience, "at least 1")
        check(self.evaluations >= 1, "evaluations", self.evaluations, "at least 1")
        check(self.log_steps >= 1, "log_steps", self.log_steps, "at least 1")


@dataclass(frozen=True)
class TrainOptions:
    """All groups of options; a section each in the run's ``config.toml``."""

    batches: BatchConfig = field(default_factory=BatchConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    limits: Limits = field(default_factory=Limits)
    nonfinite: NonfiniteConfig = field(default_factory=NonfiniteConfig)
    reporting: ReportingConfig = field(default_factory=ReportingConfig)

    def sections(self) -> dict[str, dict[str, Any]]:
        """As sections of ``config.toml``."""
        return asdict(self)

    @classmethod
    def from_sections(cls, document: Mapping[str, Any]) -> TrainOptions:
        """What `sections` wrote; an option that is None or missing has its default.

        Raises:
            InputError: an option that this version does not have, or a bad value.
        """
        known = option_fields()
        groups = {}
        for name, group in get_type_hints(cls).items():
            section = {k: v for k, v in document.get(name, {}).items() if v is not None}
            unknown = set(section) - {option.name for option in fields(group)}
            if unknown:
                raise InputError(
                    f"config.toml: [{name}] has {', '.join(sorted(unknown))}, which this version "
                    "does not know; continue the run with the version that began it"
                )
            groups[name] = group(**{k: _checked(k, v, known[k].kind) for k, v in section.items()})
        return cls(**groups)


class Option(NamedTuple):
    """What is known of an option: its group, type (that without None), default and meaning."""

    group: str
    kind: Any
    default: Any
    meaning: str


def option_fields() -> dict[str, Option]:
    """Every option by name, as the fields and docstrings of the groups tell."""
    found = {}
    for group, cls in get_type_hints(TrainOptions).items():
        hints = get_type_hints(cls)
        meanings = described(cls, "Attributes")
        for option in fields(cls):
            kinds = get_args(hints[option.name])
            kind = kinds[0] if type(None) in kinds else hints[option.name]
            meaning = meanings.get(option.name, "")
            found[option.name] = Option(group, kind, option.default, meaning)
    return found


def split_options(options: Mapping[str, Any], base: TrainOptions | None = None) -> TrainOptions:
    """Flat options sorted into their groups, over the defaults of `base`.

    Raises:
        InputError: an option that does not exist (the nearest name is suggested) or a bad value.
    """
    known = option_fields()
    sections = (base or TrainOptions()).sections()
    if gives_size(options):
        sections["batches"].update(dict.fromkeys(SIZES))
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
            raise InputError(f"{name}: no such training option{hint}")
        sections[known[name].group][name] = value
    return TrainOptions.from_sections(sections)


def _checked(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        check_one_of(name, value, get_args(kind))
        return value
    if get_origin(kind) is tuple:
        each = get_args(kind)[0]
        fits = isinstance(value, Sequence) and not isinstance(value, str)
        check(fits, name, value, f"several numbers of type {each.__name__}")
        return tuple(_checked(name, entry, each) for entry in value)
    allowed = (int, float) if kind is float else kind
    fits = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
    check(fits, name, value, kind.__name__)
    return kind(value)

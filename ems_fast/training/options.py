"""Every option of a training run, in groups; one flat namespace for users."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from ems_fast.errors import InputError
from ems_fast.ops.native import has_fast_bfloat16
from ems_fast.training.adagrad import RowwiseAdagrad
from ems_fast.training.batches import BatchConfig
from ems_fast.training.nonfinite import NonfiniteConfig
from ems_fast.training.objective import ObjectiveConfig
from ems_fast.training.schedule import Limits

Optimizer = Literal["adamw", "adam-amsgrad", "rowwise-adagrad"]
Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights follow the gradient.

    Attributes:
        optimizer: ``adamw``, ``adam-amsgrad`` as in the paper, or ``rowwise-adagrad``, for token
            tables: see `RowwiseAdagrad`.
        learning_rate: the schedule's peak.
        weight_decay: decoupled, or added to the gradient for ``adam-amsgrad``.
        warmup_steps: length of the linear warm-up; None takes `warmup_fraction` of the run.
        warmup_fraction: length of the warm-up as a share of the run.
        max_gradient_norm: gradients are scaled down to this norm; 0 leaves them alone.
        precision: ``bf16`` computes matrix products in bfloat16 (weights stay float32); ``auto``
            does so where the device has instructions for it.
    """

    optimizer: Optimizer = field(
        default="adamw", metadata={"help": "how weights follow the gradient"}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "weight decay"})
    warmup_steps: int | None = field(
        default=None, metadata={"help": "warm-up steps; default: a share of the run"}
    )
    warmup_fraction: float = field(default=0.05, metadata={"help": "warm-up as a share of the run"})
    max_gradient_norm: float = field(
        default=1.0, metadata={"help": "gradient norm is clipped to this; 0 does not clip"}
    )
    precision: Precision = field(default="auto", metadata={"help": "auto, fp32 or bf16"})

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", Optimizer), ("precision", Precision)):
            value = getattr(self, name)
            if value not in get_args(choices):
                expected = ", ".join(map(repr, get_args(choices)))
                raise InputError(f"{name}: got {value!r}, expected one of {expected}")
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate: got {self.learning_rate}, expected more than 0")
        if not 0 <= self.warmup_fraction < 1:
            raise InputError(
                f"warmup_fraction: got {self.warmup_fraction}, expected between 0 and 1"
            )

    def build(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        """The optimiser over all of the model's parameters."""
        if self.optimizer == "rowwise-adagrad":
            return RowwiseAdagrad(
                model.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
        cls = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        return cls(
            model.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            amsgrad=self.optimizer == "adam-amsgrad",
            fused=True,
        )

    def autocast_dtype(self, device: torch.device) -> torch.dtype | None:
        """The dtype of matrix products, or None for float32."""
        if self.precision == "fp32":
            return None
        if self.precision == "bf16":
            return torch.bfloat16
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bfloat16()
        return torch.bfloat16 if fast else None


@dataclass(frozen=True)
class ReportingConfig:
    """What a run tells on its way.

    Attributes:
        evaluations: how many times the held-out pairs and evaluation sets are scored.
        evaluation_pairs: held-out pairs of a language pair that are scored.
        checkpoint_minutes: minutes between checkpoints; 0 writes one after every step.
        log_steps: steps between lines of ``metrics.jsonl``.
    """

    evaluations: int = field(default=5, metadata={"help": "evaluations during the run"})
    evaluation_pairs: int = field(
        default=200, metadata={"help": "held-out pairs of each language pair to score"}
    )
    checkpoint_minutes: float = field(default=5.0, metadata={"help": "minutes between checkpoints"})
    log_steps: int = field(default=20, metadata={"help": "steps between lines of metrics.jsonl"})

    def __post_init__(self) -> None:
        if not self.checkpoint_minutes >= 0:
            raise InputError(
                f"checkpoint_minutes: got {self.checkpoint_minutes}, expected at least 0"
            )
        for name in ("evaluations", "log_steps"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: got {getattr(self, name)}, expected at least 1")


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
        return {group.name: asdict(getattr(self, group.name)) for group in fields(self)}

    @classmethod
    def from_sections(cls, document: Mapping[str, Any]) -> TrainOptions:
        """What `sections` wrote.

        Raises:
            InputError: an option that this version does not have.
        """
        groups = {}
        for name, group in option_groups().items():
            section = document.get(name, {})
            unknown = set(section) - {option.name for option in fields(group)}
            if unknown:
                raise InputError(
                    f"config.toml: [{name}] has {', '.join(sorted(unknown))}, which this version "
                    "does not know; continue the run with the version that began it"
                )
            groups[name] = group(**section)
        return cls(**groups)


def option_groups() -> dict[str, type]:
    """The groups of options by name."""
    hints = get_type_hints(TrainOptions)
    return {group.name: hints[group.name] for group in fields(TrainOptions)}


def option_fields() -> dict[str, tuple[str, Field[Any], type]]:
    """Every option: its group, its dataclass field and the type of its value without None."""
    found = {}
    for group, cls in option_groups().items():
        hints = get_type_hints(cls)
        for option in fields(cls):
            hint = hints[option.name]
            plain = [t for t in get_args(hint) if t is not type(None)]
            is_optional = get_origin(hint) is not Literal and type(None) in get_args(hint)
            found[option.name] = (group, option, plain[0] if is_optional else hint)
    return found


def split_options(options: Mapping[str, Any], base: TrainOptions | None = None) -> TrainOptions:
    """Flat options sorted into their groups, over the defaults of `base`.

    Raises:
        InputError: an option that does not exist (the nearest name is suggested) or a bad value.
    """
    known = option_fields()
    sections = (base or TrainOptions()).sections()
    for name, value in options.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
            raise InputError(f"{name}: no such training option{hint}")
        group, option, kind = known[name]
        sections[group][name] = _checked(name, value, kind, option)
    # Whichever of these two is given replaces what the base has.
    for given, other in (("batch_pairs", "batch_tokens"), ("batch_tokens", "batch_pairs")):
        if options.get(given) is not None and options.get(other) is None:
            sections["batches"][other] = None
    return TrainOptions.from_sections(sections)


def _checked(name: str, value: Any, kind: Any, option: Field[Any]) -> Any:
    if value is None:
        return None if option.default is MISSING else option.default
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            expected = ", ".join(map(repr, get_args(kind)))
            raise InputError(f"{name}: got {value!r}, expected one of {expected}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise InputError(f"{name}: got {value!r}, expected {kind.__name__}")
    return value

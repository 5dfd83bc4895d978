"""The training loss of a batch of pairs: XTR in both directions plus the contrastive term."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ems_fast.distributed.ranks import gather_rows
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.model.packing import Packed
from ems_fast.ops.contrastive.loss import contrastive_loss
from ems_fast.ops.impl import Impl, fused_runs_on
from ems_fast.ops.xtr.loss import xtr_loss
from ems_fast.training.batches.batch import Batch
from ems_fast.training.teacher import TeacherLoss, teacher_loss

# A learnt temperature stays above this, where gradients of the nearest negatives explode.
LEAST_TEMPERATURE = 0.01


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and options of the two objectives; defaults as in the paper (section 3.3).

    Attributes:
        teacher_weight: weight of the distance to a teacher's vectors; 1 by default where
            there is a teacher.
        teacher_loss: that distance: ``cosine``, 1 − cosine, or ``mse``, the mean squared error.
        xtr_weight: weight of the reconstruction loss.
        xtr_every: n: reconstruct on one step in n only, with n times the weight.
        xtr_one_in: n: reconstruct from one in n sentences of a batch only, with n times the weight.
            Neither changes the expected gradient (before it is clipped); both save time where the
            vocabulary is large.
        contrastive_weight: weight of the contrastive loss.
        temperature: τ of the contrastive loss.
        contrastive_margin: what a pair's cosine has to win by: it is subtracted in the loss.
        hardness: how much more the nearest negatives count: the exponential of each is weighted by
            that of its own cosine, times so much.
        learn_temperature: the temperature is trained too, from `temperature` on and above 0.01.
        mask_duplicates: pairs of the batch with the same source or target text are not negatives
            of each other.
        several_positives: pairs with the same source or target text attract each other, instead
            of being masked.
        matryoshka: widths at which the first coordinates of an embedding are trained to be one.
        matryoshka_weight: weight of the loss of each of these widths, that of the whole being 1.
        slice_tokens: encode the batch in slices of at most so many tokens and encode each again in
            backward, so that memory bounds a slice and not the batch: the same gradients for about
            a third more time. By default the batch is encoded at once.
        impl: ``fused``, ``reference`` or ``compiled``, for both; by default ``fused`` on
            devices that have kernels and ``reference`` on others.
    """

    teacher_weight: float = 0.0
    teacher_loss: TeacherLoss = "cosine"
    xtr_weight: float = 1.0
    xtr_every: int = 1
    xtr_one_in: int = 1
    contrastive_weight: float = 2.0
    temperature: float = 0.1
    contrastive_margin: float = 0.0
    hardness: float = 0.0
    learn_temperature: bool = False
    mask_duplicates: bool = True
    several_positives: bool = False
    matryoshka: tuple[int, ...] = ()
    matryoshka_weight: float = 0.1
    slice_tokens: int | None = None
    impl: Impl | None = None

    def __post_init__(self) -> None:
        for name in ("xtr_weight", "contrastive_weight", "teacher_weight"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("xtr_every", "xtr_one_in"):
            value = getattr(self, name)
            check(value >= 1, name, value, "at least 1")
            for weight in ("xtr_weight", "contrastive_weight"):
                if value > 1 and not getattr(self, weight):
                    # Without the contrastive loss a step might have none at all.
                    raise InputError(f"{name}: got {value}, but {weight} is 0")
        check_one_of("teacher_loss", self.teacher_loss, get_args(TeacherLoss))
        if not self.xtr_weight + self.contrastive_weight + self.teacher_weight > 0:
            raise InputError("xtr_weight, contrastive_weight: both are 0, expected one above")
        slices = self.slice_tokens
        check(slices is None or slices >= 1, "slice_tokens", slices, "1 or more, or None")
        check(self.temperature > 0, "temperature", self.temperature, "more than 0")
        margin = self.contrastive_margin
        check(0 <= margin < 1, "contrastive_margin", margin, "0 or more and less than 1")
        check(0 <= self.hardness < math.inf, "hardness", self.hardness, "0 or more and finite")
        widths = self.matryoshka
        ascending = all(x < y for x, y in itertools.pairwise((0, *widths)))
        check(ascending, "matryoshka", widths, "ascending widths of 1 or more")
        narrow = self.matryoshka_weight
        check(0 < narrow < math.inf, "matryoshka_weight", narrow, "more than 0 and finite")
        self._check_together()

    def _check_together(self) -> None:
        for name in ("hardness", "learn_temperature", "several_positives", "matryoshka"):
            if getattr(self, name) and not self.contrastive_weight:
                raise InputError(
                    f"{name}: got {getattr(self, name)}, an option of the contrastive loss, but "
                    "contrastive_weight is 0"
                )
        if self.several_positives and not self.mask_duplicates:
            raise InputError(
                "several_positives: got True with mask_duplicates=False, expected one of them: "
                "duplicates attract, or are negatives"
            )
        if self.learn_temperature:
            wanted = f"more than {LEAST_TEMPERATURE} where it is learnt"
            check(self.temperature > LEAST_TEMPERATURE, "temperature", self.temperature, wanted)

    def check_model(self, model: ModelConfig) -> None:
        """Raise `InputError` unless `model` has what these objectives train."""
        if self.xtr_weight and not model.reconstruction:
            raise InputError(
                f"xtr_weight: got {self.xtr_weight}, but the model has no XTR head; pass "
                "xtr_weight=0, or a model with reconstruction=True"
            )
        if self.matryoshka and model.projection_width:
            raise InputError(
                f"matryoshka: got {self.matryoshka}, but this model has its contrastive loss on a "
                "projection, not on the embedding; train one with projection_width=0"
            )
        if self.matryoshka:
            wanted = f"less than the model's width {model.width}"
            check(self.matryoshka[-1] < model.width, "matryoshka", self.matryoshka, wanted)

    def reconstructed(self, step: int) -> slice:
        """Which of a batch's sentences, sources and then targets, XTR starts from in a step.

        Within ``xtr_every · xtr_one_in`` steps every place in a batch has its turn once.
        """
        turn, rest = divmod(step, self.xtr_every)
        if rest or not self.xtr_weight:
            return slice(0)
        return slice(turn % self.xtr_one_in, None, self.xtr_one_in)

    @property
    def reconstructs_all(self) -> bool:
        """Whether XTR starts from every sentence."""
        return self.xtr_weight > 0 and self.xtr_every == self.xtr_one_in == 1

    def impl_for(self, device: torch.device) -> Impl:
        """The implementation that runs on `device`."""
        return self.impl or ("fused" if fused_runs_on(device) else "reference")


def learnt_temperature(model: EMSModel) -> Tensor | None:
    """The temperature that is trained with `model`, a scalar; None if there is none."""
    raised: Tensor | None = getattr(model, "log_temperature", None)
    return None if raised is None else LEAST_TEMPERATURE + raised.exp().squeeze(0)


class Losses(NamedTuple):
    """Scalars; `total` is what is minimised."""

    total: Tensor
    xtr: Tensor
    contrastive: Tensor


class Objective(nn.Module):
    """The model with its loss: what a trainer differentiates, and what DDP wraps.

    A learnt temperature becomes a parameter of the model, and is optimised and saved with it.
    """

    def __init__(self, model: EMSModel, config: ObjectiveConfig | None = None):
        super().__init__()
        self.model = model
        self.config = config or ObjectiveConfig()
        self.config.check_model(model.config)
        if self.config.learn_temperature:
            above = torch.tensor([self.config.temperature - LEAST_TEMPERATURE]).log()
            device = next(model.parameters()).device
            model.log_temperature = nn.Parameter(above.to(device))

    def forward(self, batch: Batch) -> Losses:
        """The losses of B pairs.

        XTR is ``KL(q_T ‖ p(·|S, t)) + KL(q_S ‖ p(·|T, s))`` averaged over pairs; both directions
        are rows of one product with the output embedding. With bags of words of some sentences only
        it is an estimate, whose mean over steps is that.
        """
        model, config = self.model, self.config
        impl = config.impl_for(batch.source_hashes.device)
        u = self._embed(batch.sentences)  # (2B, D): sources, then targets
        xtr = contrastive = u.new_zeros(())
        if config.xtr_weight and len(batch.targets):
            hidden = model.xtr_head(*batch.with_targets(u, batch.target_languages))
            one_direction = xtr_loss(hidden, model.output, batch.targets, impl=impl)
            # Its sum over some sentences, weighted → the mean over 2B of them in expectation.
            share = len(batch.targets) / len(u)
            scale = share * config.xtr_one_in * config.xtr_every
            xtr = 2.0 * scale * one_direction  # → mean over B pairs of both KLs
        if config.contrastive_weight:
            a, b = model.contrastive_head(u).chunk(2)  # 2 × (B, E)
            learnt = learnt_temperature(model)
            temperature = config.temperature if learnt is None else learnt
            contrastive = contrastive_loss(
                gather_rows(a), gather_rows(b), temperature=temperature,
                source_ids=gather_rows(batch.source_hashes) if config.mask_duplicates else None,
                target_ids=gather_rows(batch.target_hashes) if config.mask_duplicates else None,
                margin=config.contrastive_margin, hardness=config.hardness,
                several_positives=config.several_positives, matryoshka=config.matryoshka,
                matryoshka_weight=config.matryoshka_weight, impl=impl,
            )  # fmt: skip
        total = config.xtr_weight * xtr + config.contrastive_weight * contrastive
        if config.teacher_weight:
            assert batch.teacher is not None
            taught = model.teacher_head(u)  # (2B, W)
            distance = teacher_loss(taught, batch.teacher, config.teacher_loss)
            total = total + config.teacher_weight * distance
        return Losses(total, xtr.detach(), contrastive.detach())

    def _embed(self, sentences: Packed) -> Tensor:
        """Embeddings [B, D]; with `slice_tokens`, keeping nothing but them for backward.

        Losses over the whole batch need its embeddings at once, not its activations (Gao et al.,
        "Scaling deep contrastive learning batch size under memory limited setup", 2021).
        """
        encoder, tokens = self.model.encoder, self.config.slice_tokens
        if tokens is None:
            embeddings: Tensor = encoder(sentences)
            return embeddings
        # Dropout draws the same random numbers again: checkpoint keeps the generators' states.
        slices = [
            checkpoint(encoder, part, use_reentrant=False) for part in sentences.split(tokens)
        ]
        return torch.cat(slices).index_select(0, sentences.order)

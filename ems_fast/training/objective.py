"""The training loss of a batch of pairs: XTR in both directions plus the contrastive term."""

from __future__ import annotations

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
from ems_fast.ops import contrastive_loss, xtr_loss
from ems_fast.ops.impl import Impl, fused_runs_on
from ems_fast.training.batches.batch import Batch
from ems_fast.training.teacher import TeacherLoss, teacher_loss


@dataclass(frozen=True)
class ObjectiveConfig:
    """Weights and options of the two objectives; defaults as in the paper (section 3.3).

    Attributes:
        teacher_weight: weight of the distance to a teacher's vectors; 1 by default where
            there is a teacher.
        teacher_loss: that distance: ``cosine``, 1 − cosine, or ``mse``, the mean squared error.
        xtr_weight: weight of the reconstruction loss.
        contrastive_weight: weight of the contrastive loss.
        temperature: τ of the contrastive loss.
        contrastive_margin: what a pair's cosine has to win by: it is subtracted in the loss.
        mask_duplicates: pairs of the batch with the same source or target text are not negatives
            of each other.
        slice_tokens: encode the batch in slices of at most so many tokens and encode each again in
            backward, so that memory bounds a slice and not the batch: the same gradients for about
            a third more time. By default the batch is encoded at once.
        impl: ``fused``, ``reference`` or ``compiled``, for both; by default ``fused`` on
            devices that have kernels and ``reference`` on others.
    """

    teacher_weight: float = 0.0
    teacher_loss: TeacherLoss = "cosine"
    xtr_weight: float = 1.0
    contrastive_weight: float = 2.0
    temperature: float = 0.1
    contrastive_margin: float = 0.0
    mask_duplicates: bool = True
    slice_tokens: int | None = None
    impl: Impl | None = None

    def __post_init__(self) -> None:
        for name in ("xtr_weight", "contrastive_weight", "teacher_weight"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        check_one_of("teacher_loss", self.teacher_loss, get_args(TeacherLoss))
        if not self.xtr_weight + self.contrastive_weight + self.teacher_weight > 0:
            raise InputError("xtr_weight, contrastive_weight: both are 0, expected one above")
        slices = self.slice_tokens
        check(slices is None or slices >= 1, "slice_tokens", slices, "1 or more, or None")
        check(self.temperature > 0, "temperature", self.temperature, "more than 0")
        margin = self.contrastive_margin
        check(0 <= margin < 1, "contrastive_margin", margin, "0 or more and less than 1")

    def check_model(self, model: ModelConfig) -> None:
        """Raise `InputError` unless `model` has what these objectives train."""
        if self.xtr_weight and not model.reconstruction:
            raise InputError(
                f"xtr_weight: got {self.xtr_weight}, but the model has no XTR head; pass "
                "xtr_weight=0, or a model with reconstruction=True"
            )

    def impl_for(self, device: torch.device) -> Impl:
        """The implementation that runs on `device`."""
        return self.impl or ("fused" if fused_runs_on(device) else "reference")


class Losses(NamedTuple):
    """Scalars; `total` is what is minimised."""

    total: Tensor
    xtr: Tensor
    contrastive: Tensor


class Objective(nn.Module):
    """The model with its loss: what a trainer differentiates, and what DDP wraps."""

    def __init__(self, model: EMSModel, config: ObjectiveConfig | None = None):
        super().__init__()
        self.model = model
        self.config = config or ObjectiveConfig()
        self.config.check_model(model.config)

    def forward(self, batch: Batch) -> Losses:
        """The losses of B pairs.

        XTR is ``KL(q_T ‖ p(·|S, t)) + KL(q_S ‖ p(·|T, s))`` averaged over pairs; both directions
        are rows of one product with the output embedding.
        """
        model, config = self.model, self.config
        impl = config.impl_for(batch.source_hashes.device)
        u = self._embed(batch.sentences)  # (2B, D): sources, then targets
        xtr = contrastive = u.new_zeros(())
        if config.xtr_weight:
            hidden = model.xtr_head(u, batch.target_languages)
            one_direction = xtr_loss(hidden, model.output, batch.targets, impl=impl)
            xtr = 2.0 * one_direction  # mean over 2B sentences → mean over B pairs of both KLs
        if config.contrastive_weight:
            a, b = model.contrastive_head(u).chunk(2)  # 2 × (B, E)
            contrastive = contrastive_loss(
                gather_rows(a), gather_rows(b), temperature=config.temperature,
                source_ids=gather_rows(batch.source_hashes) if config.mask_duplicates else None,
                target_ids=gather_rows(batch.target_hashes) if config.mask_duplicates else None,
                margin=config.contrastive_margin, impl=impl,
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

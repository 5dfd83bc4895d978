"""The optimisers of a model's parts, stepped as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ems_fast.errors import InputError
from ems_fast.model.ems import EMSModel
from ems_fast.training.adagrad import RowwiseAdagrad

Kind = Literal["adamw", "adam-amsgrad", "rowwise-adagrad", "muon"]


class Part(NamedTuple):
    """Parameters that one optimiser steps at one learning rate, the peak of its schedule."""

    parameters: list[nn.Parameter]
    kind: Kind
    learning_rate: float


class Parameters(NamedTuple):
    """A model's parameters by part.

    Attributes:
        table: the token vectors.
        matrices: those of the layers.
        vectors: what else the encoder has, its table of positions among it.
        heads: what only training needs, an output embedding of its own among it.
    """

    table: list[nn.Parameter]
    matrices: list[nn.Parameter]
    vectors: list[nn.Parameter]
    heads: list[nn.Parameter]

    @classmethod
    def of(cls, model: EMSModel) -> Parameters:
        """Those of `model`, each once."""
        encoder = model.encoder
        table: list[nn.Parameter] = [encoder.tokens.weight]  # type: ignore[list-item]
        matrices = [p for p in encoder.layers.parameters() if p.dim() == 2]
        known = {*map(id, table + matrices)}
        vectors = [p for p in encoder.parameters() if id(p) not in known]
        known |= {*map(id, vectors)}
        return cls(table, matrices, vectors, [p for p in model.parameters() if id(p) not in known])


class Muon(torch.optim.Muon):
    """Momentum made orthogonal by Newton-Schulz steps (Jordan et al., 2024), for matrices.

    Updates are as large as AdamW's are (Liu et al., "Muon is scalable for LLM training", 2025), so
    that one learning rate fits both. Steps are left out where `found_inf`, a scalar tensor that a
    trainer may set, is not 0.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Any, lr: float, *, weight_decay: float):
        super().__init__(
            params, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )  # fmt: skip

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step."""
        if self.found_inf is not None and bool(self.found_inf):
            return None
        return super().step(closure)  # type: ignore[no-untyped-call]


class PartOptimizers:
    """One optimiser for each kind among `parts`, with a group of parameters for each part.

    Args:
        parts: empty ones are passed over.
        weight_decay: of all of them.
    """

    def __init__(self, parts: Sequence[Part], weight_decay: float):
        self._optimizers: list[torch.optim.Optimizer] = []
        self._peaks: list[list[float]] = []
        for kind in dict.fromkeys(part.kind for part in parts):
            mine = [part for part in parts if part.kind == kind and part.parameters]
            if mine:
                groups = [{"params": parameters, "lr": rate} for parameters, _, rate in mine]
                self._optimizers.append(_optimizer(kind, groups, weight_decay))
                self._peaks.append([part.learning_rate for part in mine])

    def __iter__(self) -> Iterator[torch.optim.Optimizer]:
        return iter(self._optimizers)

    def schedule(self, factor: float) -> None:
        """Set every learning rate to `factor` times its peak."""
        for optimizer, peaks in zip(self._optimizers, self._peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    def step(self, bad: Tensor | None = None) -> None:
        """Step all parts, or none where the scalar `bad` is not 0, weights and state alike."""
        for optimizer in self._optimizers:
            # Fused optimisers read it on the device.
            optimizer.found_inf = bad  # type: ignore[attr-defined]
            optimizer.step()

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """For `load_state_dict`; of one optimiser its own."""
        states = [optimizer.state_dict() for optimizer in self._optimizers]
        return states[0] if len(states) == 1 else {"parts": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; learning rates stay ours.

        Raises:
            InputError: it is that of other optimisers or other parts.
        """
        try:
            for optimizer, own in zip(self._optimizers, state.get("parts", [state]), strict=True):
                optimizer.load_state_dict(own)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"optimizer: the checkpoint is of another one ({error}); resume the run with the "
                "optimizer it was begun with"
            ) from error


def _optimizer(
    kind: Kind, groups: list[dict[str, Any]], weight_decay: float
) -> torch.optim.Optimizer:
    """Over `groups`, which have their learning rates."""
    rate = groups[0]["lr"]
    if kind == "rowwise-adagrad":
        return RowwiseAdagrad(groups, lr=rate, weight_decay=weight_decay)
    if kind == "muon":
        return Muon(groups, lr=rate, weight_decay=weight_decay)
    amsgrad = kind == "adam-amsgrad"
    cls = torch.optim.Adam if amsgrad else torch.optim.AdamW
    return cls(groups, lr=rate, weight_decay=weight_decay, amsgrad=amsgrad, fused=True)

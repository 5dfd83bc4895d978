"""AdaGrad with one accumulator a row: the optimiser of token tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from ems_fast.ops.adagrad import adagrad_rows


class RowwiseAdagrad(torch.optim.Optimizer):
    """AdaGrad (Duchi et al., 2011) whose step size is a row's own, not a coordinate's.

    For row r of a parameter with gradient g: ``s_r += mean(g_r²)``, then
    ``w_r -= lr · (g_r / (√s_r + eps) + weight_decay · w_r)``. Rows whose gradient is zero stay as
    they are, decay included; of a sparse gradient only its rows are visited, so a step costs what
    the batch touches and not what the table holds. The state is one number a row. A frequent
    token's steps shrink as it is seen, a rare one's stay large: what a table of words needs.

    Steps are left out where `found_inf`, a scalar tensor that a trainer may set, is not 0.

    Args:
        params: of any shape; the rows of a vector are its elements.
        lr: the step size.
        weight_decay: decoupled, in units of `lr`.
        eps: against division by zero.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        weight_decay: float = 0.0,
        eps: float = 1e-10,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; `closure`, if given, computes the loss first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.found_inf is not None and bool(self.found_inf):
            return loss
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["sum"] = weight.new_zeros(len(weight), dtype=torch.float32)
                self._update(weight, weight.grad, state["sum"], group)
        return loss

    @staticmethod
    def _update(weight: Tensor, gradient: Tensor, total: Tensor, group: dict[str, Any]) -> None:
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
        else:
            touched = gradient.reshape(len(weight), -1).any(dim=1)
            rows = touched.nonzero()[:, 0]
            values = gradient[rows]
        adagrad_rows(
            weight.view(len(weight), math.prod(weight.shape[1:])),
            total,
            rows,
            values.reshape(len(rows), -1),
            lr=group["lr"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )

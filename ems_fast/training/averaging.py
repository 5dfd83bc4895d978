"""The moving average of a model's weights, which is scored and saved instead of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ems_fast.model.ems import EMSModel


class MovingAverage:
    """After every step, ``a ← decay · a + (1 − decay) · w`` (Polyak and Juditsky, 1992).

    A row of a token table that no batch touches stays as it is, so what n steps do to its average
    is known: ``a ← w + (a − w) · decayⁿ``. Where gradients are those of single rows, that is made
    up for when a row is touched, so that a step costs what the batch touches and not what the
    table holds.

    Args:
        model: whose weights are averaged, from their present values on.
        decay: above 0 and below 1.
    """

    def __init__(self, model: EMSModel, decay: float):
        self._decay = decay
        self._table = model.encoder.tokens.weight
        self._weights = dict(model.named_parameters())
        self._averages = {name: w.detach().clone() for name, w in self._weights.items()}
        self._step = 0
        # Of every row of the table, the step that its average is of.
        self._upto = torch.zeros(len(self._table), dtype=torch.int64, device=self._table.device)
        self._rows: Tensor | None = None

    @torch.no_grad()
    def before_step(self) -> None:
        """Make up for the steps that passed over the rows which are about to change."""
        gradient = self._table.grad
        self._rows = None
        if gradient is not None and gradient.is_sparse:
            self._table.grad = gradient = gradient.coalesce()
            self._rows = rows = gradient.indices()[0]
            self._table_average[rows] = self._caught_up(rows)
            self._upto[rows] = self._step

    @torch.no_grad()
    def after_step(self) -> None:
        """Take the weights as they are now into the average."""
        self._step += 1
        for name, weight in self._weights.items():
            average, rows = self._averages[name], self._rows
            if weight is not self._table or rows is None:
                average.lerp_(weight, 1.0 - self._decay)
            else:
                average[rows] = average[rows].lerp(weight[rows], 1.0 - self._decay)
        if self._rows is None:
            self._upto.fill_(self._step)
        else:
            self._upto[self._rows] = self._step

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages while the block runs."""
        before = {name: weight.detach().clone() for name, weight in self._weights.items()}
        with torch.no_grad():
            # The average itself stays as it is: scoring changes nothing of a run.
            table = self._caught_up(slice(None))
            for name, weight in self._weights.items():
                weight.copy_(table if weight is self._table else self._averages[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, weight in self._weights.items():
                    weight.copy_(before[name])

    def state_dict(self) -> dict[str, Any]:
        """For `load_state_dict`."""
        return {"averages": self._averages, "upto": self._upto, "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for name, average in self._averages.items():
            average.copy_(state["averages"][name])
        self._upto.copy_(state["upto"])
        self._step = state["step"]

    def restart(self) -> None:
        """Begin anew from the present weights."""
        self.load_state_dict(
            {
                "averages": {name: w.detach() for name, w in self._weights.items()},
                "upto": torch.zeros_like(self._upto),
                "step": 0,
            }
        )

    @property
    def _table_average(self) -> Tensor:
        return next(self._averages[n] for n, w in self._weights.items() if w is self._table)

    def _caught_up(self, rows: Tensor | slice) -> Tensor:
        """The average of these rows as of now; their weights have not changed since theirs."""
        weight, average = self._table[rows], self._table_average[rows]
        passed = (self._step - self._upto[rows]).double()
        kept = torch.pow(self._decay, passed).to(weight.dtype)
        return weight + (average - weight) * kept[:, None]

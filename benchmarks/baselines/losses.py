"""What the fused kernels are measured against: named by what they compute."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast import BagOfWords


def three_products(hidden: Tensor, weight: Tensor, out: tuple[Tensor, Tensor, Tensor]) -> None:
    """The floor of XTR: logits and both gradients as bare products into existing memory."""
    logits, of_hidden, of_weight = out
    torch.mm(hidden, weight.T, out=logits)
    torch.mm(logits, weight, out=of_hidden)
    torch.mm(logits.T, hidden, out=of_weight)


def entry_rows(targets: BagOfWords) -> Tensor:
    """The row of every entry of the targets."""
    return torch.repeat_interleave(torch.arange(len(targets)), targets.indptr.diff())


def dense_label_kl_div(hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
    """A dense [B, V] label by `scatter_add_` from ids [B, K], log_softmax and kl_div.

    The released formulation without its loop over rows.
    """
    label = torch.zeros(hidden.shape[0], weight.shape[0], device=hidden.device)
    label.scatter_add_(1, ids, torch.full(ids.shape, 1 / ids.shape[1], device=hidden.device))
    logits = hidden @ weight.T
    return torch.nn.functional.kl_div(logits.float().log_softmax(1), label, reduction="batchmean")


def logits_logsumexp_gather(hidden: Tensor, weight: Tensor, targets: BagOfWords) -> Tensor:
    """Dense logits, but sparse targets."""
    logits = (hidden @ weight.T).float()
    rows, q = entry_rows(targets), targets.weights
    dot = (q * logits[rows, targets.indices]).sum()
    mass = torch.zeros(len(targets)).index_add_(0, rows, q)
    entropy = torch.xlogy(q, q).sum()
    return (entropy + (mass * logits.logsumexp(1)).sum() - dot) / len(targets)


def linear_cross_entropy_hard_labels(
    hidden: Tensor, weight: Tensor, labels: Tensor, rows_per_chunk: int
) -> Tensor:
    """PyTorch's own chunked op with one class per row: the same products, a simpler target.

    Its own choice of a chunk is a few rows when V ≫ D, so it is given a good one.
    """
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=rows_per_chunk)
    return torch.nn.functional.linear_cross_entropy(hidden, weight, labels, options=options)

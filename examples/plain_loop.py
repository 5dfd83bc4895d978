"""`xtr_loss` in a plain torch loop: any encoder, any bag of words.

python examples/plain_loop.py [--steps 100]
"""

from __future__ import annotations

import argparse

import torch

from ems_fast import BagOfWords, xtr_loss

B, T, D, V = 64, 12, 32, 1000  # sentences, tokens of a sentence, width, vocabulary


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    embed = torch.nn.EmbeddingBag(V, D)  # stands for your encoder: token ids to one vector
    output = torch.nn.Parameter(torch.randn(V, D) / D**0.5)
    optimizer = torch.optim.Adam([*embed.parameters(), output], lr=0.01)
    translation = torch.randperm(V)  # of every word
    for step in range(steps):
        source, lengths = torch.randint(V, (B, T)), torch.randint(1, T + 1, (B,))
        starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)[:-1]])
        packed = source[torch.arange(T) < lengths[:, None]]  # [N]
        targets = BagOfWords.from_padded(translation[source], lengths, vocab_size=V)
        loss = xtr_loss(embed(packed, starts), output, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()

"""What XTR on some steps and sentences costs a token table, beside the table's step without it.

    python benchmarks/profile_sampled_xtr.py CORPUS [--sample 32,16 1,1] [--rounds 5]

CORPUS is a folder made by ``ems-fast prepare``; a sample is ``xtr_every,xtr_one_in``. All ways run
in turns, on the same batches; a round of a way is as many steps as the rarest XTR has between two.
Times are of the processor, all threads together, which a busy machine changes less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from itertools import islice
from pathlib import Path

import torch

from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.config import preset
from ems_fast.model.ems import EMSModel
from ems_fast.training import split_options
from ems_fast.training.batches import batch_stream
from ems_fast.training.objective import Objective
from ems_fast.training.recommended import recommended_options

CPU = Ranks(0, 1, torch.device("cpu"))


class Way:
    """Steps of the trainer; the time of the thread that makes batches counts."""

    def __init__(self, corpus: BinaryCorpus, every: int, one_in: int, batch_pairs: int):
        self.every = every
        languages = tuple(corpus.languages)
        config = preset(
            "static", vocab_size=corpus.vocab_size, languages=languages, reconstruction=every > 0
        )
        options = recommended_options(config) | {"batch_pairs": batch_pairs}
        if every:
            options |= {"xtr_every": every, "xtr_one_in": one_in}
        self.options = split_options(options)
        model = EMSModel(config)
        model.encoder.sparse_gradient = True
        self.objective = Objective(model, self.options.objective)
        self.optimizer = self.options.optimizer.build(model)
        self.dtype = self.options.optimizer.autocast_dtype(CPU.device)
        self.batches = batch_stream(
            corpus, self.options.batches, CPU, targets=self.options.objective.reconstructed
        )

    def run(self, steps: int) -> float:
        """Seconds of the processor a step."""
        begun = time.process_time()
        for batch, _ in islice(self.batches, steps):
            with torch.autocast(
                "cpu", dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None
            ):
                losses = self.objective(batch)
            losses.total.backward()
            self.optimizer.schedule(1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return (time.process_time() - begun) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--sample", nargs="+", default=["32,16", "16,16", "16,64"])
    parser.add_argument("--batch-pairs", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    corpus = BinaryCorpus.open(arguments.corpus)
    samples = ["0,0", *arguments.sample]
    ways = {s: Way(corpus, *map(int, s.split(",")), arguments.batch_pairs) for s in samples}
    period = max(way.every for way in ways.values())
    times: dict[str, list[float]] = {name: [] for name in ways}
    for round in range(arguments.rounds + 1):
        for name, way in ways.items():
            seconds = way.run(period)
            if round:  # the first warms up
                times[name].append(seconds)
    print(
        f"{'every,one in':<14}{'ms a step':>10}{'beside none':>13}   V {corpus.vocab_size:,}, "
        f"{arguments.batch_pairs} pairs, {torch.get_num_threads()} threads"
    )
    for name, found in times.items():
        ratio = statistics.median(own / none for own, none in zip(found, times["0,0"], strict=True))
        told = "none" if name == "0,0" else name
        print(f"{told:<14}{1e3 * statistics.median(found):>10.1f}{ratio:>12.2f}x")
    for way in ways.values():
        way.batches.close()


if __name__ == "__main__":
    main()

"""The training loop."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.errors import InputError
from ems_fast.evaluation import EvalSet
from ems_fast.model.ems import EMSModel
from ems_fast.reporting import write_report
from ems_fast.runs.folder import RunFolder
from ems_fast.training.averaging import MovingAverage
from ems_fast.training.batches import batch_stream
from ems_fast.training.batches.batch import Batch
from ems_fast.training.clipping import clip_gradients
from ems_fast.training.console import Console
from ems_fast.training.memory import memory_errors
from ems_fast.training.nonfinite import NonfiniteGuard, Skipped, require_finite_weights
from ems_fast.training.objective import Objective, learnt_temperature
from ems_fast.training.options import TrainOptions
from ems_fast.training.schedule import learning_rate_factor
from ems_fast.training.teacher import TeacherArray
from ems_fast.training.trackers import Following
from ems_fast.training.validation import Scores, score


@dataclass
class Progress:
    """How far a run has come; everything here is in the checkpoint.

    Attributes:
        step: optimiser steps done.
        pairs: pairs seen, over all ranks.
        seconds: wall-clock time spent in the loop.
        evaluations: evaluations done.
        best: held-out accuracy of the saved model, None before the first evaluation.
        since_best: evaluations since the last that was better than all before.
        scored: the step of the last evaluation; a run that is resumed at its end is scored again.
        sampler: the sampler's state, None at the start.
        skipped: steps whose loss or gradient was not finite.
    """

    step: int = 0
    pairs: int = 0
    seconds: float = 0.0
    evaluations: int = 0
    best: float | None = None
    since_best: int = 0
    scored: int | None = None
    sampler: dict[str, Any] | None = None
    skipped: Skipped = field(default_factory=Skipped)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Progress:
        """What `asdict` made of one.

        Raises:
            TypeError, ValueError: it is none.
        """
        found = cls(**{**state, "skipped": Skipped(**state.get("skipped", {}))})
        numbers = (found.step, found.pairs, found.evaluations, found.since_best)
        times = (found.seconds, 0.0 if found.best is None else found.best)
        sampler = found.sampler or {"consumed": []}
        consumed = [sampler.get("pool", 0), sampler.get("batch", 0), *sampler["consumed"]]
        if not (
            all(type(number) is int and 0 <= number < 2**62 for number in (*numbers, *consumed))
            and all(isinstance(number, (int, float)) for number in times)
        ):
            raise ValueError(f"its progress is {state}")
        return found


@dataclass
class Meter:
    """Sums since the last line of the log; tensors stay on the device until it is written."""

    steps: int = 0
    pairs: int = 0
    tokens: int = 0
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    losses: torch.Tensor | None = None

    def add(self, batch: Batch, losses: torch.Tensor, waited: float, world: int) -> None:
        """Count a step; of a skipped one, nothing of `losses` but its flag."""
        self.steps += 1
        self.pairs += batch.num_pairs * world
        self.tokens += batch.num_tokens * world
        self.waited += waited
        values, bad = losses[:-1], losses[-1:]
        losses = torch.cat([values.masked_fill(bad > 0, 0.0), bad])
        self.losses = losses if self.losses is None else self.losses + losses


@dataclass(eq=False)
class Trainer:
    """Trains one model, on its device.

    `teacher` are the vectors [n, W] that the pairs are to learn, if there are such. `scores` are
    those of the last evaluation, on `eval_sets`; `following` is told all figures; `interrupted` is
    set if the user stops the run before its end.
    """

    folder: RunFolder
    corpus: BinaryCorpus
    model: EMSModel
    options: TrainOptions
    ranks: Ranks
    eval_sets: Sequence[EvalSet]
    console: Console
    teacher: TeacherArray | None = None
    following: Following = field(default_factory=lambda: Following(()))
    scores: Scores = field(default=Scores(), init=False)
    interrupted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        model, options, ranks = self.model, self.options, self.ranks
        objective = Objective(model, options.objective)  # may add a parameter to the model
        self.optimizer = options.optimizer.build(model)
        # Ranks average dense gradients.
        model.encoder.sparse_gradient = options.optimizer.steps_touched_rows and ranks.world == 1
        ema = options.optimizer.ema
        self.average = None if ema is None else MovingAverage(model, ema)
        self.autocast_dtype = options.optimizer.autocast_dtype(ranks.device)
        self.guard = NonfiniteGuard(
            self.folder, self.corpus, options.nonfinite, ranks, self.console.say
        )
        self.progress = Progress(skipped=self.guard.skipped)
        self._rate_factor = 0.0
        self.objective: torch.nn.Module = objective
        if ranks.world > 1:
            self.objective = DistributedDataParallel(
                objective,
                device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
                # A head whose loss has no weight, or no turn in a step, gets no gradient.
                find_unused_parameters=not (
                    options.objective.reconstructs_all and options.objective.contrastive_weight
                ),
            )

    # -- state -----------------------------------------------------------------------------------

    def restore(self) -> None:
        """Go on from the last checkpoint, or from the start if the run was killed before one."""
        if not self.folder.is_unbegun():
            state = self.folder.read_checkpoint()
            try:
                self.model.load_state_dict(state["model"])
                self.optimizer.load_state_dict(state["optimizer"])
                if self.average is not None and "average" in state:
                    self.average.load_state_dict(state["average"])
                elif self.average is not None:  # it is asked for from here on
                    self.average.restart()
                self.progress = Progress.from_state(state["progress"])
            except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
                raise InputError(
                    f"{self.folder.checkpoint}: is not a checkpoint of this run "
                    f"({' '.join(str(error).split())})"
                ) from error
            self.guard.skipped = self.progress.skipped
        if self.ranks.main:
            self.folder.forget_after(self.progress.step)

    def save_checkpoint(self) -> None:
        """Write everything that `restore` needs, atomically."""
        require_finite_weights(self.model, self.progress.step)
        if self.ranks.main:
            state = {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": asdict(self.progress),
            }
            if self.average is not None:
                state["average"] = self.average.state_dict()
            self.folder.write_checkpoint(state)
        self.ranks.barrier()

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train until a limit is reached or the user interrupts; then save and score."""
        progress, reporting = self.progress, self.options.reporting
        if progress.step == 0:  # a run can be resumed from its beginning on, and a full disk shows
            self.save_checkpoint()
        done, begun_at = self._done(0.0), progress.step
        batches = batch_stream(
            self.corpus, self.options.batches, self.ranks, progress.sampler,
            targets=lambda number: self.options.objective.reconstructed(begun_at + number),
            teacher=self.teacher,
        )  # fmt: skip
        earlier, begun = progress.seconds, time.perf_counter()
        next_checkpoint = begun + 60 * reporting.checkpoint_minutes
        meter = Meter()
        patient = True
        self.model.train()
        with contextlib.closing(batches), self._catching_interrupts(), self.console.bar():
            while done < 1.0 and not self.interrupted:
                asked = time.perf_counter()
                batch, sampler = next(batches)
                waited = time.perf_counter() - asked
                with memory_errors(progress.step + 1, batch, self.options.objective.slice_tokens):
                    losses = self._step(batch.to(self.ranks.device), done)
                progress.step += 1
                progress.pairs += batch.num_pairs * self.ranks.world
                progress.sampler = sampler
                meter.add(batch, losses, waited, self.ranks.world)
                self.guard.watch(progress.step, batch, losses)
                if progress.step % reporting.log_steps == 0:
                    self._log(meter, done)
                    meter = Meter()
                now = time.perf_counter()
                done, stop, save = self.ranks.agree(
                    [
                        self._done(earlier + now - begun),
                        float(self.interrupted),
                        float(now >= next_checkpoint),
                    ]
                )
                self.interrupted = bool(stop)
                self.console.update(done, progress)
                evaluations = math.floor(done * reporting.evaluations)
                due = evaluations > progress.evaluations
                saving = save and not self.interrupted
                if saving or due or self.interrupted or done >= 1.0:
                    self.guard.settle()
                if due and done < 1.0:
                    progress.evaluations = evaluations
                    self._evaluate(done)
                    meter = Meter()
                    patient = not self._out_of_patience()
                    if not patient:
                        break
                if saving:
                    self.save_checkpoint()
                    next_checkpoint = time.perf_counter() + 60 * reporting.checkpoint_minutes
            progress.seconds = earlier + time.perf_counter() - begun
        if self.interrupted:
            self.save_checkpoint()
            self.console.say(f"Interrupted; {self.folder.path} is saved and can be resumed.")
            if progress.best is None:
                self._evaluate(done)
        else:
            if patient:  # else the last evaluation was of these weights
                self._evaluate(done)
            self.save_checkpoint()
        return progress

    def _out_of_patience(self) -> bool:
        """Whether the run ends because its evaluations no longer get better."""
        patience = self.options.reporting.patience
        if patience is None:
            return False
        (waited,) = self.ranks.agree([float(self.progress.since_best)])  # the main rank's
        if waited < patience:
            return False
        self.console.say(f"No better for {patience} evaluations: the run ends here.")
        return True

    def _done(self, seconds: float) -> float:
        progress = self.progress
        progress.seconds = max(seconds, progress.seconds)
        epochs = progress.pairs / self.corpus.num_pairs
        return self.options.limits.progress(progress.step, epochs, progress.seconds / 60)

    def _step(self, batch: Batch, done: float) -> torch.Tensor:
        """One step; returns (total, xtr, contrastive, gradient norm, flag) [5] without waiting.

        The flag is 1 where loss or gradient is not finite: then the weights are as before.
        """
        config = self.options.optimizer
        # Dropout's random numbers depend on seed, step and rank alone: resuming needs no state.
        seed = hash((self.options.batches.seed, self.progress.step, self.ranks.rank))
        torch.manual_seed(seed & (2**63 - 1))
        self._rate_factor = learning_rate_factor(
            self.progress.step,
            done,
            schedule=config.schedule,
            warmup_steps=config.warmup_steps,
            warmup_fraction=config.warmup_fraction,
        )
        self.optimizer.schedule(self._rate_factor)
        with torch.autocast(
            self.ranks.device.type,
            dtype=self.autocast_dtype or torch.bfloat16,
            enabled=self.autocast_dtype is not None,
        ):
            losses = self.objective(batch)
        losses.total.backward()
        norm = clip_gradients(self.model.parameters(), config.max_gradient_norm or math.inf)
        bad = self.guard.flag(losses.total, norm)
        if self.average is not None:
            self.average.before_step()
        self.optimizer.step(bad)
        if self.average is not None:
            self.average.after_step()
        self.optimizer.zero_grad()
        return torch.stack([losses.total.detach(), losses.xtr, losses.contrastive, norm, bad])

    def _log(self, meter: Meter, done: float) -> None:
        """Write the means since the last line; the only place that waits for the device."""
        assert meter.losses is not None
        self.guard.settle()
        *sums, skipped = meter.losses.tolist()
        if skipped == meter.steps:  # there is nothing to take a mean of
            return
        total, xtr, contrastive, norm = (value / (meter.steps - skipped) for value in sums)
        elapsed = time.perf_counter() - meter.started
        values = {
            "step": self.progress.step,
            "pairs": self.progress.pairs,
            "minutes": round(self.progress.seconds / 60, 3),
            "loss": total,
            "xtr": xtr,
            "contrastive": contrastive,
            "gradient_norm": norm,
            "learning_rate": self.options.optimizer.learning_rate * self._rate_factor,
            "pairs_per_second": meter.pairs / elapsed,
            "tokens_per_second": meter.tokens / elapsed,
            "waiting_for_data": meter.waited / elapsed,
        }
        temperature = learnt_temperature(self.model)
        if temperature is not None:
            values["temperature"] = temperature.item()
        objective = self.options.objective
        if objective.teacher_weight:
            others = objective.xtr_weight * xtr + objective.contrastive_weight * contrastive
            values["teacher"] = (total - others) / objective.teacher_weight
        if self.ranks.main:
            self.folder.log("train", **values)
            self.console.metrics(values)
            self.following.log("train", values, self.progress.step)

    # -- scoring ---------------------------------------------------------------------------------

    def _evaluate(self, done: float) -> None:
        """Score the model; keep it if none was better."""
        require_finite_weights(self.model, self.progress.step)
        averaged = contextlib.nullcontext() if self.average is None else self.average.in_place()
        if self.ranks.main:
            with averaged:
                self._score_and_keep(done)
        self.ranks.barrier()

    def _score_and_keep(self, done: float) -> None:
        """Score the model as it stands, and save it if none was better."""
        self.model.eval()
        encoder = SentenceEncoder(
            self.model.encoder, self.corpus.tokenizer, self.model.config, self.ranks.device
        )
        self.scores = scores = score(encoder, self.eval_sets)
        self.model.train()
        best = self.progress.best
        risen = best is None or scores.criterion > best
        if self.progress.scored != self.progress.step:
            self.progress.since_best = 0 if risen else self.progress.since_best + 1
            self.progress.scored = self.progress.step
        if best is None or scores.criterion >= best:
            self.progress.best = scores.criterion
            self.folder.write_weights(self.model.state_dict())
        values = {
            "step": self.progress.step,
            "pairs": self.progress.pairs,
            "minutes": round(self.progress.seconds / 60, 3),
            "done": round(min(done, 1.0), 4),
        }
        self.folder.log("evaluation", **values, accuracy=scores.averages, rows=scores.rows)
        write_report(self.folder)
        self.console.scores(self.progress, scores)
        self.following.log("evaluation", scores.averages, self.progress.step)

    @contextlib.contextmanager
    def _catching_interrupts(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the current step; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True

        before = {s: signal.signal(s, stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

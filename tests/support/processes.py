"""Training processes to be killed. They start in milliseconds: forks of one that imported all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from support.synthetic import TINY


@dataclass(frozen=True)
class Deed:
    """What one rank does to itself, once, before the step after `after`; `mark` remembers it.

    Attributes:
        kind: the name of a signal, or ``nan`` for a loss that is none.
        mark: a file.
    """

    kind: str
    mark: Path
    rank: int = 1
    after: int = 5

    def install(self) -> None:
        """From now on, the rank does it."""
        import torch

        from ems_fast.training.trainer import Trainer

        step = Trainer._step
        me = int(os.environ.get("RANK", "0")) == self.rank

        def patched(trainer: Any, batch: Any, done: float) -> Any:
            if me and trainer.progress.step == self.after and not self.mark.exists():
                self.mark.touch()
                if self.kind == "nan":
                    hook = trainer.objective.register_forward_hook(
                        lambda _, __, losses: losses._replace(total=losses.total * torch.nan)
                    )
                    losses = step(trainer, batch, done)
                    hook.remove()
                    return losses
                os.kill(os.getpid(), getattr(signal, self.kind))
            return step(trainer, batch, done)

        Trainer._step = patched


def train(
    corpus: str,
    run: str,
    deed: Deed | None = None,
    extends: Path | None = None,
    **options: Any,
) -> None:
    """Train, the tiny model unless told otherwise; an error is a line on stderr and exit code 2.

    With `extends`, extend that run by the text in `corpus`.
    """
    import torch

    import ems_fast

    torch.set_num_threads(1)
    if deed is not None:
        deed.install()
    try:
        options = {"device": "cpu", "progress": False, **options}
        if extends is not None:
            ems_fast.extend(extends, corpus, run, **options)
        else:
            options = {"model": ems_fast.ModelConfig(**TINY), **options}
            ems_fast.train(corpus, run, **options)
    except ems_fast.EmsError as error:
        print("ems-fast:", error, file=sys.stderr, flush=True)
        sys.exit(2)


def start(
    corpus: Path,
    run: Path,
    *,
    environment: dict[str, str] | None = None,
    stderr: Path | None = None,
    **options: Any,
) -> BaseProcess:
    """Start `train` in a process of its own, with its stderr in a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ems_fast", "support.processes"])
    # It imports from where it starts first, and the root holds the package without its kernels.
    before = os.getcwd()
    os.chdir(Path(__file__).parents[1])
    try:
        forkserver.ensure_running()
    finally:
        os.chdir(before)
    arguments = (str(corpus), str(run), environment or {}, str(stderr or os.devnull), options)
    process = context.Process(target=_run, args=arguments)
    process.start()
    return process


def _run(
    corpus: str, run: str, environment: dict[str, str], stderr: str, options: dict[str, Any]
) -> None:
    os.environ.update(environment)
    sys.stderr = open(stderr, "w")  # noqa: SIM115  it lives as long as the process
    train(corpus, run, **options)


def start_two(corpus: Path, run: Path, **options: Any) -> list[BaseProcess]:
    """Two ranks; see `start_ranks`."""
    return start_ranks(2, corpus, run, **options)


def start_ranks(world: int, corpus: Path, run: Path, **options: Any) -> list[BaseProcess]:
    """Ranks that nobody watches over, as on several machines; see `said` for their stderr."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        start(
            corpus,
            run,
            environment={**shared, "RANK": str(rank)},
            stderr=said(run, rank),
            **options,
        )
        for rank in range(world)
    ]


def said(run: Path, rank: int) -> Path:
    """Where the stderr of a rank of `start_ranks` goes."""
    return run.with_name(f"{run.name}.rank{rank}")


def join(*processes: BaseProcess, timeout: float = 60.0) -> list[int | None]:
    """Wait for all; their exit codes."""
    for process in processes:
        process.join(timeout=timeout)
    return [process.exitcode for process in processes]

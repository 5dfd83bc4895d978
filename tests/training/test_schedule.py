from __future__ import annotations

import pytest

from ems_fast.errors import InputError
from ems_fast.training.schedule import Limits, Schedule, learning_rate_factor


def factor(
    step: int, progress: float, warmup_steps: int | None = None, schedule: Schedule = "cosine"
) -> float:
    return learning_rate_factor(
        step, progress, schedule=schedule, warmup_steps=warmup_steps, warmup_fraction=0.1
    )


def test_warm_up_and_cosine() -> None:
    assert factor(0, 0.0) == 0.0
    assert factor(5, 0.05) == pytest.approx(0.5, rel=0.01)
    assert factor(50, 0.5) == pytest.approx(0.5)
    assert factor(99, 1.0) == pytest.approx(0.0)
    assert factor(100, 1.5) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("schedule", "at_half", "near_end"), [("linear", 0.5, 0.1), ("constant", 1.0, 0.5)]
)
def test_other_ways_down(schedule: Schedule, at_half: float, near_end: float) -> None:
    assert factor(0, 0.05, schedule=schedule) == pytest.approx(0.5, rel=0.06)
    assert factor(0, 0.5, schedule=schedule) == pytest.approx(at_half)
    assert factor(0, 0.9, schedule=schedule) == pytest.approx(near_end)
    assert factor(0, 1.2, schedule=schedule) == 0.0


def test_warm_up_in_steps() -> None:
    assert factor(0, 0.0, warmup_steps=10) == pytest.approx(0.1)
    assert factor(9, 0.0, warmup_steps=10) == 1.0


def test_the_first_limit_counts() -> None:
    limits = Limits(max_steps=100, max_epochs=2.0, max_minutes=10.0)
    assert limits.progress(50, 0.1, 1.0) == 0.5
    assert limits.progress(1, 1.5, 1.0) == 0.75
    assert limits.progress(1, 0.1, 10.0) == 1.0


def test_ten_epochs_without_a_limit() -> None:
    assert Limits().progress(10**9, 5.0, 10**9) == 0.5


def test_bad_limit() -> None:
    with pytest.raises(InputError, match="max_minutes: got -1"):
        Limits(max_minutes=-1)

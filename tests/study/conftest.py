"""A small study on a tiny model, and the engines."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from regrow.runs.store import CURVE_FILE, is_done
from regrow.study import StudySpec
from regrow.study.engine import Engine
from regrow.study.engines import make_engine
from regrow.training.spec import TrainSpec


def small_study(model: Path, text: Path, **changes) -> StudySpec:
    """A control, depth at 0.1 and 2:4: three cells of four steps each."""
    values = {
        "models": (str(model),),
        "family": "tiny",
        "methods": ("depth", "2:4"),
        "rates": (0.1,),
        "data": str(text),
        "held_out": str(text),
        "train": TrainSpec(
            tokens=2_000, batch_tokens=512, sequence_length=64, held_out_blocks=8, learning_rate=1e-3, eval_at=(1000,)
        ),
    }
    return StudySpec(**{**values, **changes})


class Killer:
    """Kills the worker of the first run that is seen training: once, in the middle of its curve."""

    def __init__(self, study: Path) -> None:
        self.study = study
        self.killed: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.is_set():
            for curve in self.study.glob(f"runs/*/{CURVE_FILE}"):
                run = curve.parent
                if not curve.read_text() or is_done(run):
                    continue
                holder = (run / ".lock").read_text().split()  # process PID on HOST
                os.kill(int(holder[1]), signal.SIGKILL)
                self.killed = run.name
                return
            time.sleep(0.005)


@pytest.fixture(scope="session")
def ray_engine() -> Iterator[Engine]:
    """One local cluster for all tests that need it."""
    pytest.importorskip("ray")
    with closing(make_engine("ray", workers=2)) as engine:
        yield engine


@pytest.fixture(params=["local", "ray"])
def engine(request) -> Engine:
    """Each engine in turn: what one passes, the others do."""
    return request.getfixturevalue(f"{request.param}_engine")

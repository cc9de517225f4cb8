"""TensorBoard event files, read with the library's own `EventAccumulator` (extra `tensorboard`; neither TensorFlow nor
torch is needed).

Each scalar tag is a column. The Trainer writes `eval/loss`, torchtitan `validation_metrics/loss`, Megatron-LM
`lm loss validation`, whose twin `lm loss validation vs samples` has samples in the place of steps. Values that follow
each other at one step make a row. The events of one folder are one log, in the order of their time, restarts included.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.history import History

_NAME = "tfevents"
_SAMPLES = " vs samples"


def recognise(path: Path, head: bytes) -> bool:
    # an event file begins with the version event: brain.Event:2
    return bool(_files(path)) if path.is_dir() else b"brain.Event:" in head[:64]


def read(path: Path) -> History:
    """Read an event file, or a folder with the event files of one run in it or in one folder below."""
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise InputError("no event files here", where=str(path), hint="they are called events.out.tfevents...")
    by_folder: dict[Path, list[tuple[float, int, str, Any]]] = {}
    for file in files:
        events = _events(file)
        if events:
            by_folder.setdefault(file.parent, []).extend(events)
    if not by_folder:
        raise InputError("no scalars in it", where=str(path), hint="give the event files of a run that logged its loss")
    if len(by_folder) > 1:
        raise InputError(
            f"{len(by_folder)} folders with events: {', '.join(str(f.relative_to(path)) for f in by_folder)}",
            where=str(path),
            hint="name one, or all of them with --merge if they are parts of one run",
        )
    (events,) = by_folder.values()
    events.sort(key=lambda event: event[0])
    return History.from_rows(_rows(events), where=str(path))


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob(f"*{_NAME}*") if file.is_file())


def _events(file: Path) -> list[tuple[float, int, str, Any]]:
    """(time in seconds, step, tag, value) of every scalar in the file."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ModuleNotFoundError:
        raise InputError(
            "event files are read with the tensorboard library",
            where=str(file),
            hint="pip install 'regrow[tensorboard]'",
        ) from None
    # 0 keeps all of them; orphans of a restart are left to the one rule for counters that go back
    log = EventAccumulator(str(file), size_guidance={SCALARS: 0, TENSORS: 0}, purge_orphaned_data=False)
    try:
        log.Reload()
    except Exception as error:  # the library raises what its parsers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"not an event file ({reason})", where=str(file)) from None
    tags = log.Tags()
    found = [(e.wall_time, e.step, tag, e.value) for tag in tags["scalars"] for e in log.Scalars(tag)]
    for tag in tags["tensors"]:
        for event in log.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.ndim == 0 and value.dtype.kind in "fiu":
                found.append((event.wall_time, event.step, tag, float(value)))
    return found


def _rows(events: list[tuple[float, int, str, Any]]) -> list[dict[str, Any]]:
    """One row per run of values at the same step. A tag `X vs samples` gives the rows of `X` their samples."""
    rows: list[dict[str, Any]] = []
    samples: dict[str, list[int]] = {}
    for _, step, tag, value in events:
        if tag.endswith(_SAMPLES):
            samples.setdefault(tag.removesuffix(_SAMPLES), []).append(step)
            continue
        if not rows or rows[-1]["step"] != step or tag in rows[-1]:
            rows.append({"step": step})
        rows[-1][tag] = value
    for tag, counted in samples.items():
        with_tag = [row for row in rows if tag in row]
        if len(with_tag) == len(counted):
            for row, count in zip(with_tag, counted, strict=True):
                row["consumed samples"] = count
    return rows

"""TensorBoard event files, read with the library's own `EventAccumulator` (extra `tensorboard`; neither TensorFlow nor
torch is needed).

Each scalar tag is a column. The Trainer writes `eval/loss`, torchtitan `validation_metrics/loss`, Megatron-LM
`lm loss validation`, whose twins `lm loss validation vs samples` and `vs tokens` (Megatron-DeepSpeed) have samples or
tokens in the place of steps. Values that follow each other at one step make a row; a tag that is itself called `step`
(litgpt) becomes `metric step`. The events of one folder are one log, in the order of their time, restarts included.
Two writers at the same time are two runs.
"""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.events import Event, rows_of
from regrow.runs.importers.history import History, notes_of_damage

_NAME = "tfevents"
#: Bytes after a damaged record in which the next one is looked for.
_FAR = 1 << 16
#: Tags `X vs samples` give the rows of `X` what stands in the place of the step.
_TWINS = {" vs samples": "consumed samples", " vs tokens": "consumed tokens"}


def recognise(path: Path, head: bytes) -> bool:
    # an event file begins with the version event: brain.Event:2
    return bool(_files(path)) if path.is_dir() else b"brain.Event:" in head[:64]


def read(path: Path) -> History:
    """Read an event file, or a folder with the event files of one run in it or in one folder below."""
    files = _files(path) if path.is_dir() else [path]
    if not files:
        raise InputError("no event files here", where=str(path), hint="they are called events.out.tfevents...")
    by_folder: dict[Path, list[list[Event]]] = {}
    notes: list[str] = []
    for file in files:
        events, damage = _events(file)
        notes += [note if len(files) == 1 else f"{file.name}: {note}" for note in damage]
        if events:
            by_folder.setdefault(file.parent, []).append(events)
    if not by_folder:
        raise InputError("no scalars in it", where=str(path), hint="give the event files of a run that logged its loss")
    if len(by_folder) > 1:
        raise InputError(
            f"{len(by_folder)} folders with events: {', '.join(str(f.relative_to(path)) for f in by_folder)}",
            where=str(path),
            hint="name one, or all of them with --merge if they are parts of one run",
        )
    (parts,) = by_folder.values()
    _refuse_two_writers(parts, path)
    events = sorted((event for part in parts for event in part), key=lambda event: event.time)
    return History.from_rows(_rows(events), where=str(path), notes=tuple(notes))


def _refuse_two_writers(parts: list[list[Event]], path: Path) -> None:
    """Raise `InputError` where two files log the same tag at the same time: a restart begins when the run has ended."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for part in parts:
        for tag in {event.name for event in part}:
            times = [event.time for event in part if event.name == tag]
            spans.setdefault(tag, []).append((min(times), max(times)))
    for tag, of_tag in spans.items():
        of_tag.sort()
        if any(begin < end for (_, end), (begin, _) in pairwise(of_tag)):
            raise InputError(
                f"two event files log {tag!r} at the same time: they are of several runs",
                where=str(path),
                hint="name one file",
            )


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob(f"*{_NAME}*") if file.is_file())


def _events(file: Path) -> tuple[list[Event], tuple[str, ...]]:
    """Every scalar in the file, times in seconds; and what had to be left out of it."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import SCALARS, TENSORS, EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ModuleNotFoundError:
        raise InputError(
            "event files are read with the tensorboard library",
            where=str(file),
            hint="pip install 'regrow[tensorboard]'",
        ) from None
    whole, notes = _whole(file)
    # 0 keeps all of them; orphans of a restart are left to the one rule for counters that go back
    log = EventAccumulator(str(whole), size_guidance={SCALARS: 0, TENSORS: 0}, purge_orphaned_data=False)
    try:
        log.Reload()
    except Exception as error:  # the library raises what its parsers raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"not an event file ({reason})", where=str(file)) from None
    finally:
        if whole != file:
            whole.unlink()
    tags = log.Tags()
    found = [Event(e.wall_time, e.step, tag, e.value) for tag in tags["scalars"] for e in log.Scalars(tag)]
    for tag in tags["tensors"]:
        for event in log.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if value.ndim == 0 and value.dtype.kind in "fiu":
                found.append(Event(event.wall_time, event.step, tag, float(value)))
    return found, notes


def _whole(file: Path) -> tuple[Path, tuple[str, ...]]:
    """The file, or a copy without its damaged records, and what was left out.

    The library ends at the first record of which the checksum is wrong, and says nothing.
    """
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    def fits(start: int, end: int) -> bool:
        return bool(masked_crc32c(content[start:end]) == int.from_bytes(content[end : end + 4], "little"))

    def length(at: int) -> int:
        return int.from_bytes(content[at : at + 8], "little")

    content = file.read_bytes()
    kept: list[slice] = []
    at, places, lost, torn = 0, 0, 0, 0
    while at + 12 <= len(content):
        end = at + 16 + length(at)
        if fits(at, at + 8) and end <= len(content):
            if fits(at + 12, end - 4):
                kept.append(slice(at, end))
            else:
                places, lost = places + 1, lost + end - at
            at = end
            continue
        near = range(at + 1, min(at + _FAR, len(content) - 15))
        following = next((i for i in near if i + 16 + length(i) <= len(content) and fits(i, i + 8)), None)
        if following is None:
            torn = len(content) - at
            break
        places, lost, at = places + 1, lost + following - at, following
    if not places:
        return file, notes_of_damage(places, lost, len(kept), torn)
    with tempfile.NamedTemporaryFile(suffix=f".{_NAME}", delete=False) as copy:
        copy.writelines(content[part] for part in kept)
    return Path(copy.name), notes_of_damage(places, lost, len(kept), torn)


def _rows(events: list[Event]) -> list[dict[str, Any]]:
    """One row per run of values at the same step, with the samples and tokens that twin tags tell."""
    twins: dict[tuple[str, str], list[int | float | None]] = {}
    plain = []
    for event in events:
        suffix = next((suffix for suffix in _TWINS if event.name.endswith(suffix)), None)
        if suffix is None:
            plain.append(event)
        else:
            twins.setdefault((event.name.removesuffix(suffix), _TWINS[suffix]), []).append(event.step)
    rows = rows_of(plain)
    for (tag, column), counted in twins.items():
        with_tag = [row for row in rows if tag in row]
        if len(with_tag) == len(counted):
            for row, count in zip(with_tag, counted, strict=True):
                row[column] = count
    return rows

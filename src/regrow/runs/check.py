"""Is a folder of runs whole? Hashes, markers, curves and weights looked at, and what is not as it should be named."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from regrow.errors import InputError, RegrowError
from regrow.reading import MALFORMED, parse_json, read_text
from regrow.runs.record import CurvePoint, spec_hash
from regrow.runs.store import CURVE_FILE, DONE_FILE, RUN_FILE, study_cells
from regrow.safetensors_header import read_header

_MODEL = "model"
_TRACES = (RUN_FILE, CURVE_FILE, DONE_FILE)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found of one run folder.

    Attributes:
        run: the folder.
        state: `done`, `unfinished` (the same command goes on with it), or `missing` (a study's cell that has not
            started).
        problems: what is not as it should be, each with what to do; empty if the run is whole.
    """

    run: str
    state: str
    problems: tuple[str, ...]


def check_runs(path: str | Path) -> list[Checked]:
    """Look at every run folder under `path` (a study, a folder of runs, or one run), in name order.

    Raises `InputError` if there is none.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputError("no such folder", where=str(root), hint="give a study folder or a run folder")
    folders = sorted({found.parent for name in _TRACES for found in root.rglob(name) if _is_run(found.parent)})
    cells = study_cells(root)
    if not folders and not cells:
        raise InputError("no runs in this folder", where=str(root), hint="give a study folder or a run folder")
    found = [_check(folder, root, cells) for folder in folders]
    names = {folder.name for folder in folders}
    return found + [Checked(run=name, state="missing", problems=()) for name in cells if name not in names]


def _is_run(folder: Path) -> bool:
    # a study's own list of cells stands beside `runs/` and is no run
    return folder.name not in (_MODEL, "checkpoints")


def _check(folder: Path, root: Path, cells: Mapping[str, str]) -> Checked:
    name = str(folder.relative_to(root)) if folder != root else folder.name
    done = (folder / DONE_FILE).exists()
    problems = list(_problems(folder, done, cells))
    return Checked(run=name, state="done" if done else "unfinished", problems=tuple(problems))


def _problems(folder: Path, done: bool, cells: Mapping[str, str]) -> Iterator[str]:
    try:
        record = parse_json(read_text(folder / RUN_FILE))
        spec, noted, status = record["spec"], record["hash"], record["status"]
        found = spec_hash(spec)
    except FileNotFoundError:
        yield f"{RUN_FILE} is missing; remove the folder and run it again"
        return
    except (OSError, RegrowError, *MALFORMED) as error:
        yield f"{RUN_FILE} is not a run record ({error}); restore it, or remove the folder and run it again"
        return
    if found != noted:
        yield f"the spec's hash is {found}, {RUN_FILE} says {noted}: one of them was changed"
    if cells.get(folder.name, found) != found:
        yield f"the spec's hash is {found}, the study lists {cells[folder.name]}"
    if done:
        marker = (folder / DONE_FILE).read_text().strip()
        if marker != noted:
            yield f"{DONE_FILE} is of {marker or 'nothing'}, the run of {noted}: remove {DONE_FILE} and run it again"
        if status not in ("done", "imported"):
            yield f"{DONE_FILE} is there and the status is {status!r}: remove {DONE_FILE} and run it again"
    elif status == "done":
        yield f"the status is 'done' and {DONE_FILE} is missing: the same command finishes it"
    train = spec.get("train") if isinstance(spec, Mapping) else None
    details = record.get("details")
    ended = details.get("ended_at") if isinstance(details, Mapping) else None  # by a forecast, before all its tokens
    left = spec.get("cooldown_from") if isinstance(spec, Mapping) else None  # a cool-down begins where it left a run
    begin = left["tokens"] if isinstance(left, Mapping) and isinstance(left.get("tokens"), int) else 0
    yield from _curve_problems(folder, train, done, begin, ended)
    if done and status == "done" and train:  # what was only recorded left no weights
        yield from _weight_problems(folder / _MODEL)


def _curve_problems(folder: Path, train: Any, done: bool, begin: int, ended: int | None) -> Iterator[str]:
    path = folder / CURVE_FILE
    try:
        text = path.read_text()
    except OSError as error:
        yield f"{CURVE_FILE} can't be read ({error.strerror})"
        return
    points = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            points.append(CurvePoint(**parse_json(line)))
        except (RegrowError, *MALFORMED):
            torn = number == len(lines) and not text.endswith("\n")
            yield f"{CURVE_FILE}, line {number}: {'torn' if torn else 'not an evaluation'}"
    for number, (one, two) in enumerate(pairwise(points), start=2):
        if two.tokens <= one.tokens:
            yield f"{CURVE_FILE}, line {number}: {two.tokens} tokens after {one.tokens}"
        if (one.seconds or 0.0) > (two.seconds if two.seconds is not None else math.inf):
            yield f"{CURVE_FILE}, line {number}: {two.seconds} seconds after {one.seconds}"
    bad = next((p for p in points if p.loss is not None and not (math.isfinite(p.loss) and p.loss > 0)), None)
    if bad is not None:
        yield f"{CURVE_FILE}: the loss at {bad.tokens} tokens is {bad.loss}"
    yield from _against_spec([p.tokens for p in points], train, done, begin, ended)


def _against_spec(tokens: list[int], train: Any, done: bool, begin: int, ended: int | None) -> Iterator[str]:
    """A curve holds what its training recipe asks: whole batches, every milestone up to its end, and all tokens."""
    if not isinstance(train, Mapping) or not all(
        isinstance(train.get(k), int) and train[k] > 0 for k in ("tokens", "batch_tokens")
    ):
        return
    batch = train["batch_tokens"]
    total = math.ceil(train["tokens"] / batch) * batch
    odd = next((t for t in tokens if t % batch or t > total), None)
    if odd is not None:
        yield f"{CURVE_FILE}: a reading at {odd} tokens, where batches are of {batch} and the run of {total}"
    asked = {min(total, math.ceil(t / batch) * batch) for t in train.get("eval_at") or ()} | {begin, total}
    end = (total if ended is None else ended) if done else max(tokens, default=-1)
    lacking = sorted(t for t in asked if t <= end and t not in tokens)
    if lacking:
        yield f"{CURVE_FILE}: no reading at {', '.join(map(str, lacking[:3]))} tokens, which the spec asks for"


def _weight_problems(model: Path) -> Iterator[str]:
    files = sorted(model.glob("*.safetensors"))
    if not (model / "config.json").exists() or not files:
        yield f"{_MODEL}/ holds no checkpoint: remove {DONE_FILE} and run it again"
    for file in files:
        try:
            with file.open("rb") as stream:
                expected = read_header(stream).size
            size = file.stat().st_size
        except (OSError, ValueError) as error:
            yield f"{_MODEL}/{file.name} is not a safetensors file ({error})"
            continue
        if size != expected:
            yield f"{_MODEL}/{file.name} holds {size} bytes of {expected}"

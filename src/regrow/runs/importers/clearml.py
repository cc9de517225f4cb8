"""ClearML: the folder or ZIP of an offline session, and what `Task.get_reported_scalars()` returns, saved as JSON.

Offline, each line of `metrics.jsonl` is a list of events with `metric`, `variant`, `iter`, `value` and a timestamp. The
saved scalars are `{TITLE: {SERIES: {"x": [iterations], "y": [values]}}}`. A column is called `TITLE/SERIES`, such as
`eval/loss`. Looked at: clearml 2.1.12 (2026-08), backend_interface/metrics and Task.get_reported_scalars.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.events import Event, rows_of
from regrow.runs.importers.history import History

_FILE = "metrics.jsonl"


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return (path / _FILE).is_file() and (path / "task.json").is_file()
    if head.startswith(b"PK"):
        return _FILE in names_in_zip(path)
    return b'"training_stats_scalar"' in head or (head.lstrip()[:1] == b"{" and _is_scalars(_json(path)))


def read(path: Path) -> History:
    content = _json(path) if path.is_file() else None
    if content is not None and _is_scalars(content):
        events = [
            Event(0.0, x, f"{title}/{series}", y)
            for title, all_series in content.items()
            for series, line in all_series.items()
            for x, y in zip(line["x"], line["y"], strict=False)
        ]
        events.sort(key=lambda event: event.step or 0)
    else:
        events = sorted(_events(_text(path)), key=lambda event: event.time)
    if not events:
        raise InputError("no scalar of ClearML in it", where=str(path), hint="say which it is: --as")
    return History.from_rows(rows_of(events), where=str(path))


def names_in_zip(path: Path) -> list[str]:
    """The files in a ZIP; none where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def text_in_zip(path: Path, name: str) -> str:
    """A file of a ZIP as text. Raises `InputError` where it can't be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name).decode("utf-8", errors="replace")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"no {name} in it ({error})", where=str(path), hint="say which it is: --as") from None


def _text(path: Path) -> str:
    if path.is_dir():
        path = path / _FILE
    elif zipfile.is_zipfile(path):
        return text_in_zip(path, _FILE)
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"can't be read ({error.strerror or error})", where=str(path)) from None


def _events(text: str) -> list[Event]:
    events = []
    for line in text.splitlines():
        try:
            listed = json.loads(line)
        except ValueError:
            continue  # torn by a crash
        for event in listed if isinstance(listed, list) else []:
            if isinstance(event, dict) and event.get("type") == "training_stats_scalar":
                name = f"{event.get('metric')}/{event.get('variant')}"
                events.append(Event(float(event.get("timestamp") or 0), event.get("iter"), name, event.get("value")))
    return events


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_scalars(content: Any) -> bool:
    """Whether this is what `get_reported_scalars` returns."""
    if not isinstance(content, dict) or not content:
        return False
    lines = [line for series in content.values() if isinstance(series, dict) for line in series.values()]
    return bool(lines) and all(
        isinstance(line, dict) and isinstance(line.get("x"), list) and isinstance(line.get("y"), list) for line in lines
    )

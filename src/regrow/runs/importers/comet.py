"""Comet: the ZIP of an `OfflineExperiment`, and what `APIExperiment.get_metrics()` returns, saved as JSON.

In the ZIP each line of `messages.json` is a message; those of type `metric_msg` hold `metricName`, `metricValue`,
`step` and `epoch`. The API returns a list of such mappings with the value as text. Saved as a CSV it is a table with a
row per value, which the reader of tables turns. Looked at: comet_ml 3.58.8 (2026-10), messages.py and api.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from regrow.errors import InputError
from regrow.runs.importers.clearml import names_in_zip, text_in_zip
from regrow.runs.importers.events import Event, rows_of
from regrow.runs.importers.history import History

_FILE = "messages.json"


def recognise(path: Path, head: bytes) -> bool:
    if path.is_dir():
        return False
    if head.startswith(b"PK"):
        return _FILE in names_in_zip(path)
    return head.lstrip()[:1] in (b"[", b"{") and b'"metricName"' in head


def read(path: Path) -> History:
    try:
        text = text_in_zip(path, _FILE) if _FILE in names_in_zip(path) else path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise InputError("not an export of Comet", where=str(path), hint="say which it is: --as") from None
    metrics = _metrics(text)
    if not metrics:
        raise InputError("no metric of Comet in it", where=str(path), hint="say which it is: --as")
    events = [
        Event(float(metric.get("timestamp") or 0), metric.get("step"), str(metric["metricName"]), metric["metricValue"])
        for metric in metrics
    ]
    if not any(event.time for event in events):
        events.sort(key=lambda event: event.step or 0)
    return History.from_rows(rows_of(sorted(events, key=lambda event: event.time)), where=str(path))


def _metrics(text: str) -> list[dict[str, Any]]:
    """The metrics in a JSON list, or in lines of messages; a torn line is left out."""
    try:
        content = json.loads(text)
        listed = content if isinstance(content, list) else [content]
    except ValueError:
        listed = []
        for line in text.splitlines():
            try:
                listed.append(json.loads(line))
            except ValueError:
                continue
    found = []
    for message in listed:
        if isinstance(message, dict) and message.get("type") == "metric_msg":
            message = (message.get("payload") or {}).get("metric")
        if isinstance(message, dict) and {"metricName", "metricValue"} <= message.keys():
            found.append(message)
    return found

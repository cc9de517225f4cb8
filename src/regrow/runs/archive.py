"""Many runs as one small text file: a line each with all that is known of it, its curve included and no weights.

What a table of checkpoints leaves out stays: the spec and its hash, seconds, learning rates, versions, hardware. So a
study that took a night can lie beside the code and be read like its folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from regrow.disk import write_text
from regrow.errors import InputError, RegrowError
from regrow.reading import MALFORMED, check_format, parse_json, read_text
from regrow.runs.record import CurvePoint, RunRecord, spec_hash

#: How the name of an archive ends.
SUFFIX = ".jsonl"
FORMAT = 1


def write_archive(runs: Iterable[RunRecord], path: str | Path) -> None:
    """Write `runs` to `path`, whole or not at all. Raises `OSError` where it can't be written."""
    write_text(
        Path(path), "".join(json.dumps(_to_dict(run), separators=(",", ":"), default=str) + "\n" for run in runs)
    )


def read_archive(path: str | Path, *, on_broken: Callable[[InputError], None] | None = None) -> list[RunRecord]:
    """Read the runs of an archive, in its order.

    Args:
        on_broken: given what is wrong with a line, which is then left out; None to raise it.

    Raises `InputError` naming the line that is not a run, is of a newer format, or whose spec is not the one it was
    stored with.
    """
    try:
        lines = read_text(Path(path)).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"not an archive of runs ({error})", where=str(path)) from None
    if not lines:
        raise InputError("the archive is empty", where=str(path), hint="`regrow runs export` writes one")
    runs = []
    for number, line in enumerate(lines, start=1):
        try:
            runs.append(_from_line(line, f"{path}, line {number}"))
        except InputError as error:
            if on_broken is None or len(lines) == 1:
                raise
            on_broken(error)
    return runs


def merge_runs(kept: Iterable[RunRecord], added: Iterable[RunRecord]) -> list[RunRecord]:
    """The runs of two sources, each once: those of `kept` in their order, then the others of `added`.

    If both have a run, a finished one replaces an unfinished one. Raises `InputError` if two runs of one name have
    different specs.
    """
    merged = {run.run: run for run in kept}
    for run in added:
        known = merged.get(run.run)
        if known is not None and known.hash != run.hash:
            raise InputError(
                f"two runs called {run.run!r} have different specs ({known.hash} and {run.hash})",
                where="archive",
                hint="export one of them to another file",
            )
        if known is None or (run.status == "done" and known.status != "done"):
            merged[run.run] = run
    return list(merged.values())


def _to_dict(run: RunRecord) -> dict[str, Any]:
    return {"format": FORMAT, "hash": run.hash, **run.to_dict(), "curve": [point.to_dict() for point in run.curve]}


def _from_line(line: str, where: str) -> RunRecord:
    try:
        content = parse_json(line)
        check_format(content["format"], FORMAT, where=where)
        if content["hash"] != spec_hash(content["spec"]):
            raise InputError("its spec was changed after it was stored", where=where, hint="export the runs again")
        return RunRecord.from_dict(content, (CurvePoint(**point) for point in content["curve"]))
    except RegrowError as error:
        raise InputError(str(error), where=where) if error.where != where else error from None
    except MALFORMED as error:
        raise InputError(f"not a run ({error})", where=where, hint="`regrow runs export` writes archives") from None

"""Law files: versioned JSON that a person can read, written atomically. numpy only.

`{"format": 1, "laws": [...]}`. A law is one object with the fields of `Law`; its bootstrap draws are one line per
refit, rounded to six significant digits. Files of an older format are read; of a newer one refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regrow.disk import write_text
from regrow.errors import InputError
from regrow.laws.file_checks import check_law
from regrow.laws.forms import find_form
from regrow.laws.law import LOSS, Law
from regrow.reading import MALFORMED, check_format, parse_json, read_text

FORMAT = 1
#: the law that the package ships, and the name by which it is asked for (`scripts/make_reference_law.py` makes it)
REFERENCE, REFERENCE_NAME = Path(__file__).with_name("reference.json"), "reference"
_SCALARS = (
    "family",
    "method",
    "form",
    "status",
    "n_runs",
    "n_points",
    "run_spread",
    "point_spread",
    "size_spread",
    "baseline",
    "loss_kind",
)


def law_to_json(law: Law) -> dict[str, Any]:
    """A law as plain data; NaN and infinity become null."""
    out: dict[str, Any] = {name: _plain(getattr(law, name)) for name in _SCALARS}
    if law.benchmark is not None:
        out["target"] = law.target
    out["params"] = {k: _plain(v) for k, v in law.params.items()}
    out["warnings"] = list(law.warnings)
    out["metrics"] = _plain(dict(law.metrics))
    out["ranges"] = _plain(dict(law.ranges))
    out["fingerprint"] = law.fingerprint
    out["diagnostics"] = _plain(dict(law.diagnostics))
    if law.sizes:
        out["sizes"] = {str(size): _rounded(rows) for size, rows in law.sizes.items()}
    out["draws"] = _rounded(law.draws)
    return out


def _rounded(rows: np.ndarray) -> list[list[float]]:
    return [[float(f"{v:.6g}") for v in row] for row in rows]


def law_from_json(data: Any, *, where: str) -> Law:
    """The inverse of `law_to_json`. Raises `InputError` naming the first field that is missing or wrong."""
    try:
        form = find_form(data["form"])
        written = data["params"]
        absent = {p.name: p.unwritten for p in form.parameters if p.name not in written and p.unwritten is not None}
        params = {name: float(absent[name] if name in absent else written[name]) for name in form.names}
        draws = _rows(data.get("draws") or [], form.names, absent)
        sizes = {int(size): _rows(rows, form.names, absent) for size, rows in data.get("sizes", {}).items()}
        numbers = [np.array(list(params.values())), draws, *sizes.values()]
        if not all(np.isfinite(part).all() for part in numbers):
            raise ValueError("a parameter is not finite")
        return Law(
            family=str(data["family"]),
            method=str(data["method"]),
            form=form.name,
            params=params,
            status=str(data["status"]),
            warnings=tuple(map(str, data.get("warnings", ()))),
            n_runs=int(data["n_runs"]),
            n_points=int(data["n_points"]),
            metrics={k: None if v is None else float(v) for k, v in data.get("metrics", {}).items()},
            ranges={k: (float(v[0]), float(v[1])) for k, v in data["ranges"].items()},
            # a file without draws still predicts, with intervals of the runs' spread alone
            draws=draws if len(draws) else np.array([list(params.values())]),
            run_spread=float(data["run_spread"]),
            point_spread=float(data["point_spread"]),
            size_spread=float(data.get("size_spread", 0.0)),
            baseline=str(data.get("baseline", "initial")),
            loss_kind=str(data.get("loss_kind", "raw")),
            target=str(data.get("target", LOSS)),
            fingerprint=str(data.get("fingerprint", "")),
            sizes=sizes,
            diagnostics=dict(data.get("diagnostics", {})),
        )
    except KeyError as missing:
        raise InputError(f"a law without {missing}", where=where, hint="write it with `regrow fit --out`") from None
    except MALFORMED as wrong:
        raise InputError(f"not a law: {wrong}", where=where, hint="write it with `regrow fit --out`") from None


def _rows(rows: Any, names: Sequence[str], absent: Mapping[str, float]) -> np.ndarray:
    """Draws [n, names], with the values of the parameters that the file is too old to have."""
    read = iter(np.array(rows, dtype=float).reshape(-1, len(names) - len(absent)).T)
    count = len(rows)
    return np.stack([np.full(count, absent[name]) if name in absent else next(read) for name in names], axis=1)


def as_saved(law: Law) -> Law:
    """The law as its file gives it: draws have six digits. Answers are then the same before and after saving."""
    return law_from_json(law_to_json(law), where="law")


def save_laws(laws: Sequence[Law], path: str | Path) -> None:
    """Write a law file; a crash or a full disk leaves the old file or the new one, and nothing beside it."""
    path = Path(path)
    text = json.dumps({"format": FORMAT, "laws": []}, indent=1)
    body = ",\n".join(_readable(law_to_json(law)) for law in laws)
    text = text.replace('"laws": []', '"laws": [\n' + body + "\n ]") + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as failed:
        raise InputError(f"cannot write the law file ({failed.strerror})", where=str(path)) from None


def load_laws(path: str | Path) -> list[Law]:
    """Read a law file, or the law that the package ships: `reference`.

    Raises `InputError` if there is none, it is not JSON, not a law file, of a newer format, or holds no law.
    """
    where = str(path)
    if where == REFERENCE_NAME and not Path(path).exists():
        path = REFERENCE
    try:
        data = parse_json(read_text(Path(path)))
    except FileNotFoundError:
        raise InputError("no such law file", where=where, hint="write one with `regrow fit --out`") from None
    except MALFORMED:
        raise InputError("not a law file", where=where, hint="write one with `regrow fit --out`") from None
    except IsADirectoryError:
        hint = f"fit a law to the runs in it first: regrow fit {where} --out law.json"
        raise InputError("a folder, not a law file", where=where, hint=hint) from None
    except OSError as failed:
        raise InputError(f"cannot be read ({failed.strerror})", where=where) from None
    if not isinstance(data, dict) or "laws" not in data or not isinstance(data["laws"], list):
        raise InputError("not a law file", where=where, hint="write one with `regrow fit --out`")
    check_format(data.get("format"), FORMAT, where=where, unit="law format")
    if not data["laws"]:
        raise InputError("the file holds no law", where=where, hint="fit one with `regrow fit --out`")
    laws = [law_from_json(law, where=where) for law in data["laws"]]
    for law in laws:
        check_law(law, where=where)
    return laws


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def _readable(law: dict[str, Any]) -> str:
    """Indented JSON with one line per short field and one line per draw."""
    lines = [f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in law.items() if k != "draws"]
    rows = ",\n".join("    " + json.dumps(row, separators=(",", ":")) for row in law["draws"])
    lines.append('   "draws": [\n' + rows + "\n   ]")
    return "  {\n" + ",\n".join(lines) + "\n  }"

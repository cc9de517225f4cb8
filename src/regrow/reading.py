"""Small files that somebody gives, read with a guard: what is no file, too large, nested too deep or ambiguous is said.

Text, JSON and YAML become plain data or an `InputError` of one line. Light; YAML is imported where it is read.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Hashable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from regrow.errors import InputError, printable, reason_of

#: Bytes of the largest text that is read at once.
LARGEST_TEXT = 1 << 29
#: Bytes of the largest YAML file, and the values that it may stand for when its aliases are followed.
_LARGEST_YAML, _MOST_VALUES = 1 << 20, 100_000
#: What reading plain data raises for content that nobody writes on purpose.
MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError, OverflowError, MemoryError)


def check_file(path: Path, *, limit: int = LARGEST_TEXT) -> None:
    """Raise `InputError` for a pipe, a device or a file above `limit` bytes, before it is opened.

    Opening a pipe waits for a writer, and a device may never end. A path at which there is nothing is left to `open`.
    """
    try:
        known = os.stat(path)
    except OSError:
        return
    if not (stat.S_ISREG(known.st_mode) or stat.S_ISDIR(known.st_mode)):
        raise InputError("not a file but a pipe or a device", where=str(path), hint="give a file")
    if stat.S_ISREG(known.st_mode) and known.st_size > limit:
        raise InputError(
            f"{known.st_size / 1e6:,.0f} MB, where at most {limit / 1e6:,.0f} MB are read at once",
            where=str(path),
            hint="is this the right file?",
        )


def read_text(path: Path, *, limit: int = LARGEST_TEXT) -> str:
    """The UTF-8 text of a file. Raises `InputError` as `check_file`, `OSError` and `UnicodeDecodeError` as `open`."""
    check_file(path, limit=limit)
    return path.read_text(encoding="utf-8")


def parse_json(text: str) -> Any:
    """Plain data from JSON. Raises `ValueError` for what is no JSON, has a key twice in one object, or is nested too
    deep."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def check_format(found: object, newest: int, *, where: str, unit: str = "format") -> None:
    """Raise `InputError` for a file whose format number is not one that this version knows."""
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= newest:
        return
    if isinstance(found, int) and found > newest:
        hint = f"upgrade regrow: this version reads {unit}s up to {newest}"
        raise InputError(f"{unit} {found}, written by a newer regrow", where=where, hint=hint)
    raise InputError(
        f"{unit} {str(found)[:40]!r}", where=where, hint="the file is damaged: formats are numbers from 1 on"
    )


def repeated(values: Iterable[Hashable]) -> Any:
    """The first value that was there before, None if all differ; linear in their number."""
    seen = set[Hashable]()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the key {repeated(name for name, _ in pairs)!r} stands twice")
    return found


def read_yaml(path: Path) -> Any:
    """Plain data from a YAML file, by the rules of YAML 1.2 where those of 1.1 surprise.

    `2:4`, `010`, `no` and dates are text, not a number in base 60, one in octal, a truth value and a date.

    Raises `InputError` for a file that is not YAML, has a key twice, or stands for more values than it may.
    """
    import yaml

    try:
        content = yaml.load(read_text(path, limit=_LARGEST_YAML), Loader=_loader())
        _count(content, {})
    except FileNotFoundError:
        raise InputError("no such file", where=str(path)) from None
    except RecursionError:
        raise InputError("not a YAML file (nested too deep)", where=str(path)) from None
    except (OSError, yaml.YAMLError, *MALFORMED) as error:
        reason = str(error).splitlines()[0] if isinstance(error, yaml.YAMLError) and str(error) else reason_of(error)
        raise InputError(f"not a YAML file ({reason})", where=str(path)) from None
    return content


@cache
def _loader() -> Any:
    """SafeLoader with unique keys and the scalars of YAML 1.2's core schema."""
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                value = self.construct_object(key, deep=True)
                if isinstance(value, list | dict | set):
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1}: a key is not a single value")
                if value in seen:
                    raise yaml.YAMLError(f"line {key.start_mark.line + 1}: the key {value!r} stands twice")
                seen.add(value)
            return super().construct_mapping(node, deep=deep)

    surprising = ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:timestamp")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (*surprising, "tag:yaml.org,2002:float")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(surprising[0], re.compile(r"(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    Loader.add_implicit_resolver(surprising[1], re.compile(r"[-+]?(0|[1-9][0-9_]{0,30})$"), list("-+0123456789"))
    number = re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9]+)([eE][-+][0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    )
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789."))
    return Loader


def _count(value: Any, known: dict[int, int]) -> int:
    """How many values a document stands for, each alias as often as it is used.

    Raises `ValueError` for too many, and for text with control characters: no name and no path has any.
    """
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, str) and printable(value) != value:
        raise ValueError(f"control characters in {value[:60]!r}")
    parts: list[Any] = []
    if isinstance(value, Mapping):
        parts = [*value, *value.values()]
    elif isinstance(value, list | tuple | set):
        parts = list(value)
    total = 1 + sum(_count(part, known) for part in parts)
    if total > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES:,} values")
    known[id(value)] = total
    return total

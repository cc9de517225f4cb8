"""The one exception family of regrow.

A `RegrowError` is something the user can act on: its message is one line that says what happened, where,
and what to do. The command line prints it as `error: ...` and exits with its `exit_code`; anything else that
escapes is a bug in regrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: C0, DEL and C1, and the marks of direction
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")
#: of more choices than many, a few are shown where one is near
_MANY, _FEW = 24, 8
#: characters of a library's message that are shown whole
_WHOLE_REASON = 300


class RegrowError(Exception):
    """Base of every error that regrow raises on purpose.

    Args:
        what: what happened, in a few words, with the offending value.
        where: the file, option or field it happened in.
        hint: what the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = where
        self.hint = hint
        text = f"{where}: {what}" if where else what
        if hint:
            text = f"{text}; {hint}"
        super().__init__(" ".join(printable(text).split()))


class InputError(RegrowError):
    """The user asked for something that cannot be: a bad option, file, table, rate or spec. Exit code 2."""

    exit_code = 2


class RunFailed(RegrowError):
    """Work that started could not be finished (non-finite loss, full disk, a broken mask). Exit code 1."""


def printable(text: str) -> str:
    """`text` with its control characters as `\\x1b`, so that a name from a file moves no cursor and hides no text.

    Line breaks and tabs stay. Marks that turn the direction of writing count as control characters.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t\r" or not _CONTROL.match(c) else ascii(c)[1:-1] for c in text)


def reason_of(error: BaseException) -> str:
    """Why a library raised this, on one line, or the name of its type where it does not say.

    Libraries put the reason last: a validator names itself in the first line and the value that it refused in the
    next. A short message is given whole, of a long one the last line.
    """
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    whole = " ".join(lines)
    return (whole if len(whole) <= _WHOLE_REASON else lines[-1]) if lines else type(error).__name__


def one_of(value: str, choices: Iterable[str], *, what: str, where: str | None = None) -> str:
    """Return `value` if it is among `choices`, else raise `InputError` with the nearest choice suggested."""
    options = list(choices)
    if value in options:
        return value
    near = nearest(value, options)
    hint = f"did you mean {near!r}? " if near else ""
    shown, more = options, ""
    if near and len(options) > _MANY:
        shown, more = _closest(value, options), f" and {len(options) - _FEW} more"
    raise InputError(f"unknown {what} {value!r}", where=where, hint=f"{hint}choose from: {', '.join(shown)}{more}")


def _closest(value: str, options: list[str]) -> list[str]:
    """A few of many options, the most similar first."""
    import difflib

    def likeness(option: str) -> float:
        return difflib.SequenceMatcher(a=value.lower(), b=option.lower()).ratio()

    return sorted(options, key=likeness, reverse=True)[:_FEW]


def nearest(value: str, choices: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """The choice that `value` most likely means: its initials (`lr`), its beginning, or a spelling of it; else None.

    `cutoff` is the least similarity of a spelling, from 0 to 1. Capital letters count as small ones.
    """
    import difflib  # only a mistake pays for it

    low, options = value.lower(), {choice.lower(): choice for choice in choices}
    initials = ("".join(word[:1] for word in re.split("[_-]", choice)) for choice in options)
    of_initials = [choice for choice, letters in zip(options, initials, strict=True) if letters == low]
    begun = [choice for choice in options if choice.startswith(low)] if len(low) > 1 else []
    close = difflib.get_close_matches(low, options, n=1, cutoff=cutoff)
    found = next(iter([*of_initials, *begun, *close]), None)
    return None if found is None else options[found]

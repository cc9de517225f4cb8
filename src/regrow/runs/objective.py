"""What a run minimised, as a value with one text form. Light.

A record holds the text: `cross-entropy`, or `distillation:T=2,mix=0.5`. A study names objectives as
`cross-entropy`, `distillation` (from the unpruned model itself) and `distillation:MODEL`.
"""

from __future__ import annotations

from dataclasses import dataclass

from regrow.errors import InputError, one_of

CROSS_ENTROPY, DISTILLATION = "cross-entropy", "distillation"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a run minimised.

    Attributes:
        kind: `cross-entropy`, `distillation`, or whatever an imported table says.
        options: what follows the colon of its text; empty without.
    """

    kind: str = CROSS_ENTROPY
    options: str = ""

    @classmethod
    def distillation(cls, *, temperature: float, mix: float) -> Objective:
        """Distillation at a temperature; `mix` is its share of the loss, the rest is cross-entropy."""
        return cls(kind=DISTILLATION, options=f"T={temperature:g},mix={mix:g}")

    @classmethod
    def parse(cls, text: str | None) -> Objective:
        """Read the text of a record. A record without one was trained on cross-entropy."""
        kind, _, options = (text or CROSS_ENTROPY).partition(":")
        return cls(kind=kind, options=options)

    @property
    def distils(self) -> bool:
        """Whether a teacher's forward pass was part of every step."""
        return self.kind == DISTILLATION

    def __str__(self) -> str:
        return f"{self.kind}:{self.options}" if self.options else self.kind


def parse_teacher(text: str, *, where: str = "study, objectives") -> str | None:
    """The teacher that a study's objective names.

    Returns None for `cross-entropy`, "" for `distillation` (from the unpruned model itself), and `NAME` for
    `distillation:NAME`. Raises `InputError` for anything else.
    """
    kind, colon, teacher = str(text).partition(":")
    one_of(kind, (CROSS_ENTROPY, DISTILLATION), what="objective", where=where)
    if (colon and not teacher) or (teacher and kind == CROSS_ENTROPY):
        raise InputError(
            f"objective {text!r}", where=where, hint="write cross-entropy, distillation, distillation:MODEL"
        )
    return teacher if kind == DISTILLATION else None

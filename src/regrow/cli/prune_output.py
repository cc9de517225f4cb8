"""What `regrow prune` prints: the plan of a pruning, and what it cost."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from regrow.cli.options import print_json
from regrow.cli.tables import print_table

if TYPE_CHECKING:
    from regrow.arch import Architecture
    from regrow.planning.damage import Damage
    from regrow.pruning.plan import PrunePlan
    from regrow.pruning.spec import PruneSpec
    from regrow.serving.changed import NewLimit

_COUNTING = "Parameters are all of them, tied embeddings counted once; non-embedding leaves the embeddings out."


def print_outline(model: str, folder: str, spec: PruneSpec, as_json: bool) -> None:
    """What a dry run without text or scores says: shapes, counts and memory, from the config alone."""
    from regrow.arch import find_architecture
    from regrow.pruning.outline import outlines

    outlined = outlines(find_architecture(folder), spec)
    shapes = [
        {"hidden": after.hidden, "intermediate": after.intermediate, "kv_heads": after.kv_heads}
        for after in (plan.after for plan in outlined)
    ]
    memory = _memory(outlined[0].before, spec)
    print_plan(outlined[0], model, as_json, memory=memory, shapes=shapes, served=_served(folder, outlined[0]))
    if len(outlined) > 1 and not as_json:
        listed = ", ".join("/".join(map(str, shape.values())) for shape in shapes)
        typer.echo(f"text will choose among hidden/intermediate/KV heads {listed} (--search)")


def _memory(before: Architecture, spec: PruneSpec) -> int | None:
    """Bytes that pruning will take; None where torch, which would do it, is not installed."""
    try:
        from regrow.pruning.estimate import estimate_for
    except ModuleNotFoundError:
        return None
    samples = spec.calibration_blocks if spec.needs_calibration else 0
    return estimate_for(before, spec, samples=samples, length=spec.calibration_length).total


def _served(folder: str, plan: PrunePlan) -> list[NewLimit]:
    """What the programs that serve models will make of a planned model that they don't make of the original."""
    from regrow.arch import config_of
    from regrow.serving.changed import config_after, limits_from_pruning

    config = config_of(folder)
    return limits_from_pruning(config, config_after(config, plan.after, plan.dropped_layers))


def served_by(folder: str, out: Path | None) -> list[NewLimit]:
    """The same of a model that is written; empty without one."""
    if out is None:
        return []
    from regrow.arch import read_config
    from regrow.models.folder import open_checkpoint
    from regrow.models.load import local_checkpoint
    from regrow.serving.changed import limits_from_pruning

    return limits_from_pruning(open_checkpoint(local_checkpoint(folder)).content, read_config(out))


def print_served(served: Sequence[NewLimit]) -> None:
    """What programs that serve models can't do with the pruned model; nothing where they can."""
    for new in served:
        typer.echo(new.sentence())
    if served:
        typer.echo("regrow check --loads says more, and docs/serving.md what to do")


def print_plan(
    plan: PrunePlan,
    model: str,
    as_json: bool,
    out: Path | None = None,
    *,
    memory: int | None = None,
    shapes: list[dict[str, int]] | None = None,
    damage: Damage | None = None,
    served: Sequence[NewLimit] = (),
) -> None:
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if as_json:
        choice: dict[str, Any] = {"shapes": shapes} if shapes and len(shapes) > 1 else {}
        choice |= {**damage_fields(damage), "serving": [new.to_dict() for new in served]}
        print_json({**plan.to_dict(), "out": None if out is None else str(out), "memory_bytes": memory, **choice})
        return
    from regrow.pruning.card import plan_rows

    title = f"{model}: {plan.method} by {plan.scorer}"
    print_table(title, ["", "before", "after", "change"], plan_rows(plan))
    typer.echo(_COUNTING)
    if memory is not None:
        typer.echo(f"pruning will take about {memory / 1e9:.2f} GB of memory")
    if plan.dropped_layers is not None:
        typer.echo(f"blocks that go: {', '.join(map(str, plan.dropped_layers))}")
    for tried in plan.candidates or ():
        typer.echo(
            f"tried hidden {tried.hidden}, intermediate {tried.intermediate}, KV heads {tried.kv_heads}: "
            f"rate {tried.pruning_rate:.4f}, loss {tried.loss:.4f} on the calibration text"
        )
    if not plan.decided:
        typer.echo("which parts go is decided by the scores")
    print_damage(damage)
    print_served(served)
    if out is not None:
        typer.echo(f"written to {out}")


def damage_fields(damage: Damage | None) -> dict[str, Any]:
    """What pruning cost, as fields of the JSON; empty where it was not read."""
    if damage is None:
        return {}
    return {"loss_before": damage.loss_before, "loss_pruned": damage.loss_pruned, "held_out": damage.to_dict()}


def print_damage(damage: Damage | None) -> None:
    """What pruning cost, in a line or two; nothing where it was not read."""
    if damage is None:
        return
    typer.echo(f"held-out loss: {damage.loss_before:.4f} before, {damage.loss_pruned:.4f} right after pruning")
    typer.echo(damage.sentence())
    if damage.note:
        print(f"note: {damage.note}", file=sys.stderr)

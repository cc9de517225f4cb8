"""`regrow prune --method depth+width`: the mix of both with the lowest loss on calibration text."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regrow.cli.held_out import HeldOutLoss
from regrow.cli.needs import need_training
from regrow.cli.options import print_json
from regrow.cli.prune_output import damage_fields, print_damage, print_served, served_by
from regrow.cli.tables import print_table
from regrow.errors import InputError
from regrow.methods import DEPTH_AND_WIDTH
from regrow.units import parse_count, plural

if TYPE_CHECKING:
    from regrow.planning.damage import Damage
    from regrow.pruning.joint_spec import JointPlan
    from regrow.serving.changed import NewLimit

Mixes = Annotated[
    int | None,
    typer.Option(
        help="depth+width: how many mixes of both are tried; the one of least calibration loss is kept. [default: 5]",
        show_default=False,
    ),
]

#: What the mix of both takes of the options of `prune`.
_TAKEN = ("method", "rate", "params", "active_params", "memory", "mixes", "held_out", "law")


def prune_mixes(
    model: str,
    folder: str,
    asked: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    calibration: str | None,
    out: Path | None,
    dry_run: bool,
    overwrite: bool,
    device: str,
    precision: str,
    cache: bool,
    as_json: bool,
) -> None:
    """Prune by the best mix, or with `dry_run` list the mixes. `asked` holds the options that were given.

    Raises `InputError` for an option that belongs to one of the two methods alone.
    """
    stray = [f"--{name.replace('_', '-')}" for name in asked if name not in _TAKEN]
    if stray:
        raise InputError(
            f"{stray[0]} with depth+width",
            where="--method",
            hint="it takes --rate, --params, --active-params or --max-memory, --mixes, --held-out and --law",
        )
    if out is None and not dry_run:
        raise InputError("no output folder given", where="--out", hint="name one, or ask for a --dry-run")
    given = {name: asked[name] for name in ("rate", "memory", "mixes") if name in asked}
    for name in ("params", "active_params"):
        if name in asked:
            given[name] = parse_count(asked[name], what=f"--{name.replace('_', '-')}")
    from regrow.pruning.joint_spec import JointPlan, JointSpec, mixes_of

    spec = JointSpec(**given, **options)
    if dry_run:
        from regrow.arch import find_architecture

        before = find_architecture(folder)
        _print(JointPlan(before=before, mixes=tuple(mixes_of(before, spec))), model, None, as_json=as_json)
        return
    assert out is not None
    need_training("regrow prune")
    if calibration is None and folder == model:
        raise InputError("depth+width needs text", where="--calibration", hint="give text data, or `ladder`")
    from regrow.cli.loading import load_blocks
    from regrow.ladder import find_corpus
    from regrow.pruning.joint import prune_jointly

    measured = HeldOutLoss.asked(asked, folder, DEPTH_AND_WIDTH, cache=cache)
    text = find_corpus(calibration or "ladder", "post_train")
    done = prune_jointly(
        folder,
        spec,
        calibration=load_blocks(text, folder, sequence_length=spec.calibration_length, cache=cache),
        out=out,
        overwrite=overwrite,
        device=device,
        precision=precision,
        text_name="ladder" if calibration in (None, "ladder") else None,
        model_name=model,
        progress=lambda line: print(line, file=sys.stderr),
    )
    damage = None if measured is None else measured.read(out, device=device)
    _print(done, model, out, as_json=as_json, damage=damage, served=served_by(folder, out))


def _print(
    done: JointPlan,
    model: str,
    out: Path | None,
    *,
    as_json: bool,
    damage: Damage | None = None,
    served: Sequence[NewLimit] = (),
) -> None:
    if as_json:
        more = {**damage_fields(damage), "serving": [new.to_dict() for new in served]}
        print_json({**done.to_dict(), "out": None if out is None else str(out), **more})
        return
    rows = [
        [
            ">" if mix is done.chosen else "", str(mix.layers), str(mix.after.hidden), str(mix.after.intermediate),
            str(mix.after.kv_heads), f"{mix.pruning_rate:.4f}", "-" if mix.loss is None else f"{mix.loss:.4f}",
        ]
        for mix in done.mixes
    ]  # fmt: skip
    columns = ["", "blocks", "hidden", "intermediate", "KV heads", "rate", "calibration loss"]
    print_table(f"{model}: depth+width, {plural(done.before.layers, 'block')} before", columns, rows)
    if all(mix.loss is None for mix in done.mixes):
        typer.echo("text will choose among these mixes (--calibration)")
    print_damage(damage)
    print_served(served)
    if out is not None:
        typer.echo(f"written to {out}")

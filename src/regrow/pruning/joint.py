"""Depth and width together: the mix of both that meets a target with the lowest loss on calibration text.

Each mix drops some blocks and then narrows the rest to the target. The mixes tried go from width alone to depth alone,
with numbers of blocks spread evenly between. Each is pruned like any model and read on the same text; the best one is
kept.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from regrow.active import check_active
from regrow.arch import Architecture
from regrow.data import Blocks, read_blocks
from regrow.errors import InputError
from regrow.footprint import MemoryTarget, shapes_for_memory
from regrow.methods import DEPTH, DEPTH_AND_WIDTH, WIDTH
from regrow.models.beside import PRUNE_RECORD
from regrow.models.load import load_tokenizer, local_checkpoint, read_config
from regrow.models.save import check_output, staged_folder
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.card import CARD, joint_card
from regrow.pruning.plan import PrunePlan
from regrow.pruning.prune import prune
from regrow.pruning.search import SEARCH_TOKENS, walk_loss
from regrow.pruning.spec import AXES, PruneSpec
from regrow.pruning.stream import open_stream
from regrow.shapes import ACTIVE, PARAMS, Counted, rate_between, shapes_for_rate
from regrow.units import check_rate, read_fields

#: Mixes tried where nothing else is asked.
MIXES = 5
#: A shape this near to the target, as a share of the parameters, meets it.
_NEAR = 0.005


@dataclass(frozen=True, kw_only=True)
class JointSpec:
    """What to prune in depth and width together.

    Attributes:
        rate, params, active_params, memory: the target, one of them; see `PruneSpec`.
        mixes: how many mixes are tried.
        calibration_blocks, calibration_length, seed: of the text that scores and losses are measured on.

    Raises `InputError` for anything that cannot be.
    """

    rate: float | None = None
    params: int | None = None
    active_params: int | None = None
    memory: MemoryTarget | None = None
    mixes: int = MIXES
    calibration_blocks: int = 32
    calibration_length: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("rate", "params", "active_params", "memory") if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) or "no target"
            raise InputError(
                f"{what} given", where=DEPTH_AND_WIDTH, hint="give a rate, params, active_params or a memory target"
            )
        read_fields(self, counts=("params", "active_params"), numbers=("rate",), where=DEPTH_AND_WIDTH)
        if self.rate is not None:
            check_rate(self.rate, where="rate")
        if self.mixes < 2:
            raise InputError(f"{self.mixes} mixes", where=DEPTH_AND_WIDTH, hint="give at least 2 to choose from")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """A mix: the blocks that stay, the shape that is left, and its loss on the calibration text (nats/token)."""

    layers: int
    after: Architecture
    pruning_rate: float
    loss: float | None = None


def mixes_of(before: Architecture, spec: JointSpec) -> list[Mix]:
    """The mixes that meet a target, width alone first. Raises `InputError` if none does."""
    if spec.active_params is not None:
        check_active(before, spec.active_params)
    fewest = _fewest_layers(before, spec)
    count = min(spec.mixes, before.layers - fewest + 1)
    steps = {round(before.layers - k * (before.layers - fewest) / max(1, count - 1)) for k in range(count)}
    found: dict[Architecture, Mix] = {}
    refused: InputError | None = None
    for layers in sorted(steps, reverse=True):
        shorter = before.with_shape(layers=layers)
        try:
            after = _narrowed(before, shorter, spec)
        except InputError as error:
            refused = error
            continue
        found.setdefault(after, Mix(layers=layers, after=after, pruning_rate=rate_between(before, after)))
    if not found and refused is not None:
        raise refused
    return list(found.values())


def _counted(spec: JointSpec) -> Counted:
    """What the target counts: all parameters, or those of a token."""
    return PARAMS if spec.active_params is None else ACTIVE


def _wanted(before: Architecture, spec: JointSpec) -> float:
    """What a rate or a count leaves of what is counted."""
    count = spec.params if spec.active_params is None else spec.active_params
    return float(count) if count is not None else (1 - (spec.rate or 0.0)) * before.params


def _meets(shape: Architecture, before: Architecture, spec: JointSpec) -> bool:
    if spec.memory is not None:
        return spec.memory.footprint(shape).total <= spec.memory.limit
    of = _counted(spec).of
    return of(shape) <= _wanted(before, spec) + _NEAR * of(before)


def _fewest_layers(before: Architecture, spec: JointSpec) -> int:
    """The blocks that depth alone leaves; 1 where it can't meet the target."""
    counts = (layers for layers in range(before.layers - 1, 0, -1))
    return next((layers for layers in counts if _meets(before.with_shape(layers=layers), before, spec)), 1)


def _narrowed(before: Architecture, shorter: Architecture, spec: JointSpec) -> Architecture:
    """The shape that width leaves of a model with fewer blocks. Raises `InputError` if none meets the target."""
    if shorter != before and _meets(shorter, before, spec):
        return shorter
    if spec.memory is not None:
        return shapes_for_memory(shorter, spec.memory)[0]
    counted = _counted(spec)
    return shapes_for_rate(shorter, 1 - _wanted(before, spec) / counted.of(shorter), 1, counted=counted)[0]


@dataclass(frozen=True, kw_only=True)
class JointPlan:
    """The mixes that were tried, in their order, and the one that was taken; None for what was not measured."""

    before: Architecture
    mixes: tuple[Mix, ...]
    chosen: Mix | None = None
    steps: tuple[PrunePlan, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "method": DEPTH_AND_WIDTH,
            "params_before": self.before.params,
            "mixes": [_plain(mix) for mix in self.mixes],
            "chosen": None if self.chosen is None else _plain(self.chosen),
        }


def _plain(mix: Mix) -> dict[str, Any]:
    sizes = {name: getattr(mix.after, name) for name in ("layers", "hidden", "intermediate", "kv_heads", "params")}
    return {**sizes, "pruning_rate": mix.pruning_rate, "loss": mix.loss}


def prune_jointly(
    path: str | Path,
    spec: JointSpec,
    *,
    calibration: Blocks | str | None,
    out: str | Path | None,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    text_name: str | None = None,
    model_name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> JointPlan:
    """Prune a checkpoint folder in depth and width by the mix with the lowest loss on calibration text.

    Arguments and errors are those of `regrow.pruning.prune.prune`. With `out` None the mixes are listed and nothing is
    measured. Each mix costs a pruning in each of its directions and a forward pass. Two pruned models at most are on
    the disk at a time, beside `out`.
    """
    say = progress or (lambda line: None)
    folder = local_checkpoint(path)
    config, before = read_config(folder)
    if spec.memory is not None:
        spec = replace(spec, memory=spec.memory.for_config(config.to_dict()))
    mixes = mixes_of(before, spec)
    if out is None:
        return JointPlan(before=before, mixes=tuple(mixes))
    if calibration is None:
        raise InputError(f"{DEPTH_AND_WIDTH} needs text", where="calibration", hint="give text data, or `ladder`")
    check_output(out, overwrite=overwrite)
    length = min(spec.calibration_length, getattr(config, "max_position_embeddings", None) or spec.calibration_length)
    if isinstance(calibration, str):
        calibration = read_blocks(calibration, load_tokenizer(folder), sequence_length=length)
    tokens = choose_blocks(calibration, count=spec.calibration_blocks, length=length, seed=spec.seed)
    tokens = tokens[: max(1, SEARCH_TOKENS // tokens.shape[1])]
    parent = Path(out).resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    work = _Work(folder, spec, before, calibration, device, text_name)
    with staged_folder(out, overwrite=overwrite) as stage, TemporaryDirectory(dir=parent, prefix=".regrow-") as scratch:
        tried: list[Mix] = []
        best: tuple[Mix, Path, list[PrunePlan]] | None = None
        for number, mix in enumerate(mixes, 1):
            made, steps = work.prune(mix, Path(scratch) / str(number), say)
            loss = walk_loss(open_stream(made, device=device), tokens)
            tried.append(replace(mix, loss=loss))
            say(f"mix {number} of {len(mixes)}: {_said(mix)}: loss {loss:.4f}")
            if best is None or loss < (best[0].loss or 0.0):
                if best is not None:
                    shutil.rmtree(best[1].parent)
                best = tried[-1], made, steps
            else:
                shutil.rmtree(made.parent)
        assert best is not None
        plan = JointPlan(before=before, mixes=tuple(tried), chosen=best[0], steps=tuple(best[2]))
        _finish(best[1], plan, spec, model_name or str(path), str(folder))
        for file in best[1].iterdir():
            shutil.move(str(file), stage / file.name)
    return plan


def _said(mix: Mix) -> str:
    after = mix.after
    return f"{after.layers} blocks, hidden {after.hidden}, intermediate {after.intermediate}, KV heads {after.kv_heads}"


@dataclass(frozen=True)
class _Work:
    """What every mix is pruned with."""

    folder: Path
    spec: JointSpec
    before: Architecture
    calibration: Blocks
    device: str | torch.device | None
    text_name: str | None

    def prune(self, mix: Mix, place: Path, say: Callable[[str], None]) -> tuple[Path, list[PrunePlan]]:
        """The pruned model of a mix, and the plan of each step; it lies in a folder of its own in `place`."""
        asked: dict[str, Any] = {
            "calibration_blocks": self.spec.calibration_blocks,
            "calibration_length": self.spec.calibration_length,
            "seed": self.spec.seed,
        }
        specs = []
        if mix.layers < self.before.layers:
            specs.append(PruneSpec(method=DEPTH, shape={"layers": mix.layers}, **asked))
        sizes = {
            axis: getattr(mix.after, axis) for axis in AXES if getattr(mix.after, axis) < getattr(self.before, axis)
        }
        if sizes:
            specs.append(PruneSpec(method=WIDTH, shape=sizes, **asked))
        source, plans = self.folder, []
        for spec in specs:
            made = place / spec.method
            plans.append(
                prune(
                    source, spec, calibration=self.calibration, out=made, device=self.device,
                    text_name=self.text_name, progress=say,
                )
            )  # fmt: skip
            source = made
        for made in place.iterdir():
            if made != source:
                shutil.rmtree(made)
        return source, plans


def _finish(made: Path, plan: JointPlan, spec: JointSpec, name: str, folder: str) -> None:
    """The record and the card of the mix that was taken, in the place of those of its last step."""
    chosen = plan.chosen
    assert chosen is not None
    last = json.loads((made / PRUNE_RECORD).read_text(encoding="utf-8"))
    mixes = [_plain(mix) for mix in plan.mixes]
    if len(plan.steps) == 1:  # depth or width alone was best: its own record and card hold
        record = {**last, "model": name, "mixes": mixes}
    else:
        whole = {
            "method": DEPTH_AND_WIDTH,
            "params_before": plan.before.params,
            "params_after": chosen.after.params,
            "pruning_rate": chosen.pruning_rate,
            "steps": [step.to_dict() for step in plan.steps],
        }
        record = {
            "model": name,
            **{key: whole[key] for key in ("params_before", "params_after", "pruning_rate")},
            "spec": {"method": DEPTH_AND_WIDTH, **asdict(spec)},
            "plan": whole,
            "mixes": mixes,
            "calibration": last["calibration"],
            "sparsity": None,
            "versions": last["versions"],
        }
        card = joint_card(folder, name, plan.steps, last["calibration"], last["versions"], command_of(name, spec, last))
        (made / CARD).write_text(card, encoding="utf-8")
    (made / PRUNE_RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def command_of(name: str, spec: JointSpec, record: Mapping[str, Any]) -> str:
    """The command line that does the same again."""
    target: dict[str, Any] = {"rate": spec.rate, "params": spec.params, "active-params": spec.active_params}
    if spec.memory is not None:
        memory = spec.memory
        target |= {"max-memory": memory.max_memory, "context": memory.context, "batch": memory.batch}
        target |= {"dtype": memory.dtype, "cache-dtype": memory.cache_dtype}
    text = record["calibration"].get("name") or "TEXT"
    options = {"method": DEPTH_AND_WIDTH, **target, "mixes": spec.mixes, "calibration": text, "seed": spec.seed}
    words = [word for key, value in options.items() if value is not None for word in (f"--{key}", str(value))]
    return shlex.join(["regrow", "prune", name, *words, "--out", "pruned"])

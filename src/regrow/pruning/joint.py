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

from regrow.arch import Architecture
from regrow.data import Blocks, read_blocks
from regrow.errors import InputError
from regrow.methods import DEPTH, DEPTH_AND_WIDTH, WIDTH
from regrow.models.beside import PRUNE_RECORD
from regrow.models.load import load_tokenizer, local_checkpoint, read_config
from regrow.models.save import check_output, staged_folder
from regrow.pruning.calibration import choose_blocks
from regrow.pruning.card import CARD, joint_card
from regrow.pruning.joint_spec import JointPlan, JointSpec, Mix, mixes_of
from regrow.pruning.plan import PrunePlan
from regrow.pruning.prune import prune
from regrow.pruning.search import SEARCH_TOKENS, walk_loss
from regrow.pruning.spec import AXES, PruneSpec
from regrow.pruning.stream import open_stream


def prune_jointly(
    path: str | Path,
    spec: JointSpec,
    *,
    calibration: Blocks | str | None,
    out: str | Path | None,
    overwrite: bool = False,
    device: str | torch.device | None = None,
    precision: str = "auto",
    text_name: str | None = None,
    model_name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> JointPlan:
    """Prune a checkpoint folder in depth and width by the mix with the lowest loss on calibration text.

    Arguments and errors are those of `regrow.pruning.prune.prune`. With `out` None the mixes are listed and nothing is
    measured (`regrow.pruning.joint_spec.mixes_of` does that without a checkpoint). Each mix costs a pruning in each of
    its directions and a forward pass. Two pruned models at most are on the disk at a time, beside `out`.
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
    work = _Work(folder, spec, before, calibration, device, precision, text_name)
    with staged_folder(out, overwrite=overwrite) as stage, TemporaryDirectory(dir=parent, prefix=".regrow-") as scratch:
        tried: list[Mix] = []
        best: tuple[Mix, Path, list[PrunePlan]] | None = None
        for number, mix in enumerate(mixes, 1):
            made, steps = work.prune(mix, Path(scratch) / str(number), say)
            loss = walk_loss(open_stream(made, device=device, precision=precision), tokens)
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
    precision: str
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
                    precision=self.precision, text_name=self.text_name, progress=say,
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
    mixes = [mix.to_dict() for mix in plan.mixes]
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
    options = {"method": DEPTH_AND_WIDTH, **target, "mixes": spec.mixes, "calibration": text}
    options |= {"precision": record["calibration"].get("precision"), "seed": spec.seed}
    words = [word for key, value in options.items() if value is not None for word in (f"--{key}", str(value))]
    return shlex.join(["regrow", "prune", name, *words, "--out", "pruned"])

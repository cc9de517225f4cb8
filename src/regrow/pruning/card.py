"""The model card of a pruned model: what was done to which model, in numbers, and how to repeat it. Light: no torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from regrow.methods import DEPTH, DEPTH_AND_WIDTH, EXPERTS, WIDTH
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scorers import N_M, find_scorer
from regrow.pruning.spec import PruneSpec
from regrow.units import format_count, format_si, plural

#: The file that Hugging Face shows as a model's card.
CARD = "README.md"

#: Front matter that a pruned model takes over from the original's card, as the same terms hold.
INHERITED = ("license", "license_name", "license_link", "language")

#: What a card says of use, until the held-out losses are read.
_UNMEASURED = "The model was not trained after pruning, and its losses were not measured: post-train it before use."
_MEASURED = "The model was not trained after pruning: post-train it before use."

_WHAT = {
    DEPTH: "whole decoder blocks were removed",
    WIDTH: "feed-forward neurons, residual channels or KV groups with their query heads were removed",
    EXPERTS: "whole experts of every decoder block were removed, with their rows of the router",
    N_M: "weights of the decoder blocks' linear layers were set to zero, in place: the file is a dense checkpoint",
}

#: What a card says of the speed of zeros; the sources stand in docs/pruning.md.
_ZEROS = (
    "The zeros make this model neither smaller nor faster by themselves: a runtime reads the file as a dense model, "
    "unless it has kernels for the pattern."
)
_RUNTIMES_2_4 = (
    "In 2026 three projects removed their support of 2:4: vLLM (pull request vllm-project/vllm#36799), llm-compressor "
    "(vllm-project/llm-compressor#2452) and torchao (pytorch/ao#4728). PyTorch 2.13 still multiplies 2:4 matrices on "
    "CUDA GPUs, as a prototype: `torch.sparse.to_sparse_semi_structured`."
)

_USE = (
    "## Use",
    "",
    "```python",
    "from transformers import AutoModelForCausalLM, AutoTokenizer",
    "",
    'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", dtype="auto")',
    'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
    "```",
    "",
)


def model_card(
    model: str, spec: PruneSpec, plan: PrunePlan, calibration: Mapping[str, Any] | None, versions: Mapping[str, str]
) -> str:
    """The card as Markdown with YAML front matter.

    Args:
        model: what was pruned: a folder or a Hub name.
        spec: what was asked.
        plan: what was done.
        calibration: `blocks`, `length`, `data_fingerprint`, and `name` or `files`, of the text that was used; None if
            none was.
        versions: library versions by name.
    """
    folder = Path(model).expanduser()
    name = folder.resolve().name if folder.is_dir() else model
    scorer = find_scorer(plan.method, plan.scorer).description
    again = " removed one by one, measured again after each" if spec.iterative else ""
    lines = [
        *_front_matter(folder, name, spec),
        f"# {name}, pruned ({plan.method})",
        "",
        f"regrow pruned {name} by {plan.method}: {_WHAT[spec.kind]}, chosen by {scorer}"
        f"{',' if again else ''}{again}. "
        f"{format_count(plan.params_before)} parameters became {format_count(plan.params_after)}"
        f"{' that are not zero' if plan.pattern else ''}, a pruning rate of {plan.pruning_rate:.4f}.",
        "",
        *_table(plan_rows(plan)),
        "",
        "Parameters are totals with tied embeddings counted once; the non-embedding count leaves the embeddings out.",
        *[f"\nNote: {note}." for note in plan.notes],
        *(
            [f"\nBlocks removed (numbered as in the original): {', '.join(map(str, plan.dropped_layers))}."]
            if plan.dropped_layers
            else []
        ),
        *_tried(plan),
        *_runtimes(plan),
        "",
        *_ending(calibration, command(name, spec, calibration), _by_plan(name, plan), versions),
    ]
    return "\n".join(lines)


def joint_card(
    folder: str,
    name: str,
    steps: Sequence[PrunePlan],
    calibration: Mapping[str, Any],
    versions: Mapping[str, str],
    again: str,
) -> str:
    """The card of a model that was pruned in depth and then in width. Arguments as for `model_card`; `steps` are the
    plans of both, `again` is the command that does the same."""
    first, last = steps[0], steps[-1]
    whole = replace(first, method=DEPTH_AND_WIDTH, after=last.after, target_rate=None, dropped_layers=None)
    base = Path(folder).resolve().name if Path(folder).is_dir() else name
    matter = _front_matter(Path(folder), base, PruneSpec(method=DEPTH, shape={"layers": first.after.layers}))
    lines = [
        *[line.replace('"depth-pruning"', '"depth-pruning", "width-pruning"') for line in matter],
        f"# {base}, pruned ({DEPTH_AND_WIDTH})",
        "",
        f"regrow pruned {base} by {DEPTH_AND_WIDTH}: {_WHAT[DEPTH]}, and then {_WHAT[WIDTH]}. "
        f"{format_count(whole.params_before)} parameters became {format_count(whole.params_after)}, a pruning rate of "
        f"{whole.pruning_rate:.4f}. Of several mixes that meet the target, this one had the lowest loss on the "
        "calibration text; `regrow_prune.json` lists them all.",
        "",
        *_table(plan_rows(whole)),
        "",
        "Parameters are totals with tied embeddings counted once; the non-embedding count leaves the embeddings out.",
        f"\nBlocks removed (numbered as in the original): {', '.join(map(str, first.dropped_layers or ()))}.",
        "",
        *_ending(calibration, again, [], versions),
    ]
    return "\n".join(lines)


def _ending(
    calibration: Mapping[str, Any] | None, again: str, more: Sequence[str], versions: Mapping[str, str]
) -> list[str]:
    """What every card ends with: the loss, the text, how to load it, the command `again`, and the versions."""
    return [
        _UNMEASURED,
        "",
        "## Calibration text",
        "",
        _calibration(calibration),
        "",
        *_USE,
        "## Again",
        "",
        "```sh",
        again,
        "```",
        "",
        *more,
        f"Made with regrow on {', '.join(f'{library} {version}' for library, version in versions.items())}.",
        "",
    ]


def measured_card(card: str, cost: str) -> str:
    """The card after the held-out losses were read; `cost` are the sentences on what pruning cost."""
    return f"{card.replace(_UNMEASURED, _MEASURED).rstrip()}\n\n## What pruning cost\n\n{cost}\n"


def command(model: str, spec: PruneSpec, calibration: Mapping[str, Any] | None) -> str:
    """The command line that repeats the pruning."""
    options: dict[str, Any] = {"method": spec.method, "rate": spec.rate, "params": spec.params}
    options["active-params"] = spec.active_params
    if spec.shape is not None:
        options["shape"] = ",".join(f"{axis}={size}" for axis, size in dict(spec.shape).items())
    if spec.memory is not None:
        options |= {"max-memory": spec.memory.max_memory, "context": spec.memory.context, "batch": spec.memory.batch}
        options |= {"dtype": spec.memory.dtype, "cache-dtype": spec.memory.cache_dtype}
    options["scorer"] = spec.scorer
    options["axes"] = None if spec.axes is None else ",".join(spec.axes)
    options["multiple-of"] = spec.multiple_of
    if spec.chooses_shape or spec.shapes_tried > 1:
        options["search"] = spec.shapes_tried
    if calibration is not None:
        files = calibration.get("files") or []
        options["calibration"] = calibration.get("name") or (files[0] if len(files) == 1 else "TEXT")
        options |= {"calibration-blocks": spec.calibration_blocks, "calibration-length": spec.calibration_length}
        options["precision"] = calibration.get("precision")
    options["seed"] = spec.seed
    parts = ["regrow", "prune", model]
    for name, value in options.items():
        if value is not None:
            parts += [f"--{name}", str(value)]
    parts += [f"--{name}" for name in ("iterative", "strict") if getattr(spec, name)]
    return shlex.join([*parts, "--out", "pruned"])


def plan_rows(plan: PrunePlan) -> list[list[str]]:
    """A plan as rows for people: name, before, after, change. Shapes first, then counts."""
    was, now = plan.before, plan.after
    names = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocab")
    rows = [_row(name.replace("_", " "), getattr(was, name), getattr(now, name), str) for name in names]
    if was.experts:
        rows.append(_row("experts", was.experts, now.experts, str))
    kind = " (not zero)" if plan.pattern else ""
    rows.append(_row(f"parameters{kind}", plan.params_before, plan.params_after, format_count))
    rows.append(_row(f"non-embedding{kind}", plan.non_embedding_before, plan.non_embedding_after, format_count))
    if was.experts:
        row = _row("parameters of a token", was.active_params, now.active_params, format_count)
        if plan.target_active_params is not None:
            row[3] = f"{row[3]}, asked {format_count(plan.target_active_params)}"
        rows.append(row)
    target = "" if plan.target_rate is None else f"asked {plan.target_rate:.4f}"
    if plan.target_params is not None:
        target += f" ({format_count(plan.target_params)} parameters)"
    rows.append(["pruning rate", "", f"{plan.pruning_rate:.4f}", target])
    now_bytes = plan.memory_after
    if plan.target_memory is not None and now_bytes is not None:
        was_bytes = plan.target_memory.footprint(was)
        for name in ("weights", "cache", "total"):
            before, after = getattr(was_bytes, name), getattr(now_bytes, name)
            asked = (
                f"asked {format_si(plan.target_memory.limit, 'B')}"
                if name == "total"
                else f"{100 * (after / before - 1):+.1f}%"
            )
            label = {"cache": "KV cache", "total": "memory served"}.get(name, name)
            rows.append([label, format_si(before, "B"), format_si(after, "B"), asked])
    return rows


def _row(name: str, was: int, now: int, show: Any) -> list[str]:
    return [name, show(was), show(now), "" if was == now else f"{100 * (now / was - 1):+.1f}%"]


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| | before | after | change |", "|---|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]


def _front_matter(folder: Path, name: str, spec: PruneSpec) -> list[str]:
    tag = {DEPTH: "depth-pruning", WIDTH: "width-pruning", EXPERTS: "expert-pruning", N_M: "n-m-sparsity"}[spec.kind]
    content: dict[str, Any] = {
        **_inherited(folder),
        "base_model": name,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["pruning", tag, "regrow"],
    }
    # JSON is YAML, and quotes what needs quoting
    return ["---", *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in content.items()), "---", ""]


def _inherited(folder: Path) -> dict[str, Any]:
    """Licence and language from the original's own card, if it lies in the folder and can be read."""
    import yaml

    try:
        text = (folder / CARD).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    parts = text.split("---\n", 2)
    if len(parts) < 3 or parts[0].strip():
        return {}
    try:
        matter = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return {}
    return {key: matter[key] for key in INHERITED if matter.get(key)} if isinstance(matter, Mapping) else {}


def _tried(plan: PrunePlan) -> list[str]:
    if not plan.candidates:
        return []
    rows = [
        f"| {tried.hidden} | {tried.intermediate} | {tried.kv_heads} | {tried.pruning_rate:.4f} | {tried.loss:.4f} |"
        for tried in plan.candidates
    ]
    head = [
        "",
        "Shapes that were tried, with their loss (nats/token) on the calibration text; the least was taken:",
        "",
    ]
    return [*head, "| hidden | intermediate | KV heads | rate | loss |", "|---|---|---|---|---|", *rows]


def _runtimes(plan: PrunePlan) -> list[str]:
    """The runtimes that make an N:M model faster than a dense one; empty for depth and width."""
    if not plan.pattern:
        return []
    return ["", f"{_ZEROS} {_RUNTIMES_2_4}" if plan.pattern == (2, 4) else _ZEROS]


def _calibration(calibration: Mapping[str, Any] | None) -> str:
    if calibration is None:
        return "No text was read here: the scores or the plan were made earlier, or the scorer needs none."
    files = calibration.get("files") or []
    computed = f", matrix products in {calibration['precision']}" if "precision" in calibration else ""
    named = f" from {', '.join(files[:8])}{' and others' if len(files) > 8 else ''}" if files else ""
    return (
        f"{plural(calibration['blocks'], 'block')} of {calibration['length']} tokens{named} "
        f"(fingerprint of the packed text: {calibration['data_fingerprint']}){computed}."
    )


def _by_plan(name: str, plan: PrunePlan) -> list[str]:
    if plan.pattern is not None or find_scorer(plan.method, plan.scorer).refits:
        return ["`regrow_prune.json` in this folder holds what was done, for programs.", ""]
    return [
        "`regrow_prune.json` in this folder names every part that stayed or went; with it no text is needed:",
        "",
        "```sh",
        shlex.join(["regrow", "prune", name, "--plan", "regrow_prune.json", "--out", "pruned"]),
        "```",
        "",
    ]

"""`regrow train`: post-train a checkpoint and record its curve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, NoCache, Out, print_json
from regrow.cli.training_bar import is_main_process, training_view

if TYPE_CHECKING:
    from regrow.runs import RunRecord

KeepCheckpoints = Annotated[str, typer.Option(help="How many of the latest checkpoints to keep, or `all`.")]


def train(
    model: Annotated[str, typer.Argument(help="A checkpoint folder (pruned or not), or a ladder model.")],
    data: Annotated[
        str,
        typer.Option(
            help="Text to train on (txt, jsonl, csv, parquet, a folder, hub:OWNER/NAME,tokens=N), or `ladder`."
        ),
    ],
    tokens: Annotated[str, typer.Option(help="Tokens to train on, e.g. 300k or 2B.")],
    out: Out,
    held_out: Annotated[
        str | None, typer.Option(help="Held-out text. [default: 5% of the documents of --data]")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Distil from this model (forward KL on its logits).")] = None,
    original: Annotated[
        str | None, typer.Option(help="The unpruned model, if `regrow prune` recorded another place for it.")
    ] = None,
    loss_before: Annotated[
        float | None, typer.Option(help="Held-out loss of the unpruned model, nats/token, if that model is not here.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="How another tool pruned it: `depth`, `width`, `2:4`, `sparse` (zeros in no pattern) or `none`. "
            "[default: what `regrow prune` recorded, or what the zeros of its weights show]"
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Family name: a law is fitted to the runs of one family. [default: the model type]"),
    ] = None,
    lr: Annotated[
        str, typer.Option("--lr", help="Learning rate after warm-up; `auto` takes it from the model's size.")
    ] = "auto",
    lr_probe: Annotated[
        str | None,
        typer.Option(help="First train this many tokens at each of several rates around --lr, and take the best rate."),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            help="The learning rate's: `constant` (all checkpoints can be compared), `cosine`, or `wsd` "
            "(constant, then annealed)."
        ),
    ] = "constant",
    decay_tokens: Annotated[
        str | None, typer.Option(help="Length of the annealing of `wsd`, tokens. [default: a fifth of --tokens]")
    ] = None,
    cooldown: Annotated[
        str | None, typer.Option(help="Also read an annealed loss at each milestone, on a branch of this many tokens.")
    ] = None,
    cooldown_at: Annotated[
        str | None,
        typer.Option(help="Read the annealed loss only at these milestones, tokens, e.g. 100k,1M. [default: at all]"),
    ] = None,
    average: Annotated[
        str | None, typer.Option(help="Also read the loss of averaged weights: `ema:0.99`, or `last:5` (milestones).")
    ] = None,
    warmup_tokens: Annotated[str, typer.Option(help="Tokens of linear warm-up.")] = "0",
    batch_tokens: Annotated[str, typer.Option(help="Tokens in one optimizer step.")] = "2048",
    sequence_length: Annotated[int, typer.Option(help="Tokens in a block.")] = 256,
    lora: Annotated[int, typer.Option(help="Train adapters of this rank and merge them; 0 trains everything.")] = 0,
    lora_alpha: Annotated[float | None, typer.Option(help="Scale of the adapters. [default: twice the rank]")] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Recompute activations: less memory, a third more work.")
    ] = False,
    packing: Annotated[
        str,
        typer.Option(
            help="`cross`: attention reaches earlier documents of a block. `isolated`: it stays inside each document."
        ),
    ] = "cross",
    attention: Annotated[str, typer.Option(help="How attention is computed: `sdpa`, `flash` or `eager`.")] = "sdpa",
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile the model.")] = False,
    liger: Annotated[bool, typer.Option("--liger", help="Liger's kernels, on NVIDIA GPUs.")] = False,
    shard: Annotated[
        bool,
        typer.Option(
            "--shard", help="Under torchrun: shard the parameters over the processes (FSDP2) instead of copying them."
        ),
    ] = False,
    save_every: Annotated[
        str | None, typer.Option(help="Tokens between checkpoints. [default: one at every milestone]")
    ] = None,
    keep_checkpoints: KeepCheckpoints = "2",
    micro_batch: Annotated[
        int | None,
        typer.Option(
            help="Blocks in one forward pass; gradients of the rest of a batch are accumulated. "
            "[default: the whole batch]"
        ),
    ] = None,
    eval_at: Annotated[
        str,
        typer.Option(
            help="When the held-out loss is read: `log:10`, `linear:10`, or a list of tokens such as 10k,100k."
        ),
    ] = "log:10",
    held_out_blocks: Annotated[int, typer.Option(help="Held-out blocks in every evaluation.")] = 64,
    precision: Annotated[
        str, typer.Option(help="Arithmetic: `bf16`, `fp32`, or `auto`: bf16 where it is fast.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the order of the data.")] = 0,
    temperature: Annotated[float, typer.Option(help="Temperature of the distillation.")] = 1.0,
    mix: Annotated[
        float, typer.Option(help="Share of the distillation in the loss, 0 to 1; the rest is cross-entropy.")
    ] = 1.0,
    router_loss: Annotated[
        float,
        typer.Option(
            help="Of a mixture of experts: how many times the router's balancing loss is added, e.g. 0.001; 0 for none."
        ),
    ] = 0.0,
    tasks: Annotated[
        str | None, typer.Option(help="Also read scores: benchmarks of lm-eval, or `ladder` (see `regrow eval`).")
    ] = None,
    tasks_at: Annotated[
        str | None,
        typer.Option(
            help="Tokens at which scores are read, besides start and end, e.g. 100k,1M. [default: every milestone]"
        ),
    ] = None,
    task_limit: Annotated[
        int | None, typer.Option(help="Questions to ask of each task, from the first. [default: all]")
    ] = None,
    task_shots: Annotated[
        int | None, typer.Option(help="Examples shown before each question. [default: the task's own number]")
    ] = None,
    task_path: Annotated[Path | None, typer.Option(help="A folder with task files of your own.")] = None,
    forecast: Annotated[
        str | None,
        typer.Option(
            help="Forecast the final loss at every milestone, from the run's own curve (`run`) or a law file."
        ),
    ] = None,
    stop_when: Annotated[
        str | None,
        typer.Option(
            help="End the run when the forecast meets a criterion: `gain:0.01` (nats), `slope:0.05` (nats per "
            "million tokens), "
            "`recovery:0.9` (a share) or `target:2.1` (nats/token); of a law of scores `gain:0.5` (points), "
            "`recovery:0.9` or `target:0.7`."
        ),
    ] = None,
    report_to: Annotated[
        str | None,
        typer.Option(
            help="Report the run to trackers too: wandb, tensorboard, trackio, mlflow, swanlab, clearml, ... (as "
            "transformers names them), several with commas. TensorBoard's files go to tensorboard/ in --out.",
        ),
    ] = None,
    no_cache: NoCache = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the last checkpoint of the same run, if there is one.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Post-train a model on text, and record its held-out loss at every milestone in a run folder.

    Example: `regrow train pruned --data ladder --tokens 300k --out run`
    """
    need_training("regrow train")
    from regrow.ladder import find_model
    from regrow.ladder.tasks import find_tasks
    from regrow.scores import parse_tasks
    from regrow.training.spec import TrainSpec, parse_eval_at
    from regrow.units import parse_count

    total = parse_count(tokens, what="--tokens")
    folder = find_model(model)
    spec = TrainSpec(
        tokens=total,
        batch_tokens=parse_count(batch_tokens, what="--batch-tokens"),
        sequence_length=sequence_length,
        learning_rate=_rate(lr, folder),
        schedule=schedule,
        decay_tokens=None if decay_tokens is None else parse_count(decay_tokens, what="--decay-tokens"),
        cooldown_tokens=0 if cooldown is None else parse_count(cooldown, what="--cooldown"),
        cooldown_at=() if cooldown_at is None else parse_eval_at(cooldown_at, total),
        average=average,
        lora_rank=lora,
        lora_alpha=lora_alpha,
        gradient_checkpointing=gradient_checkpointing,
        attention=attention,
        packing=packing,
        compile=compiled,
        liger=liger,
        save_every_tokens=None if save_every is None else parse_count(save_every, what="--save-every"),
        warmup_tokens=0 if warmup_tokens == "0" else parse_count(warmup_tokens, what="--warmup-tokens"),
        eval_at=parse_eval_at(eval_at, total),
        held_out_blocks=held_out_blocks,
        seed=seed,
        precision=precision,
        micro_batch_blocks=micro_batch,
        distill_temperature=temperature,
        distill_mix=mix,
        router_loss=router_loss,
        tasks=() if tasks is None else parse_tasks(tasks),
        tasks_at=() if tasks_at is None else parse_eval_at(tasks_at, total),
        task_limit=task_limit,
        task_shots=task_shots,
    )
    folders = find_tasks(spec.tasks, folder=task_path).folders if spec.tasks else ()
    held = "ladder" if held_out is None and data == "ladder" else held_out
    from regrow.training.post_train import post_train
    from regrow.training.signals import stop_on_signals

    with training_view() as view, stop_on_signals() as stop:
        record = post_train(
            model,
            data=data,
            held_out=held,
            spec=spec,
            out=out,
            original=original,
            loss_before=loss_before,
            method=method,
            family=family,
            teacher=teacher,
            lr_probe=0 if lr_probe is None else parse_count(lr_probe, what="--lr-probe"),
            resume=resume,
            cache=not no_cache,
            shard=shard,
            stop=stop,
            forecast=forecast,
            stop_when=stop_when,
            on_forecast=view.say,
            on_start=view.start,
            on_progress=view.show,
            report_to=parse_names(report_to),
            keep=parse_keep(keep_checkpoints),
            task_folders=folders,
            find=find_input,
        )
    if is_main_process():
        tell(record, out, as_json=as_json)


def parse_names(text: str | None) -> list[str]:
    """Names between commas; none of None."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def find_input(name: str, kind: str) -> str:
    """The path of a run's model or text: the ladder's lie in the package, anything else under its own name."""
    from regrow.ladder import find_corpus, find_model

    if kind in ("data", "held_out"):
        return find_corpus(name, "post_train" if kind == "data" else kind)
    return find_model(name)


def parse_keep(text: str) -> int | None:
    """`--keep-checkpoints`: a count of at least 1, or None for `all`. Raises `InputError` for anything else."""
    from regrow.units import parse_count

    return None if text == "all" else parse_count(text, what="--keep-checkpoints")


def tell(record: RunRecord, out: Path, *, as_json: bool) -> None:
    """Print how a run has ended."""
    from regrow.runs.scores import plain_scores

    first, last = record.curve[0], record.curve[-1]
    if as_json:
        print_json(
            {
                "run": record.run,
                "out": str(out),
                "tokens": last.tokens,
                "loss": last.loss,
                "loss_averaged": last.loss_averaged,
                "loss_cooled": last.loss_cooled,
                "loss_before": record.loss_before,
                "scores": plain_scores(last.scores),
                "scores_before": plain_scores(record.scores_before),
                "tokens_per_second": record.details.get("tokens_per_second"),
                "ended_by": record.details.get("ended_by"),
                "cooldown_from": record.spec.get("cooldown_from"),
            }
        )
        return
    typer.echo(
        f"{record.run}: {first.loss:.4f} -> {last.loss:.4f} nats/token "
        + (f"from {first.tokens:,} to {last.tokens:,} tokens " if first.tokens else f"after {last.tokens:,} tokens ")
        + f"(unpruned: {record.loss_before:.4f}), written to {out}"
    )
    for name, score in last.scores.items():
        begun, before = first.scores.get(name), record.scores_before.get(name)
        typer.echo(
            f"{name}: "
            + ("" if begun is None else f"{begun.value:.4f} -> ")
            + f"{score.value:.4f}"
            + ("" if before is None else f" (unpruned: {before.value:.4f})")
        )


def _rate(text: str, folder: str) -> float:
    """`--lr` as a number: the one given, or the rule's for the model in `folder`."""
    from regrow.arch import Architecture
    from regrow.errors import InputError
    from regrow.training.learning_rate import default_learning_rate

    if text == "auto":
        return default_learning_rate(Architecture.from_pretrained(folder).params)
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is not a rate", where="--lr", hint="write it like 3e-4, or auto") from None

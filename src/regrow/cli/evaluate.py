"""`regrow eval`: the held-out loss of a model, and its scores on benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, NoCache, number, print_json
from regrow.cli.tables import print_table


def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint folder, or a ladder model.")],
    data: Annotated[str | None, typer.Option(help="Text to evaluate on, or `ladder`.")] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Benchmarks of lm-eval, such as arc_easy,hellaswag:acc, or `ladder` for the ladder's own."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Questions to ask of each task, from the first; 0 for all. [default: all]")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(help="Examples shown before each question. [default: the task's own number]")
    ] = None,
    task_path: Annotated[
        Path | None, typer.Option(help="A folder with task files of your own (lm-eval's --include_path).")
    ] = None,
    batch_size: Annotated[str, typer.Option(help="Benchmark requests in one forward pass, or `auto` on a GPU.")] = "32",
    sequence_length: Annotated[
        int, typer.Option(help="Tokens of context. Losses at different contexts cannot be compared.")
    ] = 512,
    blocks: Annotated[
        int, typer.Option(help="Read at most this many blocks of --sequence-length tokens; 0 for all.")
    ] = 0,
    precision: Annotated[
        str, typer.Option(help="`fp32`, or `bf16`: faster, with an error of about 0.001 nats.")
    ] = "fp32",
    packing: Annotated[
        str,
        typer.Option(
            help="`cross`: attention reaches earlier documents of a block. `isolated`: it stays inside each document."
        ),
    ] = "cross",
    no_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Held-out loss in nats per token, benchmark scores as fractions, and how they were measured.

    Example: `regrow eval tiny-llama-3m --data ladder`

    Example: `regrow eval tiny-llama-3m --tasks ladder`
    """
    need_training("regrow eval")
    from regrow.errors import InputError, one_of
    from regrow.training.spec import PACKINGS

    one_of(packing, PACKINGS, what="packing", where="--packing")
    one_of(precision, ("fp32", "bf16"), what="precision", where="--precision")
    if data is None and tasks is None:
        raise InputError("neither --data nor --tasks", where="regrow eval", hint="say what to measure the model on")
    asked = {"--limit": limit, "--shots": shots, "--task-path": task_path}
    lone = next((option for option, value in asked.items() if tasks is None and value is not None), None)
    if lone is not None:
        raise InputError("given without --tasks", where=lone, hint="name the tasks that it is for")
    spec = None if tasks is None else _tasks_spec(tasks, limit or None, shots, task_path)
    size = _batch_size(batch_size)
    import torch

    from regrow.ladder import find_model
    from regrow.models.load import load_model

    folder = find_model(model)
    answer: dict[str, Any] = {"model": model}
    # report a wrong text or task before the weights are loaded
    held_out = None if data is None else _blocks(data, folder, sequence_length, blocks, not no_cache)
    harness = None if spec is None else _harness(spec, folder, size)
    network = load_model(folder, dtype=torch.float32 if precision == "fp32" else torch.bfloat16, device=_device())
    if held_out is not None:
        from dataclasses import asdict

        from regrow.cli.reading_bar import reading_bar
        from regrow.evaluation import evaluate as run
        from regrow.models.memory import keep_freed_memory

        keep_freed_memory()
        with reading_bar(held_out.n_tokens) as progress:
            found = run(network, held_out, isolated=packing == "isolated", progress=progress)
        answer |= {"data": data, "packing": packing, **asdict(found)}
    if harness is not None:
        results = harness(network)
        how = harness.how(results)
        answer["tasks"] = {
            name: {**how[name], **result.score.to_dict(), "metrics": dict(result.metrics)}
            for name, result in results.items()
        }
        answer["precision"] = precision
    if as_json:
        print_json(answer)
    else:
        _tell(answer)


def _tell(answer: dict[str, Any]) -> None:
    if "loss" in answer:
        typer.echo(
            f"{answer['model']}: {answer['loss']:.4f} nats/token over {answer['tokens']:,} held-out tokens "
            f"at a context of {answer['sequence_length']}"
        )
    if "tasks" in answer:
        print_table(
            "",
            ["task", "score", "+-", "chance", "questions", "shots", "metric", "version"],
            [
                [
                    name,
                    number(found["value"], ".4f"),
                    number(found.get("stderr"), ".4f"),
                    number(found.get("chance"), ".4f"),
                    str(found["questions"] or "-"),
                    "-" if found["shots"] is None else str(found["shots"]),
                    found["metric"],
                    found["version"] or "-",
                ]
                for name, found in answer["tasks"].items()
            ],
        )


def _tasks_spec(tasks: str, limit: int | None, shots: int | None, folder: Path | None) -> Any:
    from regrow.ladder.tasks import find_tasks
    from regrow.scores import parse_tasks

    return find_tasks(parse_tasks(tasks), limit=limit, shots=shots, folder=folder)


def _batch_size(text: str) -> int | str:
    from regrow.errors import InputError

    if text.startswith("auto"):
        return text
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"a batch of {text!r}", where="--batch-size", hint="give a number of requests, or auto")
    return int(text)


def _blocks(data: str, folder: str, sequence_length: int, blocks: int, cache: bool) -> Any:
    from regrow.cli.loading import load_blocks
    from regrow.ladder import find_corpus

    return load_blocks(
        find_corpus(data, "held_out"), folder, sequence_length=sequence_length, limit=blocks or None, cache=cache
    )


def _harness(spec: Any, folder: str, batch_size: int | str) -> Any:
    from regrow.models.load import load_tokenizer
    from regrow.scores.harness import Harness

    return Harness(spec, load_tokenizer(folder), batch_size=batch_size, progress=True)


def _device() -> str:
    """The GPU where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"

"""`regrow ladder`: the embedded models, and how to make them again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.needs import need_training
from regrow.cli.options import AsJson, Out, print_json
from regrow.cli.tables import print_table

app = typer.Typer(
    help="The embedded tiny models: list them, check them, build them again, write their tasks.", no_args_is_help=True
)


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """The ladder's models with their sizes and held-out losses, their weights checked against their checksums.

    Example: `regrow ladder list`
    """
    from regrow.ladder.assets import installed_models
    from regrow.units import format_count

    models = installed_models()
    if as_json:
        print_json({"models": models})
        return
    print_table(
        "",
        ["model", "parameters", "trained on", "held-out loss", "weights"],
        [
            [
                m["rung"],
                format_count(m["params"]),
                format_count(m["train_tokens"]),
                f"{m['held_out_loss']:.4f}",
                "whole" if m["whole"] else "CHANGED",
            ]
            for m in models
        ],
    )


@app.command("build")
def build(
    out: Annotated[Path | None, typer.Option("--out", help="Folder to build in. [default: the package's own]")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Train only this model; may be repeated.")] = None,
    keep_corpus: Annotated[
        bool, typer.Option("--keep-corpus", help="Train on the existing corpus instead of building it.")
    ] = False,
) -> None:
    """Corpus, tokenizer and models from nothing. Hours on two CPU cores; resumes from its last checkpoint.

    Example: `regrow ladder build --out ladder`
    """
    need_training("regrow ladder build")
    from regrow.ladder.assets import ASSETS
    from regrow.ladder.build import build_ladder

    build_ladder(out or ASSETS, only=only or None, keep_corpus=keep_corpus, say=lambda line: typer.echo(line, err=True))


@app.command("tasks")
def tasks(
    out: Out,
    questions: Annotated[int, typer.Option(help="Questions of each kind.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed that selects the questions.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Multiple-choice questions from the ladder's held-out text, as task files for lm-eval.

    `regrow eval MODEL --tasks ladder` makes them by itself; written to a folder they can be read and changed, and asked
    with `--task-path`.

    Example: `regrow ladder tasks --out tasks`
    """
    from regrow.ladder.tasks import make_tasks

    files = make_tasks(out, questions=questions, seed=seed)
    if as_json:
        print_json(
            {"out": str(out), "questions": questions, "seed": seed, "tasks": {n: str(f) for n, f in files.items()}}
        )
        return
    typer.echo(f"{questions:,} questions each of {', '.join(files)}, written to {out}")

"""The `regrow` command: gathers the commands and turns errors into one line and an exit code."""

# without `from __future__ import annotations`: typer would compile the annotation of `--version` at each start
import atexit
import gc
import os
import sys
import warnings
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from regrow.errors import RegrowError, printable

#: Commands and where each lives. The one that is named first on the command line is imported alone, so that
#: `regrow plan` does not wait for the others.
COMMANDS = {
    "demo": "demo:demo",
    "prune": "prune:prune",
    "check": "check:check",
    "train": "train:train",
    "cooldown": "cooldown:cooldown",
    "eval": "evaluate:evaluate",
    "study": "study:study",
    "import": "importing:import_logs",
    "runs": "runs:app",
    "fit": "fit:fit",
    "validate": "validate:validate",
    "predict": "predict:predict",
    "plan": "plan:plan",
    "design": "design:design",
    "report": "report:report",
    "ladder": "ladder:app",
}

#: Exit code of a command that Ctrl-C ended, as shells have it.
_INTERRUPTED = 130

#: What the same command does after Ctrl-C; one that is not named here starts over.
_AFTER_INTERRUPT = {
    "train": "the same command with --resume goes on",
    "cooldown": "the same command with --resume goes on",
    "study": "the same command goes on",
    "demo": "the same command goes on",
    "import": "the same command goes on",
    "ladder": "the same command goes on",
}

#: Commands that answer from a law file, in about the time that Python takes to start.
QUICK = ("plan", "predict")


def _version(wanted: bool) -> None:
    if wanted:
        from regrow import __version__

        typer.echo(f"regrow {__version__}")
        raise typer.Exit


def build_app(names: Iterable[str] = COMMANDS, *, completion: bool = False) -> typer.Typer:
    """The command line with these commands; `completion` adds the options that install it for a shell."""
    app = typer.Typer(
        name="regrow",
        help="Prune a language model, regrow it, and know how many tokens it will take before you pay for them.",
        no_args_is_help=True,
        add_completion=completion,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    # without a callback, an app of one command would take the command's name for its first argument
    @app.callback()
    def group(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
        ] = False,
    ) -> None:
        pass

    for name in names:
        module, _, attribute = COMMANDS[name].partition(":")
        command = getattr(import_module(f"regrow.cli.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
    if category.__module__.startswith("regrow"):
        print(f"warning: {printable(str(message))}", file=sys.stderr)


def main() -> None:
    """Entry point. Exit 0 on success, 2 with one line `error: ...` on bad input, 1 on failure."""
    warnings.showwarning = _show_warning
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    if first in QUICK:
        # starting makes objects that live to the end; looking for cycles among them, and again at the exit, takes a
        # tenth of the time
        gc.set_threshold(50_000)
        atexit.register(gc.freeze)
    try:
        app = build_app([first]) if first in COMMANDS else build_app(completion=True)
        code = app(standalone_mode=False, prog_name="regrow") or 0
        if code == _INTERRUPTED:  # typer makes this of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(code)
    except RegrowError as error:
        _fail(str(error), error.exit_code)
    except TyperException as error:
        message = error.format_message().rstrip(". ")
        # no_args_is_help has printed the help and raises without a message
        _fail(f"{message}; `{_help_of(error)}` says more", 2) if message else sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        then = _AFTER_INTERRUPT.get(first, "the same command starts over")
        _fail(f"interrupted; what is on disk is whole, {then}", _INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "regrow":
            raise
        from regrow.cli.needs import INSTALL

        _fail(f"this command needs {error.name}; install it with: {INSTALL}", 2)
    except Exception as error:
        if os.environ.get("REGROW_DEBUG"):
            raise
        _fail(f"unexpected {type(error).__name__}: {error}; REGROW_DEBUG=1 shows where; please report it", 1)


def _help_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'regrow'} --help"


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(printable(message).split())}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

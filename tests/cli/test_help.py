"""Every `--help` names defaults, choices and units, and shows what is written."""

import re

import pytest
import typer
from rich.emoji import Emoji

from regrow.cli.importing import FORMATS
from regrow.cli.main import COMMANDS, build_app
from regrow.laws.forms import FORMS
from regrow.planning.cost import GPUS
from regrow.planning.criteria import CRITERIA
from regrow.pruning.scorers import SCORERS
from regrow.runs.importers import UNITS
from regrow.training.spec import ATTENTIONS, PACKINGS, PRECISIONS, SCHEDULES


def parameters(command, path=()):
    """(path of a command, one of its parameters) for all of them."""
    for name, sub in getattr(command, "commands", {}).items():
        yield from parameters(sub, (*path, name))
    if not hasattr(command, "commands"):
        yield from (((" ".join(path)), parameter) for parameter in command.params)


ALL = [(path, p) for path, p in parameters(typer.main.get_command(build_app())) if p.name != "help"]


def help_of(path, option):
    (found,) = [p.help for where, p in ALL if where == path and option in p.opts]
    return found


def test_every_parameter_has_a_help_that_is_shown_as_it_stands():
    assert len(ALL) > 250
    for path, parameter in ALL:
        assert parameter.help, (path, parameter.opts)
        assert Emoji.replace(parameter.help) == parameter.help, (path, parameter.opts)
        # a default in words is marked as typer marks those that are values
        assert not re.search(r"\[(?!default: |required )[^\]]*\]$", parameter.help), (path, parameter.opts)
        assert "by default" not in parameter.help, (path, parameter.opts)


@pytest.mark.parametrize(
    ("path", "option", "choices"),
    [
        ("fit", "--form", FORMS),
        ("plan", "--gpu", GPUS),
        ("design", "--gpu", GPUS),
        ("report", "--gpu", GPUS),
        ("plan", "--criterion", CRITERIA),
        ("prune", "--scorer", [name for _, name in SCORERS]),
        ("import", "--unit", UNITS),
        ("import", "--as", FORMATS.split(", ")),
        ("train", "--schedule", SCHEDULES),
        ("train", "--precision", PRECISIONS),
        ("train", "--attention", ATTENTIONS),
        ("train", "--packing", PACKINGS),
        ("validate", "--hold-out", ["size", "rate", "tokens", "run", "method", "family"]),
    ],
)
def test_choices_are_all_named(path, option, choices):
    words = set(re.findall(r"[\w.:-]+", help_of(path, option).replace("`", " ")))
    missing = [choice for choice in choices if choice not in words and f"{choice}:" not in words]
    assert not [choice for choice in missing if f"{choice}." not in words]


@pytest.mark.parametrize(
    ("option", "unit"),
    [
        ("--loss-before", "nats/token"),
        ("--loss-pruned", "nats/token"),
        ("--rate", "share of the parameters|fraction"),
        ("--level", "fraction"),
        ("--min-gain", "nats"),
        ("--max-slope", "nats/token per million tokens"),
        ("--budget-hours", "GPU-hours"),
        ("--price", "USD per GPU-hour"),
        ("--mfu", "Share"),
        ("--tokens", "[Tt]okens"),
        ("--share", "fraction"),
    ],
)
def test_numbers_have_their_units(option, unit):
    found = [(path, p.help) for path, p in ALL if option in p.opts]
    assert found
    for path, text in found:
        assert re.search(unit, text, re.IGNORECASE), (path, option, text)


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("runs", "ladder")])
def test_every_command_shows_an_example(regrow, command):
    done = regrow(command, "--help")
    assert done.code == 0
    assert f"regrow {command}" in done.out.replace("Usage: regrow", "")


def test_completion_knows_commands_and_options(monkeypatch, capsys):
    from regrow.cli.main import main

    for words, found in (("regrow pl", ["plan"]), ("regrow plan --budg", ["--budget-hours", "--budget-usd"])):
        monkeypatch.setattr("sys.argv", ["regrow"])
        monkeypatch.setenv("_REGROW_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        with pytest.raises(SystemExit):
            main()
        assert capsys.readouterr().out.split() == found

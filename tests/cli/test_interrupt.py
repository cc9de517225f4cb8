"""Ctrl-C ends a command with one line that says what the same command does next."""

import pytest

from regrow.cli import main as cli


@pytest.mark.parametrize(
    ("command", "then"),
    [
        ("train", "the same command with --resume goes on"),
        ("study", "the same command goes on"),
        ("prune", "the same command starts over"),
    ],
)
def test_what_the_same_command_does_after_an_interrupt(command, then, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_app", interrupt)
    monkeypatch.setattr("sys.argv", ["regrow", command])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 130
    assert capsys.readouterr().err == f"error: interrupted; what is on disk is whole, {then}\n"


def test_every_command_that_goes_on_is_one():
    assert set(cli._AFTER_INTERRUPT) <= set(cli.COMMANDS)

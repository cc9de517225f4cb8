"""Tables at a terminal's width: whole columns are left out and named, words and numbers stay whole."""

import os
import pty
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len

from regrow.cli.tables import fit_table, wrapped

COLUMNS = ["run", "method", "before", "after", "rate", "loss", "status"]
ROWS = [[f"tiny-llama-3m-depth-0.{i}-1a2b3c", "depth", "3.15M", "2.4M", f"0.{i}", "3.123", "done"] for i in (17, 25)]


def words(lines):
    return {word for line in lines for word in line.split()}


def test_all_columns_stay_where_they_fit_and_where_no_terminal_says_how_wide_it_is():
    for width in (None, 200):
        table = fit_table(COLUMNS, ROWS, width)
        assert table.hidden == ()
        assert table.note() is None
        assert table.lines[0].split() == COLUMNS
        assert [line.split() for line in table.lines[1:]] == ROWS
    assert len({line.index("3.123") for line in table.lines[1:]}) == 1


@pytest.mark.parametrize("width", [40, 50, 60, 66, 80])
def test_no_line_is_wider_and_every_cell_is_whole_or_its_column_is_named(width):
    table = fit_table(COLUMNS, ROWS, width, spare=["after"])
    assert max(map(cell_len, table.lines)) <= width
    gone = {name for name, _ in table.hidden}
    shown = [i for i, name in enumerate(COLUMNS) if name not in gone]
    assert table.lines[0].split() == [COLUMNS[i] for i in shown]
    for line, row in zip(table.lines[1:], ROWS, strict=True):
        assert line.split()[1:] == [row[i] for i in shown[1:]]
    for name in gone:
        assert name in (table.note() or "")


def test_columns_of_one_value_go_first_and_the_note_says_the_value():
    table = fit_table(COLUMNS, ROWS, 60)
    assert dict(table.hidden)["status"] == "done"
    assert "rate" not in dict(table.hidden)
    assert "the same in every row: " in table.note()
    assert "status done" in table.note()


def test_spare_columns_go_in_their_order_and_then_the_last():
    rows = [[f"name-{i}", f"{i}.5", f"{i}.25", f"{i}.125"] for i in range(3)]
    columns = ["name", "first", "second", "third"]
    assert [name for name, _ in fit_table(columns, rows, 22, spare=["first"]).hidden] == ["first"]
    assert [name for name, _ in fit_table(columns, rows, 22).hidden] == ["third"]
    assert [name for name, _ in fit_table(columns, rows, 14, spare=["first"]).hidden] == ["first", "third"]
    assert "no room for first, third" in fit_table(columns, rows, 14, spare=["first"]).note()


def test_a_name_wider_than_half_the_terminal_keeps_its_ends():
    table = fit_table(["run", "loss"], [["a" * 30 + "b" * 30, "3.1"]], 40)
    assert re.match(r"a+…b+ +3\.1$", table.lines[1])
    assert max(map(cell_len, table.lines)) <= 40


def test_one_row_says_the_values_that_have_no_room():
    assert "also: " in fit_table(COLUMNS, ROWS[:1], 40).note()
    assert "status done" in fit_table(COLUMNS, ROWS[:1], 40).note()


def test_wide_characters_and_control_characters_count_as_they_are_shown():
    table = fit_table(["run", "loss"], [["語語", "1"], ["a\x1bb", "2"]], None)
    assert [cell_len(line) for line in table.lines[1:]] == [len("a\\x1bb") + 6] * 2
    assert "\x1b" not in "".join(table.lines)


def test_text_is_broken_between_words_alone():
    text = "tokens  1.23M (0.9M to 1.4M, 90%) and a-hyphenated-word " + "w" * 90
    lines = wrapped(text, 30, indent=8).split("\n")
    assert words(lines) == set(text.split())
    assert all(line.startswith(" " * 8) for line in lines[1:])
    assert wrapped(text, None) == text


def test_runs_list_on_a_terminal_of_60_columns(table):
    """The command itself, behind a real terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "regrow", "runs", "list", str(table)],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "COLUMNS": "60", "TERM": "xterm"},
    )
    os.close(theirs)
    said = b""
    try:
        while part := os.read(ours, 65536):
            said += part
    except OSError:  # the terminal is closed at the end
        pass
    assert done.wait() == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).replace("\r", "").splitlines()
    assert max(map(cell_len, lines)) <= 60
    assert "no room for" in " ".join(lines)
    assert len([line for line in lines if re.match(r"[124]e\+06-", line)]) == 12

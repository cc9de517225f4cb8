"""Names are text, never paths, formulas or commands to a terminal; a run that is broken stops no other."""

import os
import threading

import pytest

from regrow.disk import write_text
from regrow.errors import InputError
from regrow.reading import read_yaml
from regrow.runs import CurvePoint, read_runs, to_table
from regrow.runs.importers import import_manifest
from regrow.runs.record import check_folder_name
from regrow.runs.table import read_table, write_csv

HEADER = "run,family,method,params_before,params_after,tokens,loss,loss_before\n"


@pytest.mark.parametrize("names", [("1", "01"), ("1e3", "1000"), ("NA", "nan"), ("1", "1.0"), ("'a", "a")])
def test_names_that_look_like_one_number_are_two_runs(tmp_path, names):
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "".join(f"{name},f,depth,100,80,10,3.0,2.0\n" for name in names))
    assert [run.run for run in read_runs(path)] == list(names)


def test_a_repeated_header_is_an_error(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(HEADER.replace("loss_before", "loss_before,loss") + "a,f,depth,100,80,10,3.0,2.0,4.0\n")
    with pytest.raises(InputError, match="the column 'loss' stands twice"):
        read_runs(path)


def test_formulas_are_harmless_in_a_spreadsheet_and_come_back(tmp_path, make_record):
    names = ["=1+1", "+x", "-x", "@x", "plain"]
    runs = [make_record(name, curve=(CurvePoint(tokens=10, loss=3.0),)) for name in names]
    write_csv(to_table(runs), tmp_path / "t.csv")
    cells = [line.split(",")[0] for line in (tmp_path / "t.csv").read_text().splitlines()[1:]]
    assert cells == ["'=1+1", "'+x", "'-x", "'@x", "plain"]
    assert [run.run for run in read_runs(tmp_path / "t.csv")] == names


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\x07", "a\u202eb", "a\x9bb"])
def test_a_name_that_commands_a_terminal_is_refused_harmlessly(make_record, name):
    with pytest.raises(InputError) as error:
        make_record(name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["../../x", "/x", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", "x" * 300])
def test_a_name_is_no_path(tmp_path, name):
    with pytest.raises(InputError, match="can't be the name of a folder"):
        check_folder_name(name)
    (tmp_path / "m.csv").write_text(
        "path,run,family,method,params_before,params_after,loss_before,tokens_per_step\n"
        f'log.csv,"{name}",f,depth,100,80,2.0,1000\n'
    )
    with pytest.raises(InputError, match="can't be the name of a folder"):
        import_manifest(tmp_path / "m.csv")


def test_pipes_are_refused_before_they_are_opened(tmp_path):
    for name in ("t.csv", "a.jsonl", "t.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="a pipe or a device"):
            read_runs(tmp_path / name)


def test_yaml_has_no_surprises(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("a: 2:4\nb: 010\nc: no\nd: 2026-01-01\ne: true\nf: 1_000\ng: 1.5\nh: 0x10\n")
    assert read_yaml(path) == {
        "a": "2:4", "b": "010", "c": "no", "d": "2026-01-01", "e": True, "f": 1000, "g": 1.5, "h": "0x10",
    }  # fmt: skip
    path.write_text("a: 1\na: 2\n")
    with pytest.raises(InputError, match="line 2: the key 'a' stands twice"):
        read_yaml(path)
    bomb = "\n".join(f"x{i + 1}: &x{i + 1} [{', '.join([f'*x{i}'] * 9)}]" for i in range(9))
    path.write_text(f"x0: &x0 [lol]\n{bomb}\n")
    with pytest.raises(InputError, match="more than 100,000 values"):
        read_yaml(path)
    path.write_text("[" * 5000)
    with pytest.raises(InputError, match="nested too deep"):
        read_yaml(path)
    path.write_text('models: ["a\\0b"]\n')
    with pytest.raises(InputError, match=r"control characters in 'a\\x00b'"):
        read_yaml(path)


def test_a_file_has_the_permissions_that_the_user_asks_for(tmp_path):
    before = os.umask(0o077)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_left_overs_of_killed_writers_are_removed_and_those_of_living_ones_stay(tmp_path):
    (tmp_path / ".a.0123456789ab.tmp").write_text("half")
    (tmp_path / ".b.0123456789ab.tmp").write_text("another file's")
    for left in tmp_path.iterdir():
        os.utime(left, (1, 1))
    write_text(tmp_path / "a", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.0123456789ab.tmp", "a"]
    texts = [str(i) * 200_000 for i in range(8)]
    writers = [threading.Thread(target=write_text, args=(tmp_path / "a", text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a").read_text() in texts
    assert len(list(tmp_path.iterdir())) == 2


def test_an_empty_cell_is_missing_and_a_name_is_not(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(HEADER.strip() + ",loss_averaged\nNA,f,depth,100,80,10,3.0,2.0,NA\n")
    table = read_table(path)
    assert table["run"].tolist() == ["NA"]
    assert table["loss_averaged"].isna().all()

"""Shared things are made once, by one of those who want them, and may be removed at any time."""

import errno
import threading
import time

from regrow.study.shared import LOSSES, SCORES, load_number, save_number, share


class Maker:
    def __init__(self, value=1.0, seconds=0.0):
        self.value = value
        self.seconds = seconds
        self.made = 0

    def __call__(self):
        self.made += 1
        time.sleep(self.seconds)
        return self.value


def number(folder, make, key=None):
    return share(folder, LOSSES, key or {"a": 1}, make=make, save=save_number, load=load_number)


def test_what_is_there_is_loaded_and_another_key_is_another_thing(tmp_path):
    make = Maker()
    assert [number(tmp_path, make) for _ in range(3)] == [1.0] * 3
    assert make.made == 1
    number(tmp_path, make, {"a": 2})
    assert make.made == 2
    assert share(tmp_path, SCORES, {"a": 1}, make=Maker(2.0), save=save_number, load=load_number) == 2.0


def test_of_those_who_want_it_at_once_one_makes_it(tmp_path):
    make, found = Maker(seconds=0.2), []
    # each opens the lock file itself, as processes do
    crowd = [threading.Thread(target=lambda: found.append(number(tmp_path, make))) for _ in range(4)]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert (found, make.made) == ([1.0] * 4, 1)


def test_what_is_removed_or_broken_is_made_again(tmp_path):
    make = Maker()
    number(tmp_path, make)
    (path,) = tmp_path.glob("loss-before/*.json")
    path.write_text('{"val')
    assert number(tmp_path, make) == 1.0
    assert load_number(path) == 1.0
    path.unlink()
    number(tmp_path, make)
    assert make.made == 3


def test_a_full_disk_costs_the_sharing_and_not_the_cell(tmp_path):
    def full(value, path):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    make = Maker()
    for _ in range(2):
        assert share(tmp_path, LOSSES, {}, make=make, save=full, load=load_number) == 1.0
    assert make.made == 2
    assert not list(tmp_path.rglob("*.json"))


def test_without_a_folder_nothing_is_kept(tmp_path):
    make = Maker()
    number(None, make)
    number(None, make)
    assert make.made == 2

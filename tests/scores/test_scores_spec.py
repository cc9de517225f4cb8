"""What is asked is checked before anything heavy loads."""

import pytest

from regrow.errors import InputError
from regrow.scores import TasksSpec, parse_tasks


def test_names_are_read_from_a_list():
    assert parse_tasks("arc_easy, hellaswag:acc") == ("arc_easy", "hellaswag:acc")
    with pytest.raises(InputError, match="'arc_easy,' names no task"):
        parse_tasks("arc_easy,")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"names": ()}, "no task is named"),
        ({"names": ("a", "a")}, "'a' is named twice"),
        ({"names": ("a",), "limit": 1}, "a limit of 1"),
        ({"names": ("a",), "shots": -1}, "-1 shots"),
    ],
)
def test_what_cannot_be_asked_is_refused(values, says):
    with pytest.raises(InputError, match=says):
        TasksSpec(**values)


def test_a_missing_folder_of_tasks_is_named(tmp_path):
    with pytest.raises(InputError, match="no such folder of task files"):
        TasksSpec(names=("a",), folders=(tmp_path / "nowhere",))

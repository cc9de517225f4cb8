import json
import os
import time

import pytest

from regrow.data import TextSource
from regrow.errors import InputError


@pytest.fixture
def folder(tmp_path):
    rows = [{"text": text, "id": i} for i, text in enumerate(["one", "", "two", None, "three"])]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "rows"


def test_what_may_be_named(tmp_path):
    assert TextSource.parse("text.jsonl") == TextSource(name="text.jsonl")
    assert TextSource.parse("text.jsonl,column=body,tokens=2k") == TextSource(
        name="text.jsonl", column="body", tokens=2000
    )
    hub = TextSource.parse("hub:owner/name,config=c,split=s,revision=r,tokens=1M,column=body")
    assert hub == TextSource(
        name="owner/name", hub=True, config="c", split="s", revision="r", tokens=1_000_000, column="body"
    )
    odd = tmp_path / "a,column=b"
    odd.write_text("x")
    assert TextSource.parse(str(odd)) == TextSource(name=str(odd))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.txt,colum=b", "did you mean 'column'"),
        ("a.txt,split=b", "unknown option 'split'"),
        ("a.txt,column=", "no value for column"),
        ("a.txt,tokens=many", "not a positive number"),
        ("hub:owner/name", "say where to stop, as in hub:owner/name,tokens=2B"),
    ],
)
def test_what_may_not(text, says):
    with pytest.raises(InputError, match=says):
        TextSource.parse(text)


def test_the_fingerprint_follows_the_files_and_what_was_asked(folder):
    def mark(text=str(folder)):
        return TextSource.parse(text).fingerprint()

    first, file = mark(), folder / "train.jsonl"
    assert mark() == first
    assert mark(f"{folder},column=id") != first
    os.utime(file, ns=(1, 1))
    assert mark() == first  # what is in it counts
    content = file.read_text()
    file.write_text(content.replace("one", "uno"))  # as long, and as old
    os.utime(file, ns=(1, 1))
    changed = mark()
    assert changed != first
    (folder / "more.txt").write_text("more")
    assert mark() not in (first, changed)


def test_a_change_in_the_middle_of_a_large_file_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("regrow.data.source._WHOLE", 1000)  # a file above this is not read whole
    monkeypatch.setattr("regrow.data.source._SAMPLE", 100)
    file = tmp_path / "large.txt"
    file.write_text("a" * 5000)
    os.utime(file, ns=(1, 1))
    first = TextSource.parse(str(file)).fingerprint()
    time.sleep(0.02)  # two ticks of the clock that marks changes
    with file.open("r+") as stream:
        stream.seek(2500)
        stream.write("b")
    os.utime(file, ns=(1, 1))
    assert TextSource.parse(str(file)).fingerprint() != first


def test_a_data_set_is_streamed_as_the_hub_would(folder):
    """A local folder in the Hub's format: the same call of `datasets`, without the network."""
    found = list(TextSource.parse(f"hub:{folder},tokens=1k").documents())
    assert [(d.text, d.name) for d in found] == [
        (t, f"hub:{folder}:{i}") for t, i in (("one", 1), ("two", 3), ("three", 5))
    ]
    for asked, says in (
        ("column=body", r"no column 'body' \(there: text, id\)"),
        ("column=id", "column 'id' holds int, not text"),
        ("split=test", "Bad split: test"),
    ):
        with pytest.raises(InputError, match=says) as caught:
            list(TextSource.parse(f"hub:{folder},tokens=1k,{asked}").documents())
        assert "\n" not in str(caught.value)


def test_a_hub_that_is_away_is_one_line(monkeypatch):
    monkeypatch.setattr("regrow.data.source.hub_reachable", lambda: False)
    with pytest.raises(InputError, match="hub:owner/name: the Hugging Face Hub cannot be reached"):
        next(TextSource.parse("hub:owner/name,tokens=1k").documents())

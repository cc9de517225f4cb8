import pytest

from regrow.data import iter_documents, read_documents, split_documents
from regrow.errors import InputError


def test_documents_from_every_format(tmp_path):
    import pandas as pd

    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.jsonl").write_text('{"text": "two"}\n\n{"text": "three"}\n')
    pd.DataFrame({"text": ["four", ""]}).to_parquet(tmp_path / "c.parquet")
    pd.DataFrame({"text": ["five"]}).to_csv(tmp_path / "d.csv", index=False)
    assert read_documents(tmp_path) == ["one", "two", "three", "four", "five"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"text": "x"}\n\n{', "line 3 is not JSON"),
        ("a.jsonl", "[1]", "item 1 is not an object"),
        ("a.jsonl", '{"body": "x", "id": 1}', r"line 1: no column 'text' \(there: body, id\)"),
        ("a.jsonl", '{"text": 3}', "line 1: column 'text' holds int, not text"),
        ("a.json", '[{"text": "x"}, {"text": ', "item 2 of the array is not JSON, or the file is cut"),
        ("a.json", '{\n  "text": "x"\n}\n', "one object a line, or an array of objects"),
        ("a.jsonl", b"\xff\xfe", "can't be read"),
        ("a.jsonl.gz", "not packed", "can't be read"),
        ("a.csv", "body,id\nx,1\n", r"no column 'text' \(there: body, id\)"),
        ("a.csv", "", "no text in it"),
        ("a.pdf", "x", "unknown format '.pdf'"),
        ("a.txt", "  ", "no text in it"),
        ("a.parquet", "not one", "can't be read"),
    ],
)
def test_what_cannot_be_read(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=says) as caught:
        read_documents(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"body": ["x"], "id": [1]}, r"no column 'text' \(there: body, id\)"),
        ({"text": [1, 2]}, "column 'text' holds int64, not text"),
        ({"text": [None, ""]}, "no text in it"),
    ],
)
def test_what_a_parquet_file_may_lack(tmp_path, table, says):
    import pandas as pd

    pd.DataFrame(table).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=says):
        read_documents(tmp_path / "a.parquet")


def test_a_folder_without_text(tmp_path):
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(InputError, match="the folder holds no text file"):
        read_documents(tmp_path)


def test_compressed_files_and_names_of_documents(tmp_path):
    import bz2
    import gzip

    import pyarrow as pa

    lines = b'{"body": "one"}\n\n{"body": "two"}\n{"body": null}\n'
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "b.csv.bz2").write_bytes(bz2.compress(b'body\n"three,\nand more"\n'))
    with pa.output_stream(str(tmp_path / "c.jsonl.zst"), compression="zstd") as stream:
        stream.write(lines)
    found = [(d.name.removeprefix(f"{tmp_path}/"), d.text) for d in iter_documents(tmp_path, column="body")]
    assert found == [
        ("a.jsonl.gz:1", "one"),
        ("a.jsonl.gz:3", "two"),
        ("b.csv.bz2:1", "three,\nand more"),
        ("c.jsonl.zst:1", "one"),
        ("c.jsonl.zst:3", "two"),
    ]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "a.jsonl.zst", "c4-train.00000-of-01024", "a.data"])
@pytest.mark.parametrize("layout", ["lines", "array", "indented array"])
@pytest.mark.parametrize("packed", [False, True])
def test_json_is_known_by_its_content(tmp_path, name, layout, packed):
    import gzip
    import json

    texts = [f"text {i}, [{'x' * i}]" for i in range(40)] + ["y" * 200_000]  # longer than what is read at once
    rows = [{"id": i, "text": text} for i, text in enumerate(texts)]
    content = json.dumps(rows, indent=1 if layout == "indented array" else None)
    if layout == "lines":
        content = "".join(json.dumps(row) + "\n" for row in rows)
    data = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    found = list(iter_documents(tmp_path / name))
    assert [document.text for document in found] == texts
    assert [document.row for document in found] == list(range(1, 42))


def test_a_json_file_among_others_is_settings_and_alone_it_is_text(tmp_path):
    import gzip

    (tmp_path / "a.json").write_text('[{"text": "one"}]')
    assert read_documents(tmp_path) == ["one"]
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(b'{"text": "two"}\n'))
    assert read_documents(tmp_path) == ["two"]


def test_half_of_a_surrogate_pair_is_replaced(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b"}\n')
    assert read_documents(tmp_path / "a.jsonl") == ["a?b"]


def test_a_path_from_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("one")
    assert read_documents("~/a.txt") == ["one"]


def test_a_missing_path():
    with pytest.raises(InputError, match="no such file"):
        read_documents("nowhere")


def test_copies_of_a_document_fall_on_one_side():
    documents = [f"document {i % 50}" for i in range(200)]
    train, held_out = split_documents(documents, held_out_share=0.3)
    assert len(train) + len(held_out) == 200
    assert not set(train) & set(held_out)


def test_a_split_that_leaves_nothing_is_refused():
    with pytest.raises(InputError, match="can't be split"):
        split_documents(["only one"], held_out_share=0.05)

"""The shipped text: whole, attributed, split by document without leaks, and rebuilt by the code beside it."""

import json

import pandas as pd
import pytest

from regrow.errors import InputError
from regrow.ladder import ASSETS, find_corpus, find_model, rung
from regrow.ladder.assets import file_sha256
from regrow.ladder.corpus import (
    DEDUP_LINE_CHARS,
    SOURCES,
    SPLIT_SHARES,
    SPLITS,
    DocumentationPackage,
    clean_documents,
    html_to_text,
    split_of,
)


@pytest.fixture(scope="module")
def texts() -> dict[str, pd.DataFrame]:
    return {split: pd.read_parquet(find_corpus("ladder", split)) for split in SPLITS}


def test_every_file_has_the_checksum_of_the_manifest():
    manifest = json.loads((ASSETS / "corpus" / "manifest.json").read_text())
    assert set(manifest["files"]) == {f"{split}.parquet" for split in SPLITS}
    for name, file in manifest["files"].items():
        assert file_sha256(ASSETS / "corpus" / name) == file["sha256"]


def test_every_source_names_its_licence_and_ships_its_notice(texts):
    manifest = json.loads((ASSETS / "corpus" / "manifest.json").read_text())
    packages = {p["package"]: p for p in manifest["packages"]}
    used = set(pd.concat(texts.values())["source"])
    assert used == set(packages) == {s.package for s in SOURCES}
    for name, package in packages.items():
        assert package["licence"]
        assert package["holder"]
        assert len(package["sha256"]) == 64
        assert (ASSETS / "corpus" / "copyright" / name).stat().st_size > 100


def test_documents_are_in_the_split_of_their_name_and_in_no_other(texts):
    for split, table in texts.items():
        assert all(split_of(name) == split for name in table["name"])
    names = pd.concat(texts.values())["name"]
    assert names.is_unique


def test_no_long_line_is_shared_between_splits(texts):
    lines = {
        split: {x.lower() for text in table["text"] for x in text.splitlines() if len(x) >= DEDUP_LINE_CHARS}
        for split, table in texts.items()
    }
    assert not lines["held_out"] & lines["train"]
    assert not lines["held_out"] & lines["post_train"]
    assert not lines["post_train"] & lines["train"]


def test_split_shares_are_met_over_many_names():
    counts = pd.Series([split_of(f"document-{i}") for i in range(20_000)]).value_counts(normalize=True)
    for split, share in SPLIT_SHARES.items():
        assert counts[split] == pytest.approx(share, abs=0.01)


def test_html_becomes_the_text_of_its_main_part():
    page = b"""<html><head><title>t</title><script>var x</script></head><body><nav>menu</nav>
    <div role="main"><h1>Title<a class="headerlink" href="#t">\xc2\xb6</a></h1><p>First line.</p><p>Second.</p></div>
    <div class="footer">foot</div></body></html>"""
    assert html_to_text(page).split("\n\n") == ["Title", "First line.", "Second."]


def test_repeated_lines_are_kept_once_and_short_documents_dropped(tmp_path):
    long, other = (
        "A sentence that is long enough to be noticed when it comes again. ",
        "Another sentence of that kind. ",
    )
    body = "".join(f"<p>{i} {other * 3}</p>" for i in range(8))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.html").write_text(f"<body><p>{long}</p>{body}</body>")
    (tmp_path / "docs" / "b.html").write_text(f"<body><p>{long}</p>{body.replace('Another', 'One more')}</body>")
    (tmp_path / "docs" / "c.html").write_text("<body><p>short</p></body>")
    (tmp_path / "docs" / "search.html").write_text(f"<body>{body * 2}</body>")
    source = DocumentationPackage(package="p", licence="l", holder="h", roots=("docs",), skip=("search",))
    found = list(clean_documents((source,), {"p": tmp_path}))
    assert [d.name for d in found] == ["p/a.html@docs", "p/b.html@docs"]
    assert long.strip() in found[0].text
    assert long.strip() not in found[1].text


def test_names_that_are_not_the_ladders_come_back():
    assert find_model("some/folder") == "some/folder"
    assert find_corpus("text.jsonl", "train") == "text.jsonl"
    with pytest.raises(InputError, match="did you mean 'tiny-llama-3m'"):
        rung("tiny-lama-3m")

"""The ladder's text: permissively licensed documentation, cleaned, de-duplicated and split by document.

The text comes from Debian's documentation packages, so that it can be rebuilt by anyone with `apt-get` and has a
licence file for every part. What is shipped is the result: one Parquet file per split under `assets/corpus/`, with
the sources' copyright files beside it and a manifest of versions and checksums.

Splits are by document and no long line occurs twice in the whole corpus, so a held-out document shares no sentence
of note with a training one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from regrow.errors import InputError, RunFailed
from regrow.ladder.assets import ASSETS, file_sha256

SPLITS = ("train", "post_train", "held_out")
#: Share of documents per split, by a hash of the document's name (so that adding a source moves no document).
SPLIT_SHARES = {"held_out": 0.03, "post_train": 0.17, "train": 0.80}
#: A line at least this long is kept only where it occurs first: boilerplate and quoted passages go.
DEDUP_LINE_CHARS = 60
#: (Sphinx's `_modules` pages are listings of source code, not prose, and are left out.)
#: A document shorter than this after cleaning is dropped (indexes, redirects, stubs).
MIN_DOCUMENT_CHARS = 600


@dataclass(frozen=True, kw_only=True)
class DocumentationPackage:
    """A Debian package whose documentation is part of the corpus.

    `roots` are folders (or files) inside the unpacked package; `skip` are file-name prefixes that hold indexes or
    concatenations of the other pages.
    """

    package: str
    licence: str
    holder: str
    roots: tuple[str, ...]
    skip: tuple[str, ...] = ()


_DOC = "usr/share/doc"
_SPHINX_INDEXES = ("genindex", "search", "py-modindex", "contents", "download", "changelog")
_RUST = f"{_DOC}/rust-doc/html"
SOURCES = (
    DocumentationPackage(
        package="python3.11-doc",
        licence="PSF-2.0",
        holder="Python Software Foundation",
        roots=(f"{_DOC}/python3.11/html",),
        skip=_SPHINX_INDEXES,
    ),
    DocumentationPackage(
        package="postgresql-doc-15",
        licence="PostgreSQL",
        holder="The PostgreSQL Global Development Group",
        roots=(f"{_DOC}/postgresql-doc-15/html",),
        skip=("bookindex",),
    ),
    DocumentationPackage(
        package="sqlite3-doc",
        licence="public domain",
        holder="D. Richard Hipp and others (dedicated to the public domain)",
        roots=(f"{_DOC}/sqlite3",),
        skip=("keyword_index", "doclist", "doc_", "requirements", "search", "th3private", "sitemap", "syntaxdiagrams"),
    ),
    DocumentationPackage(
        package="python-django-doc",
        licence="BSD-3-Clause",
        holder="Django Software Foundation and individual contributors",
        roots=(f"{_DOC}/python-django-doc/html",),
        skip=_SPHINX_INDEXES,
    ),
    DocumentationPackage(
        package="python-sqlalchemy-doc",
        licence="MIT",
        holder="The SQLAlchemy authors and contributors",
        roots=(f"{_DOC}/python-sqlalchemy-doc/html",),
        skip=_SPHINX_INDEXES,
    ),
    DocumentationPackage(
        package="llvm-14-doc",
        licence="Apache-2.0 WITH LLVM-exception",
        holder="The LLVM Project contributors",
        roots=(f"{_DOC}/llvm-14-doc/html",),
        skip=(*_SPHINX_INDEXES, "gfx", "AMDGPU"),
    ),
    DocumentationPackage(
        package="nodejs-doc",
        licence="MIT",
        holder="Node.js contributors",
        roots=(f"{_DOC}/nodejs/api",),
        skip=("all", "index"),
    ),
    DocumentationPackage(
        package="rust-doc",
        licence="MIT OR Apache-2.0",
        holder="The Rust Project Developers",
        roots=tuple(
            f"{_RUST}/{book}"
            for book in ("book", "reference", "nomicon", "rust-by-example", "rustc", "edition-guide", "embedded-book")
        ),
        skip=("print", "toc"),
    ),
    DocumentationPackage(
        package="jargon-text",
        licence="public domain",
        holder="Eric S. Raymond and others (dedicated to the public domain)",
        roots=(f"{_DOC}/jargon-text/jargon.txt.gz",),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document of the corpus: `name` is stable (`package/path`), `text` is clean UTF-8."""

    name: str
    source: str
    split: str
    text: str


def split_of(name: str) -> str:
    """The split that a document of this name belongs to; depends on the name alone."""
    unit = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    edge = 0.0
    for split, share in SPLIT_SHARES.items():
        edge += share
        if unit < edge:
            return split
    return "train"


def fetch_package(package: str, folder: Path) -> tuple[Path, dict[str, str]]:
    """Download a Debian package with `apt-get download` and unpack it, without root.

    Returns the unpacked folder and the package's file name and SHA-256. Raises `InputError` where the tools are
    missing, `RunFailed` where the download fails.
    """
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise InputError(f"{tool} is not on this machine", hint="rebuild the corpus on Debian or Ubuntu")
    run = subprocess.run(["apt-get", "download", "-q", package], cwd=folder, capture_output=True, text=True)
    found = sorted(folder.glob(f"{package}_*.deb"))
    if run.returncode or not found:
        raise RunFailed(f"apt-get download {package} failed: {run.stderr.strip()[-200:]}", hint="run `apt-get update`")
    tree = folder / package
    subprocess.run(["dpkg-deb", "-x", str(found[0]), str(tree)], check=True)
    return tree, {"package": package, "file": found[0].name, "sha256": file_sha256(found[0])}


def html_to_text(html: bytes) -> str:
    """The readable text of a documentation page: the main column, without menus, scripts and pilcrows."""
    import html_text
    import lxml.html

    tree = lxml.html.document_fromstring(html.replace(b"\r", b""), parser=lxml.html.HTMLParser(encoding="utf-8"))
    for node in tree.xpath(
        "//script|//style|//nav|//header|//footer|//svg|//form|//*[@class='headerlink']"
        "|//*[contains(@class,'sphinxsidebar') or contains(@class,'menu') or contains(@class,'nav')]"
        "|//*[contains(@class,'footer') or contains(@class,'related') or contains(@class,'srclink')]"
    ):
        if node.tag not in ("html", "body") and node.getparent() is not None:
            node.drop_tree()
    main = tree.xpath("//main|//*[@role='main']|//*[@id='apicontent']|//*[@id='yui-main']|//body")
    text = html_text.extract_text(html_text.cleaner.clean_html(main[0] if main else tree))
    return str(text).replace("¶", "").strip()


def raw_documents(source: DocumentationPackage, tree: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every document of an unpacked source, before de-duplication, in a stable order."""
    for root in source.roots:
        path = tree / root
        if path.is_file():  # the Jargon File: one text file with an entry per ":headword:"
            text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
            chapters = text.split("\n   :")
            for first in range(0, len(chapters), 20):
                lines = "\n   :".join(chapters[first : first + 20]).splitlines()
                yield f"{source.package}/{first:05d}", "\n".join(line.strip() for line in lines)
            continue
        for page in sorted(path.rglob("*.html")):
            if page.is_symlink() or page.name.startswith(source.skip) or "_modules" in page.parts:
                continue
            name = f"{source.package}/{page.relative_to(path).as_posix()}@{path.name}"
            yield name, html_to_text(page.read_bytes())


def clean_documents(sources: tuple[DocumentationPackage, ...], trees: dict[str, Path]) -> Iterator[Document]:
    """De-duplicated documents: a long line is kept only where it occurs first in the whole corpus."""
    seen: set[bytes] = set()
    for source in sources:
        for name, text in raw_documents(source, trees[source.package]):
            kept = []
            for line in text.splitlines():
                line = " ".join(line.split())
                if len(line) >= DEDUP_LINE_CHARS:
                    key = hashlib.blake2b(line.lower().encode(), digest_size=12).digest()
                    if key in seen:
                        continue
                    seen.add(key)
                kept.append(line)
            clean = "\n".join(kept).strip()
            while "\n\n\n" in clean:
                clean = clean.replace("\n\n\n", "\n\n")
            if len(clean) >= MIN_DOCUMENT_CHARS:
                yield Document(name=name, source=source.package, split=split_of(name), text=clean)


def build_corpus(out: Path = ASSETS / "corpus") -> dict:
    """Download, clean, split and write the corpus; returns the manifest that is written beside it.

    Args:
        out: folder that receives `<split>.parquet`, `copyright/<package>` and `manifest.json`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    out.mkdir(parents=True, exist_ok=True)
    (out / "copyright").mkdir(exist_ok=True)
    packages = []
    with tempfile.TemporaryDirectory(prefix="regrow-corpus-") as scratch:
        trees = {}
        for source in SOURCES:
            tree, found = fetch_package(source.package, Path(scratch))
            trees[source.package] = tree
            packages.append({**asdict(source), **found})
            notice = tree / _DOC / source.package / "copyright"
            shutil.copyfile(notice, out / "copyright" / source.package)
        documents = list(clean_documents(SOURCES, trees))
    files = {}
    for split in SPLITS:
        rows = [d for d in documents if d.split == split]
        table = pa.table(
            {"name": [d.name for d in rows], "source": [d.source for d in rows], "text": [d.text for d in rows]}
        )
        path = out / f"{split}.parquet"
        pq.write_table(table, path, compression="zstd", compression_level=22, row_group_size=len(rows) or 1)
        characters = sum(len(d.text) for d in rows)
        files[path.name] = {"documents": len(rows), "characters": characters, "sha256": file_sha256(path)}
    manifest = {"format": 1, "packages": packages, "files": files}
    (out / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    return manifest

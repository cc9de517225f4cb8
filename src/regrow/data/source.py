"""What `--data` may name: a path, or a data set of the Hugging Face Hub that is streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regrow.data.text import Document, iter_documents, text_files
from regrow.errors import InputError, one_of, reason_of
from regrow.fingerprints import change_marks
from regrow.units import parse_count, plural

HUB = "hub:"
_OPTIONS = ("column", "tokens", "config", "split", "revision")
#: bytes of the largest file whose fingerprint reads all of it, and of each end that is read of a larger one
_WHOLE, _SAMPLE = 1 << 28, 1 << 16


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Where text comes from.

    Attributes:
        name: a file, a folder, or the name of a data set of the Hub.
        column: the field that holds the text, where a document is a row.
        tokens: stop after the document that reaches so many tokens; None for all. A streamed data set needs it.
        hub: whether `name` is a data set to stream with `datasets`.
        config, split, revision: of a data set of the Hub.
    """

    name: str
    column: str = "text"
    tokens: int | None = None
    hub: bool = False
    config: str | None = None
    split: str = "train"
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> TextSource:
        """Read `PATH`, `PATH,column=body`, or `hub:OWNER/NAME,config=C,split=train,tokens=2B`.

        Raises `InputError` for an option that is unknown, empty or not for a local path, and for a data set of the Hub
        without a cap on its tokens.
        """
        if Path(text).expanduser().exists():  # a path may hold commas
            return cls(name=text)
        name, *options = text.split(",")
        hub = name.startswith(HUB)
        given: dict[str, str] = {}
        for option in options:
            key, _, value = option.partition("=")
            one_of(key, _OPTIONS if hub else _OPTIONS[:2], what="option", where=text)
            if not value:
                raise InputError(f"no value for {key}", where=text, hint=f"write {key}=...")
            given[key] = value
        tokens = parse_count(given.pop("tokens"), what=f"{text}: tokens") if "tokens" in given else None
        if hub and tokens is None:
            raise InputError(
                "a streamed data set may have no end", where=text, hint=f"say where to stop, as in {text},tokens=2B"
            )
        return cls(name=name.removeprefix(HUB), hub=hub, tokens=tokens, **given)

    def documents(self) -> Iterator[Document]:
        """Every document in order. Raises `InputError` for what can't be read or reached."""
        return self._stream() if self.hub else iter_documents(self.name, column=self.column)

    def fingerprint(self) -> str:
        """Which data these are: SHA-256 (16 hex digits) over what was asked and, of each file, its path and contents.

        A file over 256 MB is known by its size, both ends, its inode and its times instead: no change leaves all of
        them as they were. A data set of the Hub goes by its name and revision.
        """
        asked = (self.hub, self.column, self.tokens, self.config, self.split, self.revision)
        digest = hashlib.sha256(repr(asked).encode())
        for path in [] if self.hub else text_files(self.name):
            try:
                known = path.stat()
                digest.update(f"{path.resolve()}\0{known.st_size}\0".encode())
                with path.open("rb") as stream:
                    if known.st_size <= _WHOLE:
                        digest.update(hashlib.file_digest(stream, "sha256").digest())
                        continue
                    digest.update(repr(change_marks(known)).encode() + stream.read(_SAMPLE))
                    stream.seek(known.st_size - _SAMPLE)
                    digest.update(stream.read(_SAMPLE))
            except OSError as error:
                raise InputError(f"can't be read ({error.strerror or error})", where=str(path)) from None
        if self.hub:
            digest.update(self.name.encode())
        return digest.hexdigest()[:16]

    def _stream(self) -> Iterator[Document]:
        from datasets import load_dataset

        where = f"{HUB}{self.name}"
        if not Path(self.name).exists() and not hub_reachable():
            raise InputError(
                "the Hugging Face Hub cannot be reached", where=where, hint="check the network, or give local files"
            )
        seen = 0
        try:
            rows = load_dataset(self.name, self.config, split=self.split, revision=self.revision, streaming=True)
            for row in rows:
                if self.column not in row:
                    raise InputError(
                        f"no column {self.column!r} (there: {', '.join(map(str, row))})",
                        where=where,
                        hint=f"name the column that holds the text: {where},column=NAME",
                    )
                seen += 1
                text = row[self.column]
                if text is not None and not isinstance(text, str):
                    raise InputError(f"column {self.column!r} holds {type(text).__name__}, not text", where=where)
                if text and text.strip():
                    yield Document(text, where, seen)
        except InputError:
            raise
        # the Hub's client, its file systems and its readers each raise their own kinds of exceptions
        except Exception as error:
            reason = reason_of(error)
            happened = "can't be reached or is not there" if not seen else f"broke off after {plural(seen, 'row')}"
            raise InputError(
                f"the data set {happened} ({reason})",
                where=where,
                hint="check its name, config and split, and the network; or give local files",
            ) from None
        if not seen:
            raise InputError("no rows in it", where=where, hint="check its config and split")


def hub_reachable() -> bool:
    """Whether the Hub's address resolves: asked first, because its client retries for half a minute before it fails."""
    import socket
    import urllib.request
    from urllib.parse import urlparse

    import huggingface_hub

    if urllib.request.getproxies():
        return True
    try:
        socket.getaddrinfo(urlparse(huggingface_hub.constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True

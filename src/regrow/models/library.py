"""Guards around calls of transformers: its remarks kept quiet, its exceptions turned into one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import transformers.utils.logging as hf_logging

from regrow.errors import InputError, reason_of


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and remarks of transformers' own inside: noise beside ours, and a study loads hundreds."""
    shown, verbosity = hf_logging.is_progress_bar_enabled(), hf_logging.get_verbosity()
    if not shown and verbosity == hf_logging.ERROR:  # each change of a level makes every logger forget its own
        yield
        return
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if shown:
            hf_logging.enable_progress_bar()


@contextmanager
def one_line_errors(where: str, what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises over a user's files into one `InputError` with the library's reason.

    Broad on purpose: over the years and file formats transformers raises OSError, ValueError, KeyError, RuntimeError,
    AssertionError, ImportError, SafetensorError, JSON and validation errors for a bad folder.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = reason_of(error)
        if isinstance(error, KeyError):  # its message is the key alone
            reason = f"no {reason}"
        raise InputError(f"{what}: {reason}", where=where, hint=hint) from error

"""Write a checkpoint whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regrow.errors import InputError, RunFailed, reason_of
from regrow.locks import LOCK_FILE, hold
from regrow.models.beside import Beside
from regrow.models.config_file import read_content, with_old_names, write_content
from regrow.models.experts import as_stored
from regrow.models.library import quiet
from regrow.models.shards import ShardWriter

#: Endings of a folder that is being written, and of the one that it takes the place of.
_TEMPORARY, _OLD = ".tmp", ".old"

#: What to do about a folder that holds something.
OVERWRITE = "give a new folder, or replace this one with --overwrite (in Python: overwrite=True)"


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    out: str | Path,
    *,
    beside: Beside | None = None,
    extra: Mapping[str, Mapping[str, Any] | str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a checkpoint that plain `AutoModelForCausalLM.from_pretrained(out)` reads: safetensors, the model's dtype.

    Everything is written to a sibling folder and moved into place when it is whole, so that `out` never holds half a
    model.

    Args:
        model: the model; tied embeddings are written once.
        tokenizer: saved with it by transformers, if given; for a model that comes from no folder.
        beside: what the checkpoint takes over from the folder that the model comes from: config.json with all its
            fields, and the tokenizer's and other files byte for byte. Without it transformers writes the config.
        out: folder to make; its parents are made too.
        extra: files to add, by file name: data as JSON, text as it is.
        overwrite: replace a folder that holds something.

    Raises `InputError` if `out` cannot be written or holds something already, `RunFailed` if writing breaks off.
    """
    with staged_folder(out, overwrite=overwrite) as stage:
        try:
            if beside is None:
                with quiet():
                    model.save_pretrained(stage)
                write_content(stage, with_old_names(read_content(stage)))
            else:
                _write_weights(model, stage)
                beside.write(stage, dtype=model.dtype)
            if tokenizer is not None:
                tokenizer.save_pretrained(stage)
            for name, content in (extra or {}).items():
                text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
                (stage / name).write_text(text, encoding="utf-8")
        # safetensors reports a full disk as its own error, a subclass of neither OSError nor RuntimeError
        except Exception as error:
            raise RunFailed(
                f"could not write the checkpoint: {reason_of(error)}", where=str(out), hint="is the disk full?"
            ) from error
    return Path(out)


def _write_weights(model: PreTrainedModel, stage: Path) -> None:
    """Every parameter by its name, a tied one once."""
    parameters = as_stored((name, parameter.detach()) for name, parameter in model.named_parameters())
    with ShardWriter(stage, {name: tensor.to("meta") for name, tensor in parameters.items()}) as writer:
        for name, tensor in parameters.items():
            writer.write(name, tensor)


def check_output(out: str | Path, *, overwrite: bool = False) -> None:
    """Raise `InputError` if `save_checkpoint` could not write there: asked before the work, not after it."""
    target = Path(out).resolve()
    try:
        taken = target.is_dir() and any(target.iterdir())
        in_the_way = target.exists() and not target.is_dir()
    except OSError as error:
        raise _unwritable(target, error) from None
    if taken and not overwrite:
        raise InputError("the folder is not empty", where=str(out), hint=OVERWRITE)
    if in_the_way:
        raise InputError("a file is in the way", where=str(out), hint="give a folder")
    if os.path.ismount(target):
        raise InputError("a mount point can't be replaced by a folder", where=str(out), hint="give a folder inside it")
    with suppress(FileNotFoundError):
        _make_stage(target).rmdir()


@contextmanager
def staged_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A fresh folder next to `out` that becomes `out` when the block ends well, and is removed when it does not.

    One process at a time writes `out`: a second one is refused with an `InputError` as its block begins. What a killed
    process has left beside `out` is cleared, and an old folder that it had moved aside is put back.
    """
    check_output(out, overwrite=overwrite)
    # where a link leads, so that its target is what is written, and the stage lies on the same disk
    target = Path(out).resolve()
    lock = target.parent / f".{target.name}{LOCK_FILE}"
    hint = "wait for it, or give another folder"
    with hold(lock, what=f"another process writes {target.name} here", hint=hint, keep=False) as alone:
        if alone:
            _clear_left(target)
        check_output(out, overwrite=overwrite)  # another process may have finished meanwhile
        stage = _make_stage(target)
        try:
            yield stage
            old = stage.with_name(stage.name + _OLD)
            # two renames, not a delete and a copy: at every moment there is a whole old folder or a whole new one
            if target.exists():
                os.replace(target, old)
            os.replace(stage, target)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _clear_left(target: Path) -> None:
    """Undo what a process that was killed has left of `target`; the caller holds the lock of it."""
    mine = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}{re.escape(_TEMPORARY)}({re.escape(_OLD)})?")
    left = [path for path in target.parent.iterdir() if mine.fullmatch(path.name)]
    for path in left:
        if path.name.endswith(_OLD) and not target.exists():
            os.replace(path, target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _make_stage(target: Path) -> Path:
    stage = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}{_TEMPORARY}"
    try:
        stage.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(target, error) from None
    return stage


def _unwritable(target: Path, error: OSError) -> InputError:
    return InputError(f"cannot write there: {error.strerror}", where=str(target), hint="give a folder you may write to")

"""Check that a resumed run has the same inputs: the contents of its text and models, not only their paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from regrow.disk import make_folder
from regrow.errors import InputError
from regrow.fingerprints import fingerprint_checkpoint
from regrow.locks import LOCK_FILE, hold
from regrow.runs import RunRecord
from regrow.training.processes import on_main, processes

#: What of a run's details identifies its inputs, and what each is called.
_INPUTS = {
    "model_fingerprint": "model",
    "teacher_fingerprint": "teacher",
    "train_fingerprint": "training text",
    "held_out_fingerprint": "held-out text",
}
#: L0 that is measured again, on other hardware say, differs by less than this share.
_SAME_LOSS = 5e-3


def fingerprints_of(**folders: str | None) -> dict[str, str]:
    """Fingerprints of local checkpoint folders (`model`, `teacher`) for a record, by the name of the field."""
    found = {}
    for name, folder in folders.items():
        if folder is not None and Path(folder).is_dir():
            found[f"{name}_fingerprint"] = fingerprint_checkpoint(Path(folder))
    return found


def check_same(earlier: RunRecord, record: RunRecord, details: Mapping[str, Any], *, where: str) -> None:
    """Compare what a run was begun with, `earlier`, with what it would go on with: `record` and its `details`.

    Raises `InputError` naming what has changed.
    """
    for name, what in _INPUTS.items():
        begun, now = earlier.details.get(name), details.get(name)
        if begun is not None and now is not None and begun != now:
            raise InputError(
                f"the {what} has changed since the run was begun (fingerprint {now}, then {begun})",
                where=where,
                hint=f"restore the {what}, or choose another --out; nothing was written",
            )
    counts = [(r.params_before, r.params_after) for r in (earlier, record)]
    if counts[0] != counts[1]:
        raise InputError(
            f"the model has {counts[1][1]} parameters of {counts[1][0]}, the run was begun with {counts[0][1]} of "
            f"{counts[0][0]}",
            where=where,
            hint="restore the model, or choose another --out; nothing was written",
        )
    if abs(earlier.known_loss_before - record.known_loss_before) > _SAME_LOSS * earlier.known_loss_before:
        raise InputError(
            f"the unpruned model's loss is {record.loss_before:.4f}, the run was begun with {earlier.loss_before:.4f}",
            where=where,
            hint="restore the unpruned model or the --loss-before, or choose another --out; nothing was written",
        )


@contextmanager
def writing_run(out: Path) -> Iterator[None]:
    """Inside, no other process writes the run folder `out`, which is made.

    Under a launcher the main process holds the lock. A folder that was made here and stayed empty is removed.

    Raises `InputError` in every process if another run is written there, or the folder can't be.
    """
    new = not out.exists()
    with ExitStack() as stack:
        on_main(lambda: _hold(out, stack))
        try:
            yield
        finally:
            if new and processes().is_main_process:
                with suppress(OSError):
                    if [path.name for path in out.iterdir()] == [LOCK_FILE]:
                        (out / LOCK_FILE).unlink()
                        out.rmdir()


def refuse_other_writer(out: Path) -> None:
    """Raise `InputError` if another process writes the run folder `out`; it may not exist yet."""
    if out.exists():
        with writing_run(out):
            pass


def _hold(out: Path, stack: ExitStack) -> None:
    make_folder(out)
    stack.enter_context(
        hold(out / LOCK_FILE, what="another process is writing this run", hint="wait for it to end, or stop it")
    )

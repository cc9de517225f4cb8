"""`regrow prune --held-out`: the held-out loss before and after pruning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regrow.data import Blocks
    from regrow.laws import Law
    from regrow.planning.damage import Damage


@dataclass(frozen=True)
class HeldOutLoss:
    """The text and the law of `--held-out`, read before the hours of work: a wrong one is reported at once."""

    folder: str
    text: Blocks
    law: Law
    data: str

    @classmethod
    def asked(cls, options: Mapping[str, Any], folder: str, method: str, *, cache: bool) -> HeldOutLoss | None:
        """What `--held-out` and `--law` ask for a model and a method; None without them.

        Raises `InputError` for text or a law that can't be read.
        """
        held_out, law = options.get("held_out"), options.get("law")
        if held_out is None:
            return None
        from regrow.cli.loading import load_blocks
        from regrow.ladder import find_corpus
        from regrow.laws.files import REFERENCE_NAME
        from regrow.pruning.held_out import law_of_method

        # as `regrow eval` reads it
        text = load_blocks(find_corpus(held_out, "held_out"), folder, sequence_length=512, cache=cache)
        return cls(folder, text, law_of_method(law or REFERENCE_NAME, method), str(held_out))

    def read(self, out: Path, *, device: str) -> Damage:
        """The losses before and after. Whatever fails here, the pruned model is written, and that is said."""
        from regrow.cli.reading_bar import reading_bar
        from regrow.errors import RegrowError, RunFailed
        from regrow.pruning.held_out import measure_pruned

        print("reading the held-out loss before and after", file=sys.stderr)
        try:
            with reading_bar(2 * self.text.n_tokens) as progress:
                return measure_pruned(self.folder, out, self.text, law=self.law, device=device, progress=progress)
        # torch reports memory that ran out, and a device that failed, as RuntimeError
        except (RegrowError, OSError, MemoryError, RuntimeError) as failed:
            what = failed.what if isinstance(failed, RegrowError) else f"{failed}".splitlines()[0]
            raise RunFailed(
                f"the model is pruned and written, but its held-out loss could not be read: {what}",
                where=str(out),
                hint=f"`regrow eval {out} --data {self.data}` reads it again",
            ) from None

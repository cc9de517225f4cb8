"""What the training tests share: a sparse model, and a run that dies on the way."""

from pathlib import Path

import pytest

from regrow.pruning.prune import prune
from regrow.pruning.spec import PruneSpec


@pytest.fixture(scope="session")
def sparse_model(tiny_model, tmp_path_factory) -> Path:
    """The tiny model in 2:4, as `regrow prune` leaves it. Not to be changed."""
    out = tmp_path_factory.mktemp("sparse") / "pruned"
    prune(tiny_model, PruneSpec(method="2:4", scorer="magnitude"), calibration=None, out=out)
    return out


class Gone(BaseException):
    """The end of the process, as far as a run can tell: nothing in it catches this."""


@pytest.fixture
def dying():
    """`dying(run, *tokens)` calls `run(on_progress=...)` once for each count, to die when it gets there, and once more
    to its end; what the last call returns."""

    def die_at(run, *tokens):
        left = list(tokens)

        def die(progress):
            if left and progress.tokens == left[0]:
                left.pop(0)
                raise Gone

        for _ in tokens:
            with pytest.raises(Gone):
                run(on_progress=die)
        assert not left
        return run(on_progress=die)

    return die_at

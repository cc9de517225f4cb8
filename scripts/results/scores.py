"""Laws of benchmark scores on the ladder's tasks: what is held out, by the direct route and over the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from regrow.laws import validate
from regrow.laws.validation import HoldOutResult
from regrow.runs import RunRecord

#: What is held out, in the page's words.
_HOLD_OUTS = {
    "size": "the largest size",
    "method": "a whole method",
    "run": "one run",
    "tokens": "the last reading of each run",
}
_MEAN = "score:mean"


def scores_table(runs: Sequence[RunRecord]) -> Iterator[list[str]]:
    """Errors in points by what was held out: each benchmark and the mean of the benchmarks, over the methods."""
    yield [
        "held out", "benchmark", "readings", "law", "from the loss", "last score", "coverage of 90%",
        "width of the interval",
    ]  # fmt: skip
    for hold_out, words in _HOLD_OUTS.items():
        results = validate(runs, hold_out, score="all")
        names = dict.fromkeys(result.target for result in results)
        singles = [result for result in results if result.target != _MEAN]
        yield _row(f"**{words}**", "**each benchmark**", singles)
        for name in names:
            mine = [result for result in results if result.target == name]
            called = "the mean of the benchmarks" if name == _MEAN else f"`{name.removeprefix('score:')}`"
            yield _row("", called, mine)


def _row(words: str, name: str, results: Sequence[HoldOutResult]) -> list[str]:
    weights = [result.n_points for result in results]

    def points(values: Sequence[float | None]) -> str:
        if None in values:
            return "-"
        return f"{100 * float(np.average(np.array(values, dtype=float), weights=weights)):.2f}"

    return [
        words,
        name,
        str(sum(weights)),
        points([result.mae for result in results]),
        points([result.baselines["from_loss"] for result in results]),
        points([result.baselines["last"] for result in results]),
        f"{np.average([result.coverage for result in results], weights=weights):.2f}",
        points([result.span for result in results]),
    ]

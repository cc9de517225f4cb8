"""The search for the runs of a study that make log D* best known within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

#: a run that lowers the mean log variance of log D* by less than this is not worth its place
_LEAST_GAIN = 1e-4


class Judge(Protocol):
    """How well D* is known after some of the candidate runs."""

    def value(self, chosen: Sequence[int]) -> float:
        """Mean log variance of log D* after these runs; lower is better."""

    def gains(self, chosen: Sequence[int], new: np.ndarray) -> np.ndarray:
        """By how much each of the candidates `new` would lower `value`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """Runs that could be made. `cell` [C] numbers their size and rate, `size` [C] their size.

    `flops` [C] is the cost of the run; `control_flops` [C] what the unpruned control of as many tokens costs, 0 without
    controls. Runs of one size share one control, as long as the longest of them.
    """

    flops: np.ndarray
    control_flops: np.ndarray
    size: np.ndarray
    cell: np.ndarray

    def cost(self, chosen: Sequence[int]) -> float:
        """FLOPs of these runs and of their controls."""
        runs = np.asarray(chosen, dtype=int)
        longest = np.zeros(self.size.max() + 1)
        np.maximum.at(longest, self.size[runs], self.control_flops[runs])
        return float(self.flops[runs].sum() + longest.sum())

    def more(self, chosen: Sequence[int]) -> np.ndarray:
        """FLOPs [C] that each candidate would add to these runs."""
        runs = np.asarray(chosen, dtype=int)
        longest = np.zeros(self.size.max() + 1)
        np.maximum.at(longest, self.size[runs], self.control_flops[runs])
        return self.flops + np.maximum(self.control_flops - longest[self.size], 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Search:
    """A search for the runs that make log D* best known.

    Attributes:
        judge: how well it is known after a choice.
        budget: FLOPs.
        seeds: at most so many runs of one size and rate.
        allowed: whether a set of runs can carry the form; sets that cannot are not returned.
    """

    candidates: Candidates
    judge: Judge
    budget: float
    seeds: int
    allowed: Callable[[Sequence[int]], bool] = lambda chosen: True

    def affordable(self, chosen: Sequence[int], budget: float | None = None) -> np.ndarray:
        """Indices of the candidates that can be added within the budget and the seeds."""
        cells = self.candidates.cell
        full = np.bincount(cells[list(chosen)], minlength=cells.max() + 1) >= self.seeds
        left = (self.budget if budget is None else budget) - self.candidates.cost(chosen)
        return np.flatnonzero((self.candidates.more(chosen) <= left * (1 + 1e-12)) & ~full[cells])

    def greedy(self, start: Sequence[int], *, per_flop: bool) -> list[int]:
        """Add the run that gains most, or most per FLOP, until nothing affordable is worth it."""
        chosen = list(start)
        while (new := self.affordable(chosen)).size:
            gains = self.judge.gains(chosen, new)
            weight = self.candidates.more(chosen)[new] if per_flop else 1.0
            if gains.max() < _LEAST_GAIN:
                break
            chosen.append(int(new[np.argmax(np.where(gains >= _LEAST_GAIN, gains / weight, 0.0))]))
        return chosen

    def exchange(self, start: Sequence[int], *, passes: int = 20) -> list[int]:
        """Swap or drop one run while that helps, and spend what is left over, until nothing changes."""
        chosen, best = list(start), self.judge.value(start)
        for _ in range(passes):
            before = best
            for run in list(chosen):
                rest = list(chosen)
                rest.remove(run)
                alone = self.judge.value(rest)
                # a run that the law fits badly may do more harm than good: -1 stands for none in its place
                new = np.concatenate([[-1], self.affordable(rest)]).astype(int)
                values = np.concatenate([[alone], alone - self.judge.gains(rest, new[1:])])
                for at in np.argsort(values):
                    if values[at] > best - _LEAST_GAIN:
                        break
                    swapped = rest if new[at] < 0 else [*rest, int(new[at])]
                    if self.allowed(swapped):
                        chosen, best = swapped, float(values[at])
                        break
            chosen = self.greedy(chosen, per_flop=False)
            best = self.judge.value(chosen)
            if before - best < _LEAST_GAIN:
                break
        return chosen

    def best(self, starts: Sequence[Sequence[int]], *, followed: int = 4) -> list[int]:
        """The best set found by exchange from the most promising of these starts, all of them allowed."""
        ranked = sorted(starts, key=self.judge.value)[:followed]
        return min((self.exchange(start) for start in ranked), key=self.judge.value)

"""Variance components of nested factors, in time and memory that grow with the checkpoints and not with their square.

The model is r = sum_j Z_j u_j + e + rows @ (anything). A factor Z_j has one column for each group, zero outside of
the group. So it is kept as two vectors, the group of each checkpoint and its entry, never as a matrix [n, groups].
Projections on such columns are sums within groups. The few columns of `rows` are a low-rank correction of them.

Source: Henderson's method 3 (Searle, Casella & McCulloch 1992, Variance Components, chapter 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: a column that keeps less than this share of its length once others are projected out depends on them
_DEPENDS = 1e-9
#: effects that answer to themselves with less than this share of their squares are not identified: it is rounding
_ANSWERS = 1e-6


@dataclass(frozen=True, eq=False)
class Factor:
    """Columns Z [n, k] with disjoint support: `group` [n] is the column of each row, `weight` [n] its entry there."""

    group: np.ndarray
    weight: np.ndarray

    @property
    def count(self) -> int:
        return int(self.group.max()) + 1

    def cross(self, other: np.ndarray) -> np.ndarray:
        """Z' other: [k] of a vector [n], [k, p] of columns [n, p]."""
        return sums(self.group, self.weight * other if other.ndim == 1 else self.weight[:, None] * other, self.count)

    def square(self) -> np.ndarray:
        """The squared length of each column, [k]."""
        return self.cross(self.weight)

    def times(self, effect: np.ndarray) -> np.ndarray:
        """Z effect, [n] or [n, p]."""
        return self.weight * effect[self.group] if effect.ndim == 1 else self.weight[:, None] * effect[self.group]


def sums(group: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Sums of `values` [n] or [n, p] within groups, [count] or [count, p]."""
    if values.ndim == 1:
        return np.bincount(group, values, minlength=count)
    columns = [np.bincount(group, column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros((count, 0))


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances of the factors and, last, of the noise; degrees of freedom and effects of the factors."""

    variances: tuple[float, ...]
    dof: tuple[float, ...]
    effects: tuple[np.ndarray, ...]
    rest: np.ndarray


def components(residual: np.ndarray, factors: Sequence[Factor], rows: np.ndarray) -> Components:
    """Variances of residual = sum_j Z_j u_j + e + rows @ (anything), by sums of squares of estimated effects.

    One factor, or two of which the second lies within the first (runs within sizes). Each is estimated with `rows`
    [n, p] (what the fit could absorb) and the factors before it projected out, the noise with all of them. The expected
    sums of squares are then triangular in the variances: noise first, then the last factor, and so on; one that would
    be negative is 0. The degrees of freedom are Satterthwaite's, of the chi-square whose mean and variance match the
    quadratic form.
    """
    assert 1 <= len(factors) <= 2
    spans = [_Span(rows, factors[:j]) for j in range(len(factors) + 1)]
    rest = spans[-1].without(residual)
    left = len(residual) - spans[-1].rank
    noise = float(rest @ rest) / left if left > 0 else 0.0
    variances, dof, effects = [noise], list[float](), list[np.ndarray]()
    for j in reversed(range(len(factors))):
        factor, span = factors[j], spans[j]
        square = factor.square()
        effect = factor.cross(span.without(residual)) / square
        # how the effects answer to each later factor and to the noise
        answers = [_answer(factor, later, span) for later in factors[j + 1 :]]
        answers.append(float(np.sum(1 / square)) - span.seen_by(factor))
        itself, spread = _Answer(factor, span).squares()
        explained = sum(a * v for a, v in zip(answers, variances, strict=True))
        usable = itself > _ANSWERS * factor.count
        variances.insert(0, max((float(effect @ effect) - float(explained)) / itself, 0.0) if usable else 0.0)
        dof.insert(0, itself**2 / spread if usable else 0.0)
        effects.insert(0, effect)
    return Components(variances=tuple(variances), dof=tuple(dof), effects=tuple(effects), rest=rest)


class _Span:
    """What `rows` and nested factors span: orthonormal grouped columns (`parts`) and dense ones (`basis`, [n, q])."""

    def __init__(self, rows: np.ndarray, factors: Sequence[Factor]) -> None:
        self.parts: list[Factor] = []
        self.rank = 0
        for factor in reversed(factors):
            # a coarse column keeps its support when finer groups, which lie within it, are projected out
            weight = factor.weight - self._grouped(factor.weight)
            length = np.sqrt(factor.cross(factor.weight))
            kept = np.sqrt(np.bincount(factor.group, weight**2, minlength=factor.count))
            own = kept > _DEPENDS * length
            scale = np.where(own, 1 / np.where(own, kept, 1.0), 0.0)
            self.parts.append(Factor(factor.group, weight * scale[factor.group]))
            self.rank += int(own.sum())
        unit = rows / np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
        unit = unit - self._grouped(unit)
        left, singular, _ = np.linalg.svd(unit, full_matrices=False)
        # the columns had length one: what is left of one that depends on the factors is rounding
        self.basis = left[:, singular > _DEPENDS * max(1.0, singular.max(initial=0.0))]
        self.rank += self.basis.shape[1]

    def _grouped(self, z: np.ndarray) -> np.ndarray:
        return sum((part.times(part.cross(z)) for part in self.parts), start=np.zeros_like(z))

    def without(self, z: np.ndarray) -> np.ndarray:
        """`z` [n] with all of this projected out."""
        return z - self._grouped(z) - self.basis @ (self.basis.T @ z)

    def seen_by(self, factor: Factor) -> float:
        """Sum of squares of what the factor's group means make of an orthonormal basis of this."""
        square = factor.square()
        dense = float(np.sum((factor.cross(self.basis) / square[:, None]) ** 2))
        return dense + sum(float(np.sum((factor.cross(part.weight) / square) ** 2)) for part in self.parts)


def _answer(factor: Factor, later: Factor, span: _Span) -> float:
    """Sum of squares of how the effects of the first factor answer to the effects of a finer one."""
    square = factor.square()
    inside = np.zeros(later.count, dtype=int)
    inside[later.group] = factor.group
    direct = later.cross(factor.weight) / square[inside]
    mean, cross = factor.cross(span.basis) / square[:, None], later.cross(span.basis)
    through = float(np.sum((mean.T @ mean) * (cross.T @ cross)))
    return float(direct @ direct) - 2 * float(direct @ np.sum(mean[inside] * cross, axis=1)) + through


class _Answer:
    """How a factor's estimated effects answer to the factor itself: X = I - u v' (within coarser groups) - L R'.

    u and v [k] come from the coarser factor that is projected out, L and R [k, q] from the dense columns.
    """

    def __init__(self, factor: Factor, span: _Span) -> None:
        square = factor.square()
        self.right = factor.cross(span.basis)
        self.left = self.right / square[:, None]
        self.inside = np.zeros(factor.count, dtype=int)
        self.v = np.zeros(factor.count)
        for part in span.parts:
            self.inside[factor.group] = part.group
            self.v = factor.cross(part.weight)
        self.u = self.v / square

    def squares(self) -> tuple[float, float]:
        """The squared Frobenius norms of X and of X'X, [k, k], neither of which is formed."""
        uu, uv, vv = (self._within(a * b) for a, b in ((self.u, self.u), (self.u, self.v), (self.v, self.v)))
        k = len(self.u)
        gram, right = self.left.T @ self.left, self.right.T @ self.right
        # B = I - u v', a = B' L
        a = self.left - self._outer(self.v, self.u, self.left)
        first = k - 2 * float(uv.sum()) + float(uu @ vv) - 2 * float(np.sum(a * self.right))
        first += float(np.sum(gram * right))
        # X'X = B'B + U C U' with U = [a, R]; B'B = I + W C' W' with W = [u, v] in every coarser group
        trace = -2 * uv + uu * vv
        turned = (uv**2 + (uu * vv - uv) ** 2 - 2 * vv * (uu * uv - uu)).sum()
        of_b = k + 2 * float(trace.sum()) + float(turned)
        u = np.concatenate([a, self.right], axis=1)
        q = gram.shape[0]
        c = np.block([[np.zeros((q, q)), -np.eye(q)], [-np.eye(q), gram]])
        through_b = u - self._outer(self.u, self.v, u) - self._outer(self.v, self.u, u)
        through_b += self._outer(self.v * uu[self.inside], self.v, u)
        inner = c @ (u.T @ u)
        return first, of_b + 2 * float(np.sum((c @ u.T) * through_b.T)) + float(np.sum(inner * inner.T))

    def _within(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.inside, values)

    def _outer(self, a: np.ndarray, b: np.ndarray, z: np.ndarray) -> np.ndarray:
        """a b' z within the coarser groups, for z [k, q]."""
        return a[:, None] * sums(self.inside, b[:, None] * z, int(self.inside.max()) + 1)[self.inside]

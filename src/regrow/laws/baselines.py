"""What a sceptic would predict without a law: the last loss seen, the nearest run, a power law of the run alone."""

from __future__ import annotations

import numpy as np

from regrow.laws.observations import Observations


def errors(
    folds: list[tuple[Observations, Observations]], hold_out: str, *, relative: bool = True
) -> dict[str, float | None]:
    """Mean absolute error of each baseline over the held-out checkpoints above zero tokens, a share of the loss; in the
    loss's own units if not `relative`.

    `last`: within a run, its last fitted loss; for a run not seen, its own baseline loss plus the gap of the nearest
    fitted run (in log size and log rate) at the nearest tokens. `power`: E + B D^-beta through the run's own fitted
    checkpoints; only where the run was seen.
    """
    last, power = [], []
    for fitted, held in folds:
        held = held.keep(held.x.tokens > 0)
        guess = _last_seen(fitted, held) if hold_out == "tokens" else _nearest_gap(fitted, held)
        scale = held.loss if relative else 1.0
        last.append(np.abs((guess - held.loss) / scale))
        if hold_out == "tokens":
            power.append(np.abs((_own_power(fitted, held) - held.loss) / scale))
    return {
        "last": float(np.mean(np.concatenate(last))),
        "power": float(np.mean(np.concatenate(power))) if power else None,
    }


def _last_seen(fitted: Observations, held: Observations) -> np.ndarray:
    final = {fitted.runs[r]: loss for r, loss in zip(fitted.run, fitted.loss, strict=True)}  # sorted: the last wins
    return np.array([final[held.runs[r]] for r in held.run])


def _nearest_gap(fitted: Observations, held: Observations) -> np.ndarray:
    first = np.unique(fitted.run, return_index=True)[1]
    size, rate = np.log(fitted.x.params_before[first]), np.log(np.maximum(fitted.x.pruning_rate[first], 1e-6))
    out = np.empty(len(held))
    for i in range(len(held)):
        apart = np.abs(size - np.log(held.x.params_before[i])) + np.abs(
            rate - np.log(max(held.x.pruning_rate[i], 1e-6))
        )
        points = np.flatnonzero(fitted.run == int(np.argmin(apart)))
        at = points[np.argmin(np.abs(np.log1p(fitted.x.tokens[points]) - np.log1p(held.x.tokens[i])))]
        out[i] = held.x.loss_before[i] + fitted.loss[at] - fitted.x.loss_before[at]
    return out


def _own_power(fitted: Observations, held: Observations) -> np.ndarray:
    """E + B D^-beta by least squares over a grid of exponents, E and B not negative."""
    out = np.empty(len(held))
    for r, name in enumerate(held.runs):
        mine = np.flatnonzero((np.array(fitted.runs)[fitted.run] == name) & (fitted.x.tokens > 0))
        tokens, loss = fitted.x.tokens[mine], fitted.loss[mine]
        scale = np.exp(np.log(tokens).mean())
        best, answer = np.inf, (float(loss[-1]), 0.0, 1.0)
        for beta in np.geomspace(0.02, 3, 80) if len(mine) >= 3 else ():
            power = (tokens / scale) ** -beta
            rows = np.stack([np.ones_like(power), power], axis=1)
            (e, b) = np.linalg.lstsq(rows, loss, rcond=None)[0]
            if b < 0:  # a loss that rises: the best that this baseline can say is a constant
                e, b = float(loss.mean()), 0.0
            elif e < 0:
                e, b = 0.0, float(power @ loss / (power @ power))
            cost = float(np.sum((e + b * power - loss) ** 2))
            if cost < best:
                best, answer = cost, (float(e), float(b), float(beta))
        e, b, beta = answer
        here = held.run == r
        out[here] = e + b * (held.x.tokens[here] / scale) ** -beta
    return out

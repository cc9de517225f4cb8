"""A plan as data, as one sentence, and as a short block of facts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regrow.html_table import html_table
from regrow.methods import ANY
from regrow.planning.cost import say_gpu_time, say_usd
from regrow.planning.criteria import Budget, Gain
from regrow.planning.score_plan import ScoreAnswer
from regrow.planning.solve import MOST
from regrow.planning.support import interval_in_words
from regrow.planning.verdict import CANNOT_SAY
from regrow.units import format_count, format_si

#: Perplexities above this say no more than that the model is broken.
_MOST_PERPLEXITY = 1e6
#: Nats of which a float can't hold the perplexity.
_MOST_LOSS = 700.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A planned post-training run. Tokens in tokens, losses in nats/token; what is not known is None.

    `tokens_low` to `tokens_high` and `loss_low` to `loss_high` are intervals of coverage `level`: of D* over the law's
    bootstrap draws, and of the loss a run would measure at `tokens`. A budget fixes the tokens, so there the loss alone
    has an interval. `next_doubling_gain` is what twice the tokens would buy (nats), `floor` the loss the law
    approaches. `params_after` and `pruning_rate` are those reached, of whole blocks or channels where the shape is
    known. Where the law's runs support no number (`regrow.planning.support`), `tokens` is None, `tokens_reason` says
    why ("less than ..."), and an end of the interval that they don't support is None as well; `tokens_supported` are
    the tokens between which they support one, None where the law has no draws. `verdict` is `trust`,
    `rough` or `cannot say` (`regrow.planning.verdict`) with its reason, and `next_run` the run to make where it can't
    say. `warnings` come by their weight for this answer. `loss_pruned` and `others` are what else it was asked with.
    `loss_start` is the loss right after pruning, nats/token: the one given, or the law's own guess; None where it has
    none. `model` is the name that the model was given by, `removed` what pruning takes from its shape, and `beside`
    the shapes beside it where the rate asked for lies between two. `active_params_before` and `active_params_after` are
    the parameters that a token of a mixture of experts is computed with, `target_active_params` those asked for; None
    for a dense model or an unknown shape. `memory` is what it takes where it is served, bytes
    (`weights`, `cache`, `total`), beside the target that was asked for; None where none was. `gap` is `loss` -
    `loss_before`. `context` is the length of a training sequence in tokens, `criterion_options` the thresholds by the
    names of their options; of `flops_per_token`, those of a training token, `teacher_flops` are a teacher's forward
    pass. Of a law of benchmark scores every loss is the error 1 - score, and `scored` says the same in scores.
    `extrapolates` maps an input outside the fitted data to the factor, above 1, by which it is.
    """

    tokens: float | None
    tokens_low: float | None
    tokens_high: float | None
    criterion: str
    because: str
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    next_doubling_gain: float | None
    floor: float | None
    flops: float | None
    flops_how: str
    gpu_hours: float | None
    cost_usd: float | None
    gpu: str
    mfu: float
    mfu_how: str
    level: float
    params_before: float
    params_after: float
    pruning_rate: float
    loss_before: float
    loss_start: float | None
    loss_start_guessed: bool
    family: str
    method: str
    form: str
    baseline: str
    extrapolates: Mapping[str, float]
    warnings: tuple[str, ...]
    verdict: str = CANNOT_SAY
    verdict_because: str = ""
    next_run: str | None = None
    tokens_reason: str | None = None
    tokens_supported: tuple[float, float] | None = None
    loss_pruned: float | None = None
    model: str | None = None
    removed: str | None = None
    beside: str | None = None
    memory: Mapping[str, Any] | None = None
    active_params_before: float | None = None
    active_params_after: float | None = None
    target_active_params: float | None = None
    others: Mapping[str, float] = field(default_factory=dict)
    context: int = 4096
    criterion_options: Mapping[str, float] = field(default_factory=dict)
    price_usd_per_hour: float | None = None
    flops_per_token: float | None = None
    teacher_flops: float = 0.0
    scored: ScoreAnswer | None = None

    @property
    def gap(self) -> float | None:
        """What is left at the end of what pruning cost, nats/token."""
        return None if self.loss is None else self.loss - self.loss_before

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the keys of `regrow plan --json`, and some more."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "scored"}
        lists: dict[str, Any] = {
            "extrapolates": dict(self.extrapolates),
            "others": dict(self.others),
            "warnings": list(self.warnings),
        }
        lists["criterion_options"] = dict(self.criterion_options)
        lists["tokens_supported"] = None if self.tokens_supported is None else list(self.tokens_supported)
        if self.scored is not None:
            return {**plain, "gap": self.gap, **self.scored.to_dict(), **lists}
        end = {
            "gap": self.gap,
            "perplexity_before": perplexity(self.loss_before),
            "perplexity": None if self.loss is None else perplexity(self.loss),
        }
        return {**plain, **end, **lists}

    def __str__(self) -> str:
        """The verdict, the answer as a block, and below it what to beware of."""
        return "\n".join([self.judgement(), self.block(), *(f"  ! {warning}" for warning in self.warnings)])

    def _repr_html_(self) -> str:
        """For a notebook: the verdict, the answer as a table, and what to beware of."""
        return html_table((), self.facts(), title=self.judgement(), notes=self.warnings)

    def judgement(self) -> str:
        """The verdict in one line, with the run to make where the law cannot say."""
        more = f". Next: {self.next_run}" if self.next_run else ""
        return f"{self.verdict}: {self.verdict_because}{more}."

    def interval(self) -> str:
        """The interval of D* in words; an end that the runs don't support is open."""
        return interval_in_words(self.tokens_low, self.tokens_high, self.level, self.tokens_supported)

    def sentence(self) -> str:
        """The answer in one line."""
        how = "" if self.method == ANY else f"{self.method} "
        model = f"{self.family} of {format_count(self.params_before)}, {how}pruned at {self.pruning_rate:.3g}"
        if self.tokens is None:
            return f"{model}: {self._no_number()}."
        if self.tokens_reason is not None:
            what = f"no {'loss' if self.scored is None else 'score'}"
            return (
                f"{model}: {what} is given for the {format_count(self.tokens)} tokens paid for: {self.tokens_reason}."
            )
        interval = "" if self.criterion == Budget.name else f" ({self.interval()})"
        answer = (
            f"{model}: stop at {format_count(self.tokens)} tokens{interval} by the criterion {self.criterion}, "
            f"because from there {self.because}."
        )
        if self.loss is not None:
            answer += self._expected()
            if self.gpu_hours is not None:
                answer += f", {say_gpu_time(self.gpu_hours)} ({self.gpu}, MFU {self.mfu:.3g} {self.mfu_how})"
            answer += f", {say_usd(self.cost_usd)}." if self.cost_usd is not None else "."
            if self.criterion != Gain.name and self.next_doubling_gain is not None:
                answer += f" The next doubling of the tokens would buy {self._gain(self.next_doubling_gain)}."
        return answer

    def _expected(self) -> str:
        """The loss, or the score, that is expected at the planned tokens."""
        if self.scored is not None and self.scored.score is not None:
            return f" Expected {self.scored.target} {self.scored.score:.3f}{self.scored.between(self.level)}"
        bounds = f" ({self.loss_low:.3f} to {self.loss_high:.3f})" if self.loss_low and self.loss_high else ""
        return f" Expected loss {self.loss:.3f}{bounds} nats"

    def _gain(self, gain: float) -> str:
        """What more tokens buy, in words."""
        return f"{gain:.2g} nats" if self.scored is None else f"{100 * gain:.2g} points"

    def facts(self) -> list[tuple[str, str]]:
        """What the plan says, as names and values, in the order in which they are asked for."""
        rows = [
            ("model", f"{self.model or 'a model'} of {format_count(self.params_before)} parameters"),
            ("pruning", self._pruning()),
            ("nearest shapes", self.beside or ""),
            ("parameters", f"{format_count(self.params_before)} -> {format_count(self.params_after)}"),
            ("of a token", self._active()),
            ("memory", self._memory()),
            ("loss", self._losses()) if self.scored is None else (self.scored.target, self.scored.words(self.level)),
            ("at the end", self._end()),
            ("tokens", self._tokens()),
            ("time and cost", self._costs()),
            ("why", "" if self.tokens is None else f"{self.criterion}: from there {self.because}"),
            ("law", f"{self.form}, {self.family}"),
        ]
        return [(name, text) for name, text in rows if text]

    def block(self) -> str:
        """The facts as lines of text, their names in a column of their own."""
        rows = self.facts()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)

    def _pruning(self) -> str:
        goes = f": {self.removed}" if self.removed else ""
        method = "any method" if self.method == ANY else self.method
        one = (self.removed or "").startswith("1 of")
        verb = "" if not goes or "->" in goes else " goes" if one else " go"
        return f"{method} at a rate of {self.pruning_rate:.3g}{goes}{verb}"

    def _memory(self) -> str:
        """What the pruned model takes where it is served, and what it may take."""
        if self.memory is None:
            return ""
        weights, cache, total, limit = (
            format_si(self.memory[key], "B") for key in ("weights", "cache", "total", "max_memory")
        )
        served = f"{self.memory['context']:,} tokens x {self.memory['batch']}"
        return (
            f"{total} of {limit}: weights {weights} ({self.memory['dtype']}), KV cache {cache} "
            f"({self.memory['cache_dtype']}, {served})"
        )

    def _active(self) -> str:
        """The parameters that a token of a mixture of experts is computed with, and those asked for."""
        if self.active_params_before is None or self.active_params_after is None:
            return ""
        asked = "" if self.target_active_params is None else f", {format_count(self.target_active_params)} asked for"
        counts = f"{format_count(self.active_params_before)} -> {format_count(self.active_params_after)}"
        return f"{counts} parameters{asked}"

    def _losses(self) -> str:
        """The loss before pruning, right after it, and at the end, nats/token."""
        start, end = "not known right after pruning", "not known at the end"
        if self.loss_start is not None:
            start = f"{self.loss_start:.3f} right after pruning{' (guessed)' if self.loss_start_guessed else ''}"
        if self.loss is not None:
            known = self.loss_low is not None and self.loss_high is not None
            between = f" ({self.loss_low:.3f} to {self.loss_high:.3f}, {self.level:.0%})" if known else ""
            end = f"{self.loss:.3f} at the end{between}"
        return f"{self.loss_before:.3f} before -> {start} -> {end}"

    def _end(self) -> str:
        if self.scored is not None:
            return self.scored.gap()
        if self.loss is None or self.gap is None:
            return ""
        return f"gap {self.gap:+.3f} nats, perplexity {say_perplexity(self.loss_before)} -> {say_perplexity(self.loss)}"

    def _no_number(self) -> str:
        """Why there is no number of tokens."""
        return self.tokens_reason or f"no number of tokens up to {MOST:.0e} is enough that {self.because}"

    def _tokens(self) -> str:
        """D* with its interval, a bound, or why there is no number."""
        if self.tokens is None:
            return self._no_number()
        if self.criterion == Budget.name:
            return f"{format_count(self.tokens)} (what the budget pays for)"
        return f"{format_count(self.tokens)} ({self.interval()})"

    def _costs(self) -> str:
        """GPU time and money."""
        if self.gpu_hours is None:
            return ""
        time = f"{say_gpu_time(self.gpu_hours)} ({self.gpu}, MFU {self.mfu:.3g} {self.mfu_how})"
        return time if self.cost_usd is None else f"{time}, {say_usd(self.cost_usd)}"


def perplexity(loss: float) -> float | None:
    """The perplexity of a loss in nats/token; None for one past what a number holds."""
    return math.exp(loss) if loss < _MOST_LOSS else None


def say_perplexity(loss: float) -> str:
    """The perplexity of a loss in nats/token, three digits."""
    value = perplexity(loss)
    known = value is not None and value < _MOST_PERPLEXITY
    return format(value, ".3g") if known else f"over {_MOST_PERPLEXITY:.0e}"

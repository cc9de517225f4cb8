"""What a model answers: the tokens that it prefers after a few texts, by transformers in float32.

Tokens are picked greedily, each the likeliest after those before it. Two programs that compute the same model pick the
same tokens, unless the two likeliest are as good as equal: the margin says how near they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, DynamicCache, PretrainedConfig, PreTrainedModel

from regrow.errors import InputError
from regrow.models.library import one_line_errors, quiet
from regrow.models.load import load_tokenizer
from regrow.models.tokenizer import PROBE, has_tokenizer

#: Prompts where there is no tokenizer, their tokens, and the most tokens of a text.
_RANDOM_PROMPTS, _RANDOM_LENGTH, _MOST = 6, 16, 48

#: Logits further apart than this are no rounding: programs round activations to the type of the weights they multiply.
SAME_LOGITS = {torch.float32: 2e-3, torch.float16: 0.1, torch.bfloat16: 0.5}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Greedy answers to some prompts.

    Attributes:
        prompts: the tokens of each.
        tokens: the tokens picked after each prompt.
        margins: how far the likeliest token's logit stood above the next, for each token picked.
        logits: logits after the last token of each prompt [prompts, vocabulary]; None where a program gives none.
        texts, text_tokens, ends: as in `Prompts`.
    """

    prompts: list[list[int]]
    tokens: list[list[int]]
    margins: list[list[float]]
    logits: torch.Tensor | None = None
    texts: tuple[str, ...] = ()
    text_tokens: tuple[int, ...] = ()
    ends: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What is asked.

    Attributes:
        ids: the tokens of each prompt.
        texts, text_tokens: whole texts that the model has room for, and how many tokens its tokenizer makes of each;
            empty without one.
        ends: special tokens, at which a program may stop.
    """

    ids: list[list[int]]
    texts: tuple[str, ...] = ()
    text_tokens: tuple[int, ...] = ()
    ends: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a program's answers compare with the reference's.

    Attributes:
        compared, equal: tokens compared, and those equal, up to the first difference of each prompt.
        worst_margin: the largest margin of the reference at a token that differs; None where none does.
        logit_error: the largest difference of a logit after a prompt; None where the program gives none.
        noise: margins below this are rounding.
    """

    compared: int
    equal: int
    worst_margin: float | None
    logit_error: float | None = None
    noise: float = SAME_LOGITS[torch.float32]

    @property
    def same(self) -> bool:
        """Whether all tokens are equal, but for those that the reference itself holds equal."""
        return self.worst_margin is None or self.worst_margin < self.noise

    def sentence(self) -> str:
        """In one line."""
        text = f"{self.equal} of {self.compared} greedy tokens are equal"
        if self.worst_margin is not None:
            text += f"; where one differs, the best two logits lay {self.worst_margin:.2g} apart"
            text += f" (rounding: {self.noise:g})" if self.same else ""
        if self.logit_error is not None:
            text += f"; logits differ by {self.logit_error:.1e} at most"
        return text


def agreement(found: Answers, reference: Answers, dtype: torch.dtype = torch.float32) -> Agreement:
    """Compare answers prompt by prompt, each up to its first difference: after it the texts are others.

    `dtype` is the type in which the program multiplies.
    """
    compared = equal = 0
    margins = []
    for got, wanted, margin in zip(found.tokens, reference.tokens, reference.margins, strict=True):
        for place, token in enumerate(wanted):
            if place == len(got) and reference.ends.intersection(wanted[max(place - 1, 0) : place + 1]):
                break  # it stopped at a token that ends a text, and named that token or not
            compared += 1
            if place >= len(got) or got[place] != token:
                margins.append(margin[place])
                break
            equal += 1
    error = None
    if found.logits is not None and reference.logits is not None:
        error = float((found.logits - reference.logits).abs().max())
    return Agreement(
        compared=compared,
        equal=equal,
        worst_margin=max(margins, default=None),
        logit_error=error,
        noise=SAME_LOGITS[dtype],
    )


def load_reference(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model as transformers loads it, in float32; its matrices are rounded to `dtype`, as a file holds them.

    Raises `InputError` if transformers can't load it, or leaves a parameter without its numbers.
    """
    where = str(folder)
    with one_line_errors(where, "transformers can't load the model"), quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            where, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    odd = sorted({*report["missing_keys"], *report["unexpected_keys"]})
    if odd:
        raise InputError(f"transformers found no place for the tensor {odd[0]!r}", where=where)
    return rounded(model, dtype)


def rounded(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its matrices rounded to `dtype`, still in float32."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(parameter.to(dtype))
    return model.eval()


def end_of(config: PretrainedConfig) -> int:
    """The token that ends a text, by a model's config; 0 where it names none."""
    end = getattr(config, "eos_token_id", None)
    end = end[0] if isinstance(end, list) and end else end
    return end if isinstance(end, int) else 0


def prompts_for(folder: Path, config: PretrainedConfig, longest: int) -> Prompts:
    """A few texts in the model's tokens; random tokens where it has no tokenizer."""
    if has_tokenizer(folder):
        tokenizer = load_tokenizer(folder)
        split = [list(map(int, tokenizer(text)["input_ids"])) for text in PROBE]
        within = [(text, len(ids)) for text, ids in zip(PROBE, split, strict=True) if len(ids) <= longest]
        return Prompts(
            ids=[ids[: min(_MOST, longest)] for ids in split],
            texts=tuple(text for text, _ in within),
            text_tokens=tuple(count for _, count in within),
            ends=frozenset(map(int, tokenizer.all_special_ids)),
        )
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randint(config.vocab_size, (_RANDOM_PROMPTS, min(_RANDOM_LENGTH, longest)), generator=rng)
    return Prompts(ids=[[int(token) for token in row] for row in drawn], ends=frozenset({end_of(config)}))


@torch.no_grad()
def answers_of(model: PreTrainedModel, prompts: Prompts, count: int) -> Answers:
    """The greedy answers of a transformers model, `count` tokens to each prompt, with its cache."""
    tokens, margins, logits = [], [], []
    for prompt in prompts.ids:
        cache = DynamicCache(config=model.config)
        ids, picked, far = torch.tensor([prompt]), [], []
        for number in range(count):
            last = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[0, -1].float()
            if number == 0:
                logits.append(last)
            best = last.topk(2).values
            picked.append(int(last.argmax()))
            far.append(float(best[0] - best[1]))
            ids = torch.tensor([[picked[-1]]])
        tokens.append(picked)
        margins.append(far)
    return Answers(
        prompts=prompts.ids, tokens=tokens, margins=margins, logits=torch.stack(logits), texts=prompts.texts,
        text_tokens=prompts.text_tokens, ends=prompts.ends,
    )  # fmt: skip


@torch.no_grad()
def answers_without_cache(model: PreTrainedModel, reference: Answers) -> Answers:
    """The same answers read in one pass over prompt and answer, which uses no cache."""
    tokens, logits = [], []
    for prompt, answer in zip(reference.prompts, reference.tokens, strict=True):
        out = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0].float()
        tokens.append(out[len(prompt) - 1 : -1].argmax(-1).tolist())
        logits.append(out[len(prompt) - 1])
    return Answers(prompts=reference.prompts, tokens=tokens, margins=reference.margins, logits=torch.stack(logits))

"""Multiple-choice questions from the ladder's held-out text, easy enough for models of 0.2 to 3 million parameters.

Public benchmarks ask for knowledge that such models don't have: they score at chance. These questions ask for language
alone. All of them give four choices, so that guessing scores 0.25, and come from documents that no model was trained
on. Everything is drawn by hashes of the seed, so that the same text gives the same questions on every machine.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from regrow.errors import InputError

CHOICES = 4
QUESTIONS = 1000

_WORD = re.compile(r"\S+")
_PLAIN_WORD = re.compile(r"\b[a-z]{3,}\b")
#: Share of letters and spaces that makes a passage prose and not code or a table.
_PROSE = 0.85
#: The most frequent words, which fit nearly everywhere, are not asked for.
_COMMON_WORDS = 150
#: Tries to find a wrong answer of about the same length.
_TRIES = 400


@dataclass(frozen=True, kw_only=True)
class Question:
    """A passage and four ways to go on; `answer` is the place of the right one among `choices`."""

    context: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Words in a row of one document: `context`, and the words of one line that follow it."""

    document: int
    context: str
    following: tuple[str, ...]


def draw(*what: object) -> float:
    """A number in [0, 1) that depends on `what` alone: the first 8 bytes of its BLAKE2b digest."""
    digest = hashlib.blake2b("\x1f".join(map(str, what)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def passages(documents: Sequence[str], *, context: int, following: int, seed: int) -> list[Passage]:
    """Passages of prose that do not overlap, in an order drawn by the seed.

    Args:
        context: words before the cut.
        following: words after it; they stand on the line where the context ends.
    """
    found = [
        (draw(seed, index, start), passage)
        for index, text in enumerate(documents)
        for start, passage in _passages_of(index, text, context, following)
    ]
    return [passage for _, passage in sorted(found, key=lambda each: each[0])]


def _passages_of(index: int, text: str, context: int, following: int) -> Iterator[tuple[int, Passage]]:
    words = [(match.start(), match.end()) for match in _WORD.finditer(text)]
    cut = context
    while cut + following <= len(words):
        line = text[words[cut - 1][1] : words[cut + following - 1][1]]
        letters = sum(each.isalpha() or each == " " for each in line)
        if line.startswith(" ") and "\n" not in line and letters >= _PROSE * len(line):
            before = text[words[cut - context][0] : words[cut - 1][1]]
            yield words[cut][0], Passage(document=index, context=before, following=tuple(line.split()))
            cut += context + following
        else:
            cut += 1


def _question(true: str, wrong: Sequence[str], context: str, *seed: object) -> Question:
    place = int(draw("place", *seed) * CHOICES)
    choices = [*wrong[:place], true, *wrong[place:]]
    return Question(context=context, choices=tuple(choices), answer=place)


def continuations(documents: Sequence[str], *, count: int = QUESTIONS, seed: int = 0) -> list[Question]:
    """Which of four continues this passage? The wrong ones continue passages of other documents."""
    found = passages(documents, context=10, following=4, seed=seed)
    questions = []
    for number, passage in enumerate(found):
        true = " ".join(passage.following)
        wrong: list[str] = []
        for attempt in range(_TRIES):
            other = found[int(draw("other", seed, number, attempt) * len(found))]
            text = " ".join(other.following)
            alike = abs(len(text) - len(true)) <= 2
            if alike and other.document != passage.document and text not in (true, *wrong):
                wrong.append(text)
            if len(wrong) == CHOICES - 1:
                questions.append(_question(true, wrong, passage.context, seed, number))
                break
        if len(questions) == count:
            break
    return _enough(questions, count, "continuations")


def words(documents: Sequence[str], *, count: int = QUESTIONS, seed: int = 0) -> list[Question]:
    """Which of four words was here? The wrong ones are about as frequent; the most frequent words are left out."""
    seen = Counter(word for text in documents for word in _PLAIN_WORD.findall(text))
    ranked = sorted((word for word, times in seen.items() if times >= 5), key=lambda word: (-seen[word], word))
    rank = {word: place for place, word in enumerate(ranked)}
    questions = []
    for number, passage in enumerate(passages(documents, context=12, following=1, seed=seed)):
        (true,) = passage.following
        place = rank.get(true, 0)
        if place < _COMMON_WORDS:
            continue
        near = [word for word in ranked[int(place / 1.6) : int(place * 1.6) + 1] if word != true]
        near.sort(key=lambda word: draw("word", seed, number, word))
        questions.append(_question(true, near[: CHOICES - 1], passage.context, seed, number))
        if len(questions) == count:
            break
    return _enough(questions, count, "words")


def orders(documents: Sequence[str], *, count: int = QUESTIONS, seed: int = 0) -> list[Question]:
    """Which of four orders do these words stand in? In the wrong ones two neighbours have changed places."""
    questions = []
    for number, passage in enumerate(passages(documents, context=8, following=6, seed=seed)):
        true = passage.following
        swapped = [(*true[:i], true[i + 1], true[i], *true[i + 2 :]) for i in range(len(true) - 1)]
        wrong = [" ".join(each) for each in dict.fromkeys(swapped) if each != true]
        wrong.sort(key=lambda text: draw("order", seed, number, text))
        if len(wrong) >= CHOICES - 1:
            questions.append(_question(" ".join(true), wrong[: CHOICES - 1], passage.context, seed, number))
        if len(questions) == count:
            break
    return _enough(questions, count, "orders")


def _enough(questions: list[Question], count: int, what: str) -> list[Question]:
    if len(questions) < count:
        raise InputError(
            f"the text gives {len(questions)} questions of {what}, not {count}",
            where="ladder tasks",
            hint=f"ask for at most {len(questions)}",
        )
    return questions


#: The tasks by name, the hardest first.
KINDS: dict[str, Callable[..., list[Question]]] = {
    "ladder_continue": continuations,
    "ladder_word": words,
    "ladder_order": orders,
}

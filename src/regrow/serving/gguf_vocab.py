"""A checkpoint's tokenizer in the form that llama.cpp reads: tokens, their types, merges, and how text is split."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from regrow.models.config_file import read_json
from regrow.models.load import load_tokenizer

_FILE, _SENTENCEPIECE = "tokenizer.json", "tokenizer.model"

#: Regular expressions that split text before byte-level BPE, and llama.cpp's name for each (its src/llama-vocab.cpp has
#: them as "original regex"): Llama 3's, Qwen's, those of GPT-4o (Phi-4-mini) and of Mistral's Tekken.
_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = rf"{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASHED = _REST.replace(r"[\r\n]*", r"[\r\n/]*", 1)
_WORD = r"[^\r\n\p{L}\p{N}]?"
_SPLITS = {
    rf"{_LETTERS}\p{{N}}{{1,3}}{_REST}": "llama-bpe",
    rf"{_LETTERS}\p{{N}}{_REST}": "qwen2",
    rf"{_WORD}{_UPPER}*{_LOWER}+{_SHORT}?|{_WORD}{_UPPER}+{_LOWER}*{_SHORT}?|\p{{N}}{{1,3}}{_SLASHED}": "gpt-4o",
    rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}{_SLASHED}": "tekken",
}

#: The space of SentencePiece, and the score of what no merge makes.
_SPACE, _NO_MERGE = "\u2581", -1e6
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def write_vocabulary(writer: Any, gguf: Any, folder: Path, entries: int, end: int) -> list[str]:
    """Write the tokenizer of a folder, and return what the file lacks, in sentences.

    llama.cpp loads no file without a tokenizer. Where the folder has none, or one whose way of splitting text is not
    known here, each entry is named by its number: such a file takes and gives token numbers, no text.

    Args:
        entries: of the model's vocabulary; those beyond the tokenizer's are padding.
        end: the token that ends a text, where there is no tokenizer to say so.
    """
    content = _read(folder)
    prefix = None if content is None else sentencepiece_prefix(content)
    split = None if content is None else pre_tokenizer(content)
    if content is None or (split is None and prefix is None):
        _write_numbers(writer, gguf, entries, end)
        why = f"the folder has no {_FILE}" if content is None else f"how {_FILE} splits text has no known name there"
        return [f"the file takes token numbers only, no text: {why}"]
    tokens, kinds = _tokens(content, gguf, entries)
    if prefix is not None:
        _write_sentencepiece(writer, content, tokens, prefix)
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(tokens)
        writer.add_token_merges([" ".join(merge) for merge in _merges(content)])
    writer.add_token_types(kinds)
    writer.add_add_bos_token(_adds_bos(content))
    _write_specials(writer, folder, dict(zip(tokens, range(len(tokens)), strict=True)))
    return []


def _read(folder: Path) -> Mapping[str, Any] | None:
    """The content of tokenizer.json, or what transformers makes of a folder that has `tokenizer.model` alone."""
    path = folder / _FILE
    if path.is_file():
        return read_json(path, missing="no such file", hint="fetch it again")
    if not (folder / _SENTENCEPIECE).is_file():
        return None
    backend = getattr(load_tokenizer(folder), "backend_tokenizer", None)
    return None if backend is None else json.loads(backend.to_str())


def _merges(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of BPE in their order; older files hold each as one text with a space."""
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in content["model"]["merges"])
    return [(left, right) for left, right in pairs]


def sentencepiece_prefix(content: Mapping[str, Any]) -> bool | None:
    """Whether a `tokenizer.json` of SentencePiece's BPE puts a space before a text; None where it is of another kind.

    llama.cpp merges the pair whose result has the best score, where the file names pairs in their order. The two are
    one if every token is the result of merges that follow one another, and no other text is a token.
    """
    model = content.get("model") or {}
    if model.get("type") != "BPE" or not model.get("byte_fallback"):
        return None
    prefix = _space_prefix(content.get("normalizer") or {}, content.get("pre_tokenizer") or {})
    if prefix is None:
        return None
    results = ["".join(merge) for merge in _merges(content)]
    made = set(results)
    changes = sum(one != other for one, other in pairwise(results)) + bool(results)
    added = {entry["content"] for entry in content.get("added_tokens") or []}
    others = (text for text in model["vocab"] if len(text) > 1 and text not in made and text not in added)
    alike = changes == len(made) and all(_BYTE.fullmatch(text) for text in others)
    return prefix if alike else None


def _space_prefix(normalizer: Mapping[str, Any], before: Mapping[str, Any]) -> bool | None:
    """Whether a space goes before the text, where spaces become SentencePiece's and words stay joined; or None."""
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    steps = [dict(step) for step in normalizer.get("normalizers", [normalizer] if normalizer else [])]
    if before.get("type") == "Metaspace" and not steps and before.get("replacement") == _SPACE:
        scheme = before.get("prepend_scheme", "always" if before.get("add_prefix_space", True) else "never")
        return None if before.get("split", True) else scheme != "never"
    # Gemma splits at spaces, of which the normaliser has left none
    if before and (before.get("type"), before.get("pattern")) != ("Split", {"String": " "}):
        return None
    if steps == [{"type": "Prepend", "prepend": _SPACE}, replaced]:
        return True
    return False if steps == [replaced] else None


def _write_sentencepiece(writer: Any, content: Mapping[str, Any], tokens: list[str], prefix: bool) -> None:
    """The tokens with scores that fall in the order of the merges."""
    rank: dict[str, int] = {}
    for left, right in _merges(content):
        rank.setdefault(left + right, len(rank))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(rank[text]) if text in rank else _NO_MERGE for text in tokens])
    writer.add_add_space_prefix(prefix)


def _write_numbers(writer: Any, gguf: Any, entries: int, end: int) -> None:
    """A vocabulary whose entries are named by their numbers."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"[{number}]" for number in range(entries)])
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * entries)
    writer.add_token_merges(["[ 0"])
    # without it llama.cpp takes entry 11 for the end, as in GPT-2's vocabulary
    writer.add_eos_token_id(end)


def pre_tokenizer(content: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the way in which a `tokenizer.json` splits text; None where it has none that is known here.

    Only byte-level BPE is known; SentencePiece's is `sentencepiece_prefix`'s.
    """
    model = content.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return None
    before = content.get("pre_tokenizer") or {}
    steps = before.get("pretokenizers", [before])
    kinds = [step.get("type") for step in steps]
    if not kinds or kinds[-1] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    if kinds == ["ByteLevel"]:
        return "gpt-2" if steps[0].get("use_regex", True) else None
    if kinds == ["Digits", "ByteLevel"]:
        return "smollm" if steps[0].get("individual_digits") and steps[1].get("use_regex", True) else None
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        name = _SPLITS.get((steps[0].get("pattern") or {}).get("Regex", ""))
        # "llama-bpe" takes a whole word that is an entry without merging it, "dbrx" is the same without that
        return "dbrx" if name == "llama-bpe" and not model.get("ignore_merges") else name
    return None


def _tokens(content: Mapping[str, Any], gguf: Any, entries: int) -> tuple[list[str], list[int]]:
    """The text and the type of each of the model's entries."""
    kind = gguf.TokenType
    texts = {number: text for text, number in content["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, kind.NORMAL)
    if content["model"].get("byte_fallback"):
        kinds.update({number: kind.BYTE for number, text in texts.items() if _BYTE.fullmatch(text)})
    for added in content.get("added_tokens") or []:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = kind.CONTROL if added.get("special") else kind.USER_DEFINED
    unknown = content["model"].get("unk_token")
    kinds.update({number: kind.UNKNOWN for number, text in texts.items() if unknown and text == unknown})
    return (
        [texts.get(number, f"[PAD{number}]") for number in range(entries)],
        [int(kinds.get(number, kind.UNUSED)) for number in range(entries)],
    )


def _adds_bos(content: Mapping[str, Any]) -> bool:
    """Whether text starts with a special token: the post-processor then puts one before the text itself."""
    after = content.get("post_processor") or {}
    steps = after.get("processors", [after])
    templates = [step["single"] for step in steps if step.get("type") == "TemplateProcessing"]
    return any(template and "SpecialToken" in template[0] for template in templates)


def _write_specials(writer: Any, folder: Path, number_of: Mapping[str, int]) -> None:
    """The tokens that begin and end a text, and the chat template, where the folder names them."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in ("bos", "eos", "unk", "pad"):
        named = settings.get(f"{name}_token")
        text = named.get("content") if isinstance(named, Mapping) else named
        if isinstance(text, str) and text in number_of:
            getattr(writer, f"add_{name}_token_id")(number_of[text])
    template = folder / "chat_template.jinja"
    chat = template.read_text(encoding="utf-8") if template.is_file() else settings.get("chat_template")
    if isinstance(chat, str):
        writer.add_chat_template(chat)

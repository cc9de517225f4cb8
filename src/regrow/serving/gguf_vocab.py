"""A checkpoint's tokenizer in the form that llama.cpp reads: tokens, their types, merges, and how text is split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.models.config_file import read_json

_FILE = "tokenizer.json"

#: Regular expressions that split text before byte-level BPE, and llama.cpp's name for each: Llama 3's, and Qwen's.
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS = {rf"{_LETTERS}\p{{N}}{{1,3}}{_REST}": "llama-bpe", rf"{_LETTERS}\p{{N}}{_REST}": "qwen2"}


def write_vocabulary(writer: Any, gguf: Any, folder: Path, entries: int) -> list[str]:
    """Write the tokenizer of a folder, and return what the file lacks, in sentences.

    llama.cpp loads no file without a tokenizer. Where the folder has none, or one whose way of splitting text is not
    known here, each entry is named by its number: such a file takes and gives token numbers, no text.

    Args:
        entries: of the model's vocabulary; those beyond the tokenizer's are padding.
    """
    path = folder / _FILE
    content = read_json(path, missing="no such file", hint="fetch it again") if path.is_file() else None
    split = None if content is None else pre_tokenizer(content)
    if content is None or split is None:
        _write_numbers(writer, gguf, entries)
        why = f"the folder has no {_FILE}" if content is None else f"how {_FILE} splits text has no known name there"
        return [f"the file takes token numbers only, no text: {why}"]
    tokens, kinds = _tokens(content, gguf, entries)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in content["model"]["merges"]]
    )
    writer.add_add_bos_token(_adds_bos(content))
    _write_specials(writer, folder, dict(zip(tokens, range(len(tokens)), strict=True)))
    return []


def _write_numbers(writer: Any, gguf: Any, entries: int) -> None:
    """A vocabulary whose entries are named by their numbers."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"[{number}]" for number in range(entries)])
    writer.add_token_types([int(gguf.TokenType.NORMAL)] * entries)
    writer.add_token_merges(["[ 0"])


def pre_tokenizer(content: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the way in which a `tokenizer.json` splits text; None where it has none that is known here.

    Only byte-level BPE is known.
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
        return _SPLITS.get((steps[0].get("pattern") or {}).get("Regex", ""))
    return None


def _tokens(content: Mapping[str, Any], gguf: Any, entries: int) -> tuple[list[str], list[int]]:
    """The text and the type of each of the model's entries."""
    kind = gguf.TokenType
    texts = {number: text for text, number in content["model"]["vocab"].items()}
    kinds = dict.fromkeys(texts, kind.NORMAL)
    for added in content.get("added_tokens") or []:
        texts[added["id"]] = added["content"]
        kinds[added["id"]] = kind.CONTROL if added.get("special") else kind.USER_DEFINED
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

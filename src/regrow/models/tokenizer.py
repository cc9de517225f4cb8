"""A checkpoint's tokenizer, with the tokens that the model knows.

Beside some architectures `AutoTokenizer` of transformers 5 replaces the pre-tokenizer of `tokenizer.json` by that of
the family's own class, and adds tokens that the model has no entry for. So what it makes is compared with what the file
itself makes of a text, and the file decides.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from regrow.errors import InputError
from regrow.families import SUPPORTED_MODEL_TYPES
from regrow.models.config_file import CONFIG, model_config, read_content
from regrow.models.folder import CheckpointWarning
from regrow.models.library import one_line_errors, quiet

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")

_FAST, _SETTINGS = "tokenizer.json", "tokenizer_config.json"

#: Where a folder names tokens beside `tokenizer.json`.
_NAMING_FILES = (_SETTINGS, "special_tokens_map.json", "added_tokens.json")

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")

#: Text on which two tokenizers with the same entries differ if they split or normalise differently.
PROBE = (
    "In 1987 he paid 1234567 dollars and 3.14159; don't forget, we'll see THEY'RE here.",
    " leading space,  two   three    spaces\ttab\n\nblank line\r\nend ",
    "def f(x):\n    return x**2 != 0x1F  # camelCase snake_case CONSTANT_1",
    "cafe\u0301 caf\u00e9 na\u00efve stra\u00dfe \u0416\u0443 \u65e5\u672c \u0627\u0644 \U0001f600 \ufb01 \u00bd",
    "https://example.org/a?b=1&c=2 user@example.org #tag -- \u2014 \u2026 \u201cquoted\u201d (a)[b]{c}",
    "in 2024 of 1000, 128 256 512; a1b2 c3 \u0661\u0662\u0663",
)


def has_tokenizer(folder: str | Path) -> bool:
    """Whether a local folder holds tokenizer files."""
    return any((Path(folder) / name).is_file() for name in TOKENIZER_FILES)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a local folder.

    Warns with `CheckpointWarning` where transformers' own class would make other tokens. Raises `InputError` if it is
    broken, or config.json is.
    """
    where = str(folder)
    config = _config(folder)
    if not (folder / _FAST).is_file():
        return _auto(folder, config)
    with one_line_errors(str(folder / _FAST), "cannot load the tokenizer", "fetch the file again"):
        own = Tokenizer.from_file(str(folder / _FAST))
        own.no_truncation()
        own.no_padding()
    try:
        auto = _auto(folder, config)
    except InputError as error:
        found, reason = _from_file(folder, own), f"transformers can't read its settings ({error.what})"
    else:
        differing = _difference(auto, own, folder)
        if differing is None:
            return auto
        found, reason = _from_file(folder, own), f"transformers' {type(auto).__name__} {differing}"
    still = _difference(found, own, folder)
    if still is not None:
        raise InputError(f"the tokenizer read from {_FAST} {still}", where=where, hint="correct its special tokens")
    warnings.warn(f"{where}: text is read by {_FAST} as it lies, as {reason}", CheckpointWarning, stacklevel=3)
    return found


def _config(folder: Path) -> PretrainedConfig | None:
    """The model's config, which AutoTokenizer would read without saying what is wrong with it."""
    if not (folder / CONFIG).is_file():
        return None
    content = read_content(folder)
    return model_config(content, folder) if content.get("model_type") in SUPPORTED_MODEL_TYPES else None


def _auto(folder: Path, config: PretrainedConfig | None) -> PreTrainedTokenizerBase:
    with one_line_errors(str(folder), "cannot load the tokenizer"), quiet():
        return AutoTokenizer.from_pretrained(str(folder), config=config, trust_remote_code=False)


def _difference(tokenizer: PreTrainedTokenizerBase, own: Tokenizer, folder: Path) -> str | None:
    """What a tokenizer does otherwise than the file; None if nothing was found."""
    for text in PROBE:
        theirs = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if list(theirs) != own.encode(text, add_special_tokens=False).ids:
            return "makes other tokens of the same text"
    invented = set(tokenizer.get_vocab()) - set(own.get_vocab(with_added_tokens=True)) - set(_named(folder))
    return f"adds the token {min(invented)!r}" if invented else None


def _named(folder: Path) -> Iterator[str]:
    """Every text in the files that name tokens, keys included."""
    waiting: list[Any] = [_settings(folder / name) for name in _NAMING_FILES]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            yield value


def _from_file(folder: Path, own: Tokenizer) -> PreTrainedTokenizerBase:
    """The tokenizer of `tokenizer.json` alone, with the special tokens that the folder names and the file has."""
    special: dict[str, str] = {}
    for name in _SPECIAL:
        for file in _NAMING_FILES[:2]:
            token = _settings(folder / file).get(name)
            token = token.get("content") if isinstance(token, dict) else token
            if isinstance(token, str) and own.token_to_id(token) is not None:
                special.setdefault(name, token)
    if "eos_token" not in special and (folder / CONFIG).is_file():
        ends = read_content(folder).get("eos_token_id")
        end = ends[0] if isinstance(ends, list) and ends else ends
        token = own.id_to_token(end) if isinstance(end, int) and end >= 0 else None
        if token is not None:
            special["eos_token"] = token
    with one_line_errors(str(folder / _FAST), "cannot load the tokenizer"):
        return PreTrainedTokenizerFast(tokenizer_object=own, **special)


def _settings(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

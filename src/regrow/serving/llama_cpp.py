"""How llama.cpp computes each family, and what it can't: read by the writer of GGUF files and by the check. Light.

llama.cpp has a class of its own for most families. Some of them take a size from another one, so that a pruned model
does not fit, or repeat a pattern over the blocks that a cut in depth breaks. Read in the sources of llama.cpp that
xllamacpp 2026.10.11549 is built from, `src/models/NAME.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from regrow.arch import Architecture
from regrow.footprint import windows_of
from regrow.serving.limit import Limit

LLAMA_CPP = "llama.cpp of October 2026"


@dataclass(frozen=True, kw_only=True)
class LlamaCppClass:
    """A class of llama.cpp, by what its models may have.

    Attributes:
        name: its name, which a GGUF file carries.
        halves: whether it rotates the two halves of a head; otherwise neighbouring channels.
        biases: layers whose biases it reads: `qkv`, `o`, `mlp`.
        unused: of these, what it reads and does not add.
        square: whether it takes the hidden width for that of all query heads together.
        windows: whether it knows which blocks have a sliding window.
        output: whether it needs an output matrix in the file, takes one, or always takes the embeddings.
        factors: whether it takes rotary factors (Llama 3's scaling).
    """

    name: str
    halves: bool = False
    biases: frozenset[str] = frozenset({"qkv"})
    unused: frozenset[str] = frozenset()
    square: bool = False
    windows: bool = False
    output: Literal["needed", "taken", "embeddings"] = "taken"
    factors: bool = False


_ALL = frozenset({"qkv", "o", "mlp"})
_LLAMA = LlamaCppClass(name="llama", biases=_ALL, factors=True)

#: The class of each of our families (transformers' `model_type`).
CLASSES: dict[str, LlamaCppClass] = {
    **dict.fromkeys(("llama", "mistral", "ministral", "internlm3", "iquestcoder", "helium"), _LLAMA),
    "qwen2": LlamaCppClass(name="qwen2", halves=True, square=True),
    "qwen3": LlamaCppClass(name="qwen3", halves=True),
    "qwen3_moe": LlamaCppClass(name="qwen3moe", halves=True),
    "smollm3": LlamaCppClass(name="smollm3"),
    "ministral3": LlamaCppClass(name="mistral3", biases=_ALL, factors=True),
    "seed_oss": LlamaCppClass(name="seed_oss", halves=True),
    "granite": LlamaCppClass(name="granite", biases=_ALL, factors=True),
    "gemma": LlamaCppClass(name="gemma", halves=True, output="embeddings"),
    "gemma2": LlamaCppClass(name="gemma2", halves=True, windows=True, output="embeddings"),
    "gemma3_text": LlamaCppClass(name="gemma3", halves=True, windows=True),
    "ernie4_5": LlamaCppClass(name="ernie4_5", biases=frozenset({"qkv", "o"}), unused=frozenset({"o"})),
    **dict.fromkeys(
        ("olmo2", "olmo3"), LlamaCppClass(name="olmo2", halves=True, square=True, windows=True, output="needed")
    ),
    "exaone4": LlamaCppClass(name="exaone4", halves=True, square=True, windows=True, factors=True),
    "phi3": LlamaCppClass(name="phi3", halves=True, biases=frozenset(), square=True),
    "glm4": LlamaCppClass(name="glm4"),
}

#: Families whose blocks compute what Llama's compute: where their own class does not fit, Llama's is taken.
_LIKE_LLAMA = frozenset({"qwen2", "seed_oss", "ernie4_5", "phi3"})

#: Families that rotate neighbouring channels in transformers; the others rotate the two halves of a head.
_NEIGHBOURS = frozenset({"helium", "ernie4_5", "glm4"})

#: Blocks of the Gemmas of 27B, at which the scale of attention is that of 27B, whatever the config says.
_GEMMA_27B = {"gemma2": 46, "gemma3_text": 62}

#: Blocks of EXAONE 4.0 32B, the only number at which its class has sliding windows.
_EXAONE_WINDOWS = 64

#: Every how many blocks SmolLM3's class leaves out rotary embeddings.
_SMOLLM3_STEP = 4

_SILU, _GELU = frozenset({"silu", "swish"}), frozenset({"gelu_pytorch_tanh", "gelu"})


def class_of(arch: Architecture, config: Mapping[str, Any]) -> LlamaCppClass:
    """The class that a model's GGUF file names: the family's own, or Llama's where that fits and the own does not."""
    own = CLASSES[arch.model_type]
    if arch.model_type in _LIKE_LLAMA and any(limit.kind != "note" for limit in _misfits(own, arch)):
        return _LLAMA if rotated(arch, config) == arch.head_dim else own
    return own


def reorders(arch: Architecture, form: LlamaCppClass) -> bool:
    """Whether query and key rows are stored in another order than transformers': the halves of a head interleaved."""
    return not form.halves and arch.model_type not in _NEIGHBOURS


def rotated(arch: Architecture, config: Mapping[str, Any]) -> int:
    """Channels of a head that are rotated."""
    if arch.model_type not in ("phi3", "glm4"):
        return arch.head_dim
    share = (config.get("rope_parameters") or {}).get("partial_rotary_factor", config.get("partial_rotary_factor"))
    return arch.head_dim if share is None else int(arch.head_dim * share)


def query_factor(arch: Architecture, config: Mapping[str, Any]) -> float:
    """What queries are multiplied by so that llama.cpp's scale of attention makes that of the config.

    Its Gemma 2 and 3 divide queries by the root of the head's size, at the number of blocks that 27B has by the root of
    hidden / heads; transformers by the root of `query_pre_attn_scalar`.
    """
    blocks = _GEMMA_27B.get(arch.model_type)
    if blocks is None:
        return 1.0
    theirs = arch.hidden // arch.heads if arch.layers == blocks else arch.head_dim
    return math.sqrt(theirs / float(config.get("query_pre_attn_scalar", 256)))


def llama_cpp_limits(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    """What llama.cpp can't do with a model of this shape and config, and what its GGUF file does instead."""
    form, own = class_of(arch, config), CLASSES[arch.model_type]
    if form is not own:
        why = " and ".join(limit.what for limit in _misfits(own, arch))
        yield Limit("note", f"{why}: the file is written as one of Llama's family, which computes the same", _file(own))
    else:
        yield from _misfits(form, arch)
    yield from _windows(form, arch, config)
    yield from _patterns(arch, config)
    if not math.isclose(query_factor(arch, config), 1.0):
        what = (
            f"it takes the scale of attention from the number of blocks ({_GEMMA_27B[arch.model_type]} is 27B), not "
            "from query_pre_attn_scalar: the file that regrow writes makes up for it, its own converter's does not"
        )
        yield Limit("note", what, _file(form))
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type") == "longrope":
        trained = rope.get("original_max_position_embeddings", config.get("original_max_position_embeddings"))
        what = f"served with a context above {trained} it takes the long rotary factors for short texts too"
        yield Limit("note", what, f"{LLAMA_CPP}, get_rope_factors in src/llama-model.cpp")
    act = config.get("hidden_activation") or config.get("hidden_act")
    known = _GELU if arch.model_type.startswith("gemma") else _SILU
    if act is not None and act not in known:
        yield Limit("differs", f"the feed-forward's activation is {act}, it computes {sorted(known)[-1]}", _file(form))
    if arch.experts and config.get("norm_topk_prob") is False:
        what = "it divides the weights of a token's experts by their sum, which norm_topk_prob: false does not"
        yield Limit("differs", what, _file(form))


def _misfits(form: LlamaCppClass, arch: Architecture) -> Iterator[Limit]:
    """Parts of the model that a class has no place for."""
    named, source = f"its {form.name}", _file(form)
    together = arch.heads * arch.head_dim
    if form.square and arch.hidden != together:
        what = f"{named} takes the hidden width, {arch.hidden:,}, for that of all query heads, which is {together:,}"
        yield Limit("refuses", what, source)
    for part, is_there, layers in (
        ("qkv", arch.qkv_bias, "queries, keys and values"),
        ("o", arch.o_bias, "the attention's output"),
        ("mlp", arch.mlp_bias, "the feed-forward"),
    ):
        if is_there and part not in form.biases:
            yield Limit("refuses", f"{named} has no biases on {layers}", source)
        elif is_there and part in form.unused:
            yield Limit("differs", f"{named} does not add the biases on {layers}", source)
    if form.output == "embeddings" and not arch.tied:
        yield Limit("refuses", f"{named} takes the embeddings for the output matrix, which is another one here", source)


def _windows(form: LlamaCppClass, arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    windows = [window for window in windows_of(config) if window is not None]
    if windows and not form.windows:
        what = f"it attends to all tokens where this model has windows: from {min(windows):,} tokens on answers differ"
        yield Limit("differs", what, _file(form))
    elif windows and arch.model_type == "exaone4" and arch.layers != _EXAONE_WINDOWS:
        what = (
            f"its exaone4 has windows at {_EXAONE_WINDOWS} blocks only; at {arch.layers} it has none and rotates "
            "the queries of every block: serve it with vLLM, or prune its width only"
        )
        yield Limit("differs", what, _file(form))


def _patterns(arch: Architecture, config: Mapping[str, Any]) -> Iterator[Limit]:
    """Patterns over the blocks that llama.cpp repeats by itself."""
    marks = config.get("no_rope_layers")
    if arch.model_type != "smollm3" or marks is None:
        return
    theirs = [int((block + 1) % _SMOLLM3_STEP != 0) for block in range(arch.layers)]
    wrong = [block for block, (one, other) in enumerate(zip(marks, theirs, strict=False)) if bool(one) != bool(other)]
    if wrong:
        what = (
            f"its smollm3 leaves out rotary embeddings in every fourth block, whatever no_rope_layers says: "
            f"{len(wrong)} of {arch.layers} blocks differ (the first is block {wrong[0]}); serve it with vLLM, or "
            "remove whole groups of four blocks"
        )
        yield Limit("differs", what, _file(CLASSES["smollm3"]))


def _file(form: LlamaCppClass) -> str:
    return f"{LLAMA_CPP}, src/models/{form.name.replace('_', '-')}.cpp"

"""Tensors that a checkpoint holds and its config does not make: what they are, and what to do about them.

None is dropped in silence: a mask left out is another model, and so is a block beyond the config's last.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from regrow.errors import InputError
from regrow.families import family_of
from regrow.models.layout import split_block_name
from regrow.units import plural


class _Kind(NamedTuple):
    """A kind of surplus tensor: how its name looks, what it is, and what to do."""

    name: re.Pattern[str]
    what: str
    hint: str


_HEADS = _Kind(
    re.compile(r"(^|[._])(mtp|nextn)\w*\.|\.(eh_proj|enorm|hnorm)\."),
    "belongs to a head that predicts several tokens ahead (multi-token prediction), which transformers does not run",
    "leave its tensors out of the files: regrow drops nothing by itself",
)

_KINDS = (
    _HEADS,
    _Kind(
        re.compile(r"(\.|_)(sinks?|sink_bias)$"),
        "is an attention sink, which models of this type do not have in transformers",
        "regrow prunes models without attention sinks",
    ),
    _Kind(
        re.compile(r"(^|[._])mask$|\.weight_orig$"),
        "is a mask of another tool (or the weights under it), which that tool applies when the model runs",
        "apply it first: mts.export(model) of nvidia-modelopt, prune.remove(module, 'weight') of torch.nn.utils.prune",
    ),
    _Kind(
        re.compile(r"\.(bitmask|compressed|row_offsets|meta)$"),
        "belongs to weights that are stored compressed (compressed-tensors)",
        "save the model with save_compressed=False first",
    ),
    _Kind(
        re.compile(
            r"(\.|_)(weight_packed|weight_scale(_inv|_2)?|weight_zero_point|weight_g_idx|weight_shape|qweight|qzeros|scales"
            r"|g_idx|SCB|weight_format|(nested_)?absmax|(nested_)?quant_map|quant_state[.\w]*|(input|output|k|v|q)_scale"
            r"|(input|weight|output)_quantizer[.\w]*|_?amax|zero_point)$"
        ),
        "belongs to weights that are stored quantised",
        "give the checkpoint in bf16, fp16 or fp32: dequantise it with the tool that made it",
    ),
    _Kind(
        re.compile(r"lora_|\.base_layer\.|modules_to_save|adapter|^base_model\."),
        "belongs to an adapter",
        "merge the adapter into the model first (peft: merge_and_unload)",
    ),
    _Kind(
        re.compile(r"^(_orig_mod|module|model\.model|_fsdp_wrapped_module|_forward_module)\."),
        "has the prefix of a wrapper (torch.compile, DDP, FSDP, Lightning)",
        "save the model that was wrapped",
    ),
    _Kind(
        re.compile(r"^(embed_tokens|layers|norm)\."),
        "is that of a base model without its output layer",
        "save it as a causal language model first",
    ),
    _Kind(
        re.compile(r"(^|\.)(v_head|value_head|score|classifier|reward_head|regression_head)\."),
        "is the head of another task (a reward or value model, a classifier)",
        "give a causal language model",
    ),
    _Kind(
        re.compile(r"\.(experts|block_sparse_moe|shared_expert)\."),
        "is that of a mixture of experts",
        "its config.json is a dense model's: fetch the config that belongs to the files",
    ),
    _Kind(
        re.compile(
            r"(vision|visual|audio)_?(tower|model|encoder)|^(model\.)?(visual|language_model|multi_modal_projector)\."
        ),
        "is that of a multimodal model",
        "save its language model alone",
    ),
)


def refuse_surplus(surplus: Collection[str], content: Mapping[str, Any], *, where: str) -> None:
    """Raise `InputError` if one of these names is of a kind that is known; it says what to do about that kind.

    Args:
        surplus: names of tensors that the model of config.json does not have.
        content: the fields of config.json.
        where: the folder.
    """
    blocks = content["num_hidden_layers"]
    # some store such a head as a block beyond the last
    _refuse_kind(_HEADS, surplus, where)
    beyond = sorted({place[0] for name in surplus if (place := split_block_name(name)) and place[0] >= blocks})
    if beyond:
        raise InputError(
            f"the files hold blocks 0 to {beyond[-1]}, and num_hidden_layers in config.json says {blocks}",
            where=where,
            hint=f"write {beyond[-1] + 1} there, or prune by depth with `regrow prune --method depth`",
        )
    for kind in _KINDS:
        _refuse_kind(kind, surplus, where)
    family = family_of(str(content.get("model_type")))
    for name in sorted(surplus):
        place = split_block_name(name)
        flag = family.flag_of(place[1]) if place and name.endswith(".bias") else None
        if flag:
            raise InputError(
                f"the files hold {name!r}, and config.json makes no such bias ({flag}, {content.get('model_type')})",
                where=where,
                hint=f"set {flag} in config.json to true if the model was trained with biases",
            )


def _refuse_kind(kind: _Kind, surplus: Collection[str], where: str) -> None:
    for name in sorted(surplus):
        if kind.name.search(name):
            raise InputError(f"the tensor {name!r} {kind.what}", where=where, hint=kind.hint)


def refuse_unknown(surplus: Collection[str], *, where: str) -> None:
    """Raise `InputError` if there is any surplus tensor at all."""
    if surplus:
        raise InputError(
            f"the model of config.json has no place for {plural(len(surplus), 'tensor')}, first {min(surplus)!r}",
            where=where,
            hint="give a plain checkpoint: nothing is dropped that might be part of the model",
        )

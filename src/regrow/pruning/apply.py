"""From a decided plan to the tensors of the pruned model, one block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from transformers import PretrainedConfig

from regrow.errors import RegrowError
from regrow.methods import DEPTH, EXPERTS, WIDTH
from regrow.models.beside import Beside
from regrow.models.config_file import agree, skeleton_of
from regrow.models.experts import as_stored
from regrow.models.layout import axes_of, is_block_weight, split_block_name
from regrow.models.masks import check_pattern
from regrow.models.shards import row_chunks
from regrow.pruning.depth import drop_blocks, drop_config_blocks
from regrow.pruning.experts import keep_config_experts, keep_experts
from regrow.pruning.kernel import Notes, kernel_of
from regrow.pruning.plan import PrunePlan
from regrow.pruning.scores import Scores
from regrow.pruning.stream import BlockStream, Source
from regrow.pruning.width import Kept, narrow_config, slice_state


class PlannedModel:
    """The pruned model that a decided plan describes; each tensor is made when it is asked for.

    Attributes:
        config: transformers' config of the pruned model.
        layout: its parameters as tensors on the meta device.

    Raises `RegrowError` if the two disagree with each other or with the plan, before a weight is read.
    """

    def __init__(self, source: Source, plan: PrunePlan) -> None:
        self.plan, self._source = plan, source
        self.config: PretrainedConfig = type(source.config).from_dict(planned_fields(source.config.to_dict(), plan))
        self.config._attn_implementation = source.config._attn_implementation
        self.layout: Mapping[str, torch.Tensor] = self._cut(source.layout)
        self._check()

    def tensors(
        self,
        stream: BlockStream,
        *,
        tokens: torch.Tensor | None = None,
        scores: Scores | None = None,
        notes: Notes | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> Iterator[tuple[str, Iterable[torch.Tensor]]]:
        """Every parameter of the pruned model by name, each once, in parts along its first dimension.

        Args:
            stream: over the model that is pruned.
            tokens: calibration tokens [samples, length], for scorers that look at inputs while blocks are pruned.
            scores: shared scores of the unpruned model, in the place of tokens.
            notes: filled with what happened on the way (N:M).
            progress: called with a line of text at each step.
        """
        for name, tensor in self._source.layout.items():
            if split_block_name(name) is None:
                stored = self._source.read([name])[name]
                # an embedding may be as large as several blocks
                whole_rows = tensor.ndim > 1 and not axes_of(name, self._source.arch.family)[0]
                parts = row_chunks(stored) if whole_rows else [stored]
                yield name, (self._cut({name: part})[name] for part in parts)
        kernel = kernel_of(self.plan.method, self.plan.scorer)
        changed = kernel.prune(stream, self.plan, tokens, scores=scores, notes=notes, progress=progress)
        for layer, new in enumerate(changed):
            self._check_pattern(new)
            for name in stream.names(layer):
                if name in new:
                    yield name, [new[name]]
                    continue
                for cut_name, tensor in self._cut(self._source.read([name])).items():
                    yield cut_name, [tensor]

    def _cut(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """These tensors as the plan leaves them, by their new names; those that go are left out."""
        plan = self.plan
        if plan.method == DEPTH:
            assert plan.dropped_layers is not None
            return drop_blocks(state, plan.dropped_layers, plan.before.layers)
        if plan.method == WIDTH:
            kept = Kept(hidden=plan.kept_hidden, intermediate=plan.kept_intermediate, kv_heads=plan.kept_kv_heads)
            return slice_state(state, kept, plan.before)
        if plan.method == EXPERTS:
            assert plan.kept_experts is not None
            return keep_experts(state, plan.kept_experts)
        return dict(state)

    def _check(self) -> None:
        """Names and shapes are those that transformers will build from the config, and the counts are the plan's."""
        built = as_stored(skeleton_of(self.config).named_parameters())
        expected: dict[str, Any] = {name: parameter.shape for name, parameter in built.items()}
        wrong = list(expected.keys() ^ self.layout.keys())
        wrong += [name for name in expected.keys() & self.layout.keys() if expected[name] != self.layout[name].shape]
        total = sum(tensor.numel() for tensor in self.layout.values())
        if total != self.plan.after.params:
            wrong.append(f"{total} parameters, planned {self.plan.after.params}")
        if wrong:
            raise _bug(wrong[0])

    def _check_pattern(self, weights: Mapping[str, torch.Tensor]) -> None:
        if self.plan.pattern is not None:
            for name, weight in weights.items():
                if is_block_weight(name) and not check_pattern(weight, *self.plan.pattern):
                    raise _bug(f"{name} is not {self.plan.method} sparse")


def planned_fields(content: Mapping[str, Any], plan: PrunePlan) -> dict[str, Any]:
    """The fields of a config after the plan: only those that describe what is removed are changed."""
    # the code that auto_map names is not copied, and transformers would ask each user to trust it
    content = {name: value for name, value in content.items() if name != "auto_map"}
    if plan.method == DEPTH:
        assert plan.dropped_layers is not None, "an outline; decide it first"
        return drop_config_blocks(content, plan.dropped_layers)
    if plan.method == EXPERTS:
        return keep_config_experts(content, plan.after)
    return narrow_config(content, plan.after) if plan.method == WIDTH else content


def planned_beside(beside: Beside, plan: PrunePlan, config: PretrainedConfig) -> Beside:
    """The files beside the pruned model's weights, given its config as transformers is to read it."""
    return beside.with_content(agree(planned_fields(beside.content, plan), config))


def _bug(what: str) -> RegrowError:
    return RegrowError(f"the pruned model differs from its plan: {what}", where="prune", hint="please report this")

"""Which blocks of a model attend to a sliding window, as transformers reads it from a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Windows:
    """The sliding windows of a family, where its config does not list them in `layer_types`.

    Attributes:
        default: tokens of the window where `sliding_window` is absent; None: no window.
        uniform: every block has the window, whatever `layer_types` says.
        switch: the field without which no block has a window.
        first: the field with the first block that has a window, and its default.
        full_every: every n-th block has full attention.
        full_field: the field that sets this n, or a pattern such as `LLLG`.
        where_no_rope: the blocks without rotary embeddings have the window, those that `no_rope_layers` marks with 0.
    """

    default: int | None = None
    uniform: bool = False
    switch: str | None = None
    first: tuple[str, int] | None = None
    full_every: int | None = None
    full_field: str | None = None
    where_no_rope: bool = False

    def read(self, config: Mapping[str, Any]) -> tuple[int | None, ...]:
        """The window of each block of a config, in tokens; None: full attention."""
        layers, window = int(config["num_hidden_layers"]), config.get("sliding_window", self.default)
        if self == NO_WINDOWS or window is None or (self.switch is not None and not config.get(self.switch, False)):
            return (None,) * layers
        kinds = None if self.uniform else config.get("layer_types")
        if kinds is not None:
            return tuple(int(window) if "sliding" in str(kind) else None for kind in kinds)
        return tuple(int(window) if self._windowed(layer, config) else None for layer in range(layers))

    def _windowed(self, layer: int, config: Mapping[str, Any]) -> bool:
        if self.first is not None:
            return layer >= int(config.get(*self.first))
        if self.where_no_rope:
            marks = config.get("no_rope_layers")
            every = int(config.get("no_rope_layer_interval", 4))
            return not marks[layer] if marks is not None else (layer + 1) % every == 0
        if self.full_every is None:
            return True
        every = config.get(self.full_field, self.full_every) if self.full_field else self.full_every
        if isinstance(every, str):  # a letter for each block, in turn: L for local, G for global attention
            return every[layer % len(every)] != "G"
        return bool((layer + 1) % int(every))


NO_WINDOWS = Windows()

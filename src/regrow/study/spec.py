"""A study: a grid of runs as one file. Light: it is read, checked and shown without torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from regrow.errors import InputError, one_of
from regrow.methods import WIDTH, is_masked
from regrow.pruning.spec import PruneSpec
from regrow.runs import CONTROL, spec_hash
from regrow.training.spec import TrainSpec


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study: a model, pruned one way or not at all, post-trained once."""

    model: str
    family: str
    prune: PruneSpec | None
    train: TrainSpec
    data: str
    held_out: str

    @property
    def spec(self) -> dict[str, Any]:
        """Everything that affects the result, as plain data."""
        return {
            "model": self.model,
            "family": self.family,
            "prune": self.prune.to_dict() if self.prune else None,
            "train": self.train.to_dict(),
            "data": self.data,
            "held_out": self.held_out,
        }

    @property
    def hash(self) -> str:
        """Identity of the cell: a changed spec is another cell."""
        return spec_hash(self.spec)

    @property
    def method(self) -> str:
        return self.prune.method if self.prune else CONTROL

    @property
    def name(self) -> str:
        """Readable and unique: what was done to which model, and the start of the hash."""
        rate = f"-{self.prune.rate:g}" if self.prune and self.prune.rate is not None else ""
        method = "control" if self.prune is None else self.method.replace(":", "of")
        base = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(self.model).name)
        return f"{base}-{method}{rate}-{self.hash[:6]}"


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """Models x methods x rates x seeds, and the one recipe they share.

    Attributes:
        models: ladder names or checkpoint folders.
        family: name under which the runs are fitted together.
        methods: pruning methods; N:M methods take no rate.
        rates: pruning rates of the depth and width cells, fractions.
        seeds: repeats; each run's data order differs whatever its seed.
        controls: whether each model also has an unpruned run of the same tokens.
        data, held_out: text to train and to evaluate on; `ladder` is the embedded corpus.
        scorers: scorer by method, where the default is not wanted.
        rates_by_method: other rates for some methods, e.g. `{width: [0.1, 0.2]}`.
        width_axes: what width pruning shrinks, of `hidden`, `intermediate`, `kv_heads`; None for its default.
        train: the training recipe; its seed is replaced by the cell's own.
        train_by_model: what differs for some models, e.g. `{tiny-llama-3m: {learning_rate: 1.5e-4}}`.
    """

    models: tuple[str, ...]
    family: str
    train: TrainSpec
    methods: tuple[str, ...] = ("depth", "width", "2:4")
    rates: tuple[float, ...] = (0.15, 0.25, 0.35)
    seeds: tuple[int, ...] = (0,)
    controls: bool = True
    data: str = "ladder"
    held_out: str = "ladder"
    scorers: Mapping[str, str] = field(default_factory=dict)
    rates_by_method: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    width_axes: tuple[str, ...] | None = None
    train_by_model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("models", "seeds"):
            if not getattr(self, name):
                raise InputError(f"{name} is empty", where="study", hint="name at least one")
        for model, own in self.train_by_model.items():
            one_of(model, self.models, what="model", where="study, train_by_model")
            if not isinstance(own, Mapping):
                raise InputError(f"{own!r} is not a mapping", where=f"study, train_by_model, {model}")
        for name in ("rates_by_method", "scorers"):
            for method in getattr(self, name):
                one_of(method, self.methods, what="method", where=f"study, {name}")

    def cells(self) -> list[Cell]:
        """Every run of the study. Raises `InputError` for a method or a rate that cannot be."""
        cells = []
        for model in self.models:
            prunes: list[PruneSpec | None] = [None] if self.controls else []
            for method in self.methods:
                for rate in (None,) if is_masked(method) else self.rates_by_method.get(method, self.rates):
                    axes = self.width_axes if method == WIDTH else None
                    scorer = self.scorers.get(method)
                    prunes.append(PruneSpec(method=method, rate=rate, scorer=scorer, axes=axes))
            cells += [self._cell(model, prune, seed) for prune in prunes for seed in self.seeds]
        return cells

    def _cell(self, model: str, prune: PruneSpec | None, seed: int) -> Cell:
        cell = Cell(
            model=model,
            family=self.family,
            prune=prune,
            train=self._recipe(model, seed),
            data=self.data,
            held_out=self.held_out,
        )
        # one order of batches for all would bend every curve at the same step: each cell has its own
        return replace(cell, train=replace(cell.train, seed=int(cell.hash[:8], 16)))

    def _recipe(self, model: str, seed: int) -> TrainSpec:
        changes = self.train_by_model.get(model, {})
        return TrainSpec.from_dict({**self.train.to_dict(), **changes, "seed": seed}, where=f"study, {model}")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, where: str = "study") -> StudySpec:
        """Read plain data, as YAML gives it. Raises `InputError` for an unknown or a missing key."""
        from regrow.units import parse_count

        if not isinstance(content, Mapping):
            raise InputError("not a mapping of keys", where=where, hint="see docs/study.md for an example")
        known = [f.name for f in fields(cls)]
        for key in content:
            one_of(str(key), known, what="key", where=where)
        missing = [key for key in ("models", "family", "train") if key not in content]
        if missing:
            raise InputError(f"{', '.join(missing)} missing", where=where, hint="a study names models, family, train")
        train = dict(content["train"])
        for key in ("tokens", "batch_tokens", "warmup_tokens"):
            if isinstance(train.get(key), str):
                train[key] = parse_count(train[key], what=f"{where}, train.{key}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        values["train"] = TrainSpec.from_dict(train, where=f"{where}, train")
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> StudySpec:
        """Read a study file. Raises `InputError` if it is missing, not YAML, or not a study."""
        import yaml

        try:
            content = yaml.safe_load(Path(path).read_text())
        except FileNotFoundError:
            raise InputError("no such study file", where=str(path)) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"not a YAML file ({str(error).splitlines()[0]})", where=str(path)) from None
        return cls.from_dict(content, where=str(path))

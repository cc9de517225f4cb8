"""A study: a grid of runs as one file. Light: it is read, checked and shown without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from regrow.errors import InputError, one_of
from regrow.ladder import find_corpus, find_model
from regrow.ladder.tasks import find_tasks
from regrow.methods import DEPTH_AND_WIDTH, WIDTH, is_masked
from regrow.pruning.outline import outline
from regrow.pruning.spec import PruneSpec
from regrow.reading import read_yaml
from regrow.runs.objective import CROSS_ENTROPY, parse_teacher
from regrow.scores.spec import parse_tasks
from regrow.study.budget import StudyBudget
from regrow.study.cells import Cell
from regrow.study.inputs import check_data, fingerprint_data, fingerprint_model, shape_of
from regrow.study.stage_plan import check_shapes, check_stages
from regrow.training.spec import TrainSpec, parse_eval_at
from regrow.units import parse_count


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """Models x methods x rates x objectives x seeds, and the one recipe they share.

    Attributes:
        models: ladder names or checkpoint folders.
        family: name under which the runs are fitted together.
        methods: pruning methods; N:M methods take no rate.
        rates: pruning rates of the depth and width cells, fractions.
        objectives: `cross-entropy`, `distillation` (from the unpruned model itself), `distillation:MODEL`. Runs of
            different objectives are not fitted together: those that distil are of the family `FAMILY-distilled`, or
            `FAMILY-distilled-from-MODEL`.
        stages: rates that rise, e.g. `(0.25, 0.5)`: each depth and width method also gets cells that are pruned to the
            first, trained, pruned on to the next, and so on, with as many tokens in all as the other cells.
        seeds: repeats; each run's data order differs whatever its seed.
        controls: whether each model also has an unpruned run of the same tokens and objective. A model that only
            learns from itself has nothing to learn, so there is none for it.
        data, held_out: text to train and to evaluate on; `ladder` is the embedded corpus.
        scorers: scorer by method, where the default is not wanted; of several names each makes cells of its own.
        rates_by_method: other rates for some methods, e.g. `{width: [0.1, 0.2]}`.
        width_axes: what width pruning shrinks, of `hidden`, `intermediate`, `kv_heads`; None for its default.
        train: the training recipe; its seed is replaced by the cell's own.
        train_by_model: what differs for some models, e.g. `{tiny-llama-3m: {learning_rate: 1.5e-4}}`.
        recipes: variants of the recipe by name, e.g. `{fast: {learning_rate: 6.0e-4}}`; every cell is run with each of
            them, controls too. Empty: the recipe as it is.
        budget: what all cells together may cost; see `StudyBudget`.
    """

    models: tuple[str, ...]
    family: str
    train: TrainSpec
    methods: tuple[str, ...] = ("depth", "width", "2:4")
    rates: tuple[float, ...] = (0.15, 0.25, 0.35)
    stages: tuple[float, ...] = ()
    objectives: tuple[str, ...] = (CROSS_ENTROPY,)
    seeds: tuple[int, ...] = (0,)
    controls: bool = True
    data: str = "ladder"
    held_out: str = "ladder"
    scorers: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    rates_by_method: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    width_axes: tuple[str, ...] | None = None
    train_by_model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    budget: StudyBudget | None = None

    def __post_init__(self) -> None:
        for name in ("models", "seeds", "objectives"):
            values = getattr(self, name)
            if isinstance(values, str):
                raise InputError(f"{name} is {values!r}", where="study", hint=f"give a tuple: ({values!r},)")
            if not values:
                raise InputError(f"{name} is empty", where="study", hint="name at least one")
        for name in ("models", "seeds", "objectives", "methods", "rates"):
            values = getattr(self, name)
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise InputError(f"{twice!r} is named twice", where=f"study, {name}", hint="every cell is run once")
        if not self.methods and not self.controls:
            raise InputError("no methods and no controls", where="study", hint="there is nothing to run")
        if DEPTH_AND_WIDTH in self.methods:
            hint = (
                f"prune with `regrow prune --method {DEPTH_AND_WIDTH}`, then `regrow train`; or study depth and width"
            )
            raise InputError(f"a study has no cells of {DEPTH_AND_WIDTH!r}", where="study, methods", hint=hint)
        for objective in self.objectives:
            parse_teacher(objective)
        if self.stages:
            check_stages(self.stages, self.methods, self.train)
        for model, own in self.train_by_model.items():
            one_of(model, self.models, what="model", where="study, train_by_model")
            if not isinstance(own, Mapping):
                raise InputError(f"{own!r} is not a mapping", where=f"study, train_by_model, {model}")
        for name, own in self.recipes.items():
            if not isinstance(own, Mapping):
                raise InputError(f"{own!r} is not a mapping", where=f"study, recipes, {name}")
        for name in ("rates_by_method", "scorers"):
            for method in getattr(self, name):
                one_of(method, self.methods, what="method", where=f"study, {name}")

    def cells(self) -> list[Cell]:
        """Every run of the study. Raises `InputError` for a method or a rate that cannot be.

        The seeds are innermost: cell i is of the seed number `i % len(seeds)`.
        """
        cells = []
        for model in self.models:
            prunes: list[tuple[PruneSpec | None, tuple[float, ...]]] = [(None, ())] if self.controls else []
            for method in self.methods:
                axes = self.width_axes if method == WIDTH else None
                rates = (None,) if is_masked(method) else self.rates_by_method.get(method, self.rates)
                asked = self.scorers.get(method)
                for scorer in asked if isinstance(asked, tuple) else (asked,):
                    # proportions by the rule: runs that a law is fitted to are pruned alike
                    asked_rates: list[tuple[float | None, tuple[float, ...]]] = [(rate, ()) for rate in rates]
                    if self.stages and not is_masked(method):
                        asked_rates.append((self.stages[-1], self.stages[:-1]))
                    prunes += [
                        (PruneSpec(method=method, rate=rate, scorer=scorer, axes=axes, search=1), before)
                        for rate, before in asked_rates
                    ]
            for prune, stages in prunes:
                for objective in self.objectives:
                    named = parse_teacher(objective)
                    teacher = model if named == "" else named
                    for recipe in self.recipes or ("",):
                        train = self._train(model, recipe)
                        if prune is None and teacher == model and train.distill_mix == 1:
                            continue
                        cells += [
                            self._cell(model, prune, teacher, replace(train, seed=seed), stages) for seed in self.seeds
                        ]
        return cells

    def _cell(
        self, model: str, prune: PruneSpec | None, teacher: str | None, train: TrainSpec, stages: tuple[float, ...]
    ) -> Cell:
        family = self.family
        if teacher is not None:
            family += "-distilled" if teacher == model else f"-distilled-from-{Path(teacher).name}"
        cell = Cell(
            model=model,
            family=family,
            prune=prune,
            train=train,
            data=self.data,
            held_out=self.held_out,
            teacher=teacher,
            stages=stages,
            fingerprints=self._fingerprints(model, teacher),
        )
        # each cell has its own order of batches: one order for all would bend every curve at the same step
        return replace(cell, train=replace(cell.train, seed=int(cell.hash[:8], 16)))

    def _fingerprints(self, model: str, teacher: str | None) -> dict[str, str]:
        """Fingerprints of local files. Models and text of the ladder are identified by their names."""
        found: dict[str, str | None] = {}
        for key, name in (("model", model), ("teacher", teacher)):
            if name and find_model(name) == name:
                found[key] = fingerprint_model(name)
        for key, name in (("data", self.data), ("held_out", self.held_out)):
            if find_corpus(name, key) == name:
                found[key] = fingerprint_data(name, key)
        return {name: fingerprint for name, fingerprint in found.items() if fingerprint is not None}

    def check(self) -> None:
        """Check everything before anything runs. Raises `InputError` for text or a model folder that is not there, a
        rate that no shape of a model reaches (with the nearest ones), a teacher of another vocabulary, tasks without
        lm-eval.
        """
        check_data(self.data, "post_train", where="study, data")
        check_data(self.held_out, "held_out", where="study, held_out")
        shapes = {model: shape_of(model) for model in self.models}
        cells = self.cells()
        for train in {cell.train.tasks: cell.train for cell in cells if cell.train.tasks}.values():
            find_tasks(train.tasks, limit=train.task_limit, shots=train.task_shots)
        pruned = [(cell.model, replace(cell.prune, rate=rate)) for cell in cells if cell.prune for rate in cell.stages]
        pruned += [(cell.model, cell.prune) for cell in cells if cell.prune]
        for model, prune in dict.fromkeys(pruned):
            shape = shapes[model]
            if shape is None:
                continue
            try:
                outline(shape, prune)
            except InputError as error:
                raise InputError(error.what, where=f"study, {model}, {error.where}", hint=error.hint) from None
        for cell in {(cell.model, cell.prune): cell for cell in cells if cell.stages}.values():
            check_shapes(cell, shapes[cell.model])
        for model, teacher in dict.fromkeys((cell.model, cell.teacher) for cell in cells if cell.teacher):
            shape, taught = shapes[model], shape_of(str(teacher))
            if shape and taught and shape.vocab != taught.vocab:
                raise InputError(
                    f"the teacher {teacher} has {taught.vocab} entries, {model} has {shape.vocab}",
                    where="study, objectives",
                    hint="distillation needs one vocabulary",
                )

    def _train(self, model: str, recipe: str) -> TrainSpec:
        changes = {**self.train_by_model.get(model, {}), **self.recipes.get(recipe, {})}
        return TrainSpec.from_dict({**self.train.to_dict(), **changes}, where=f"study, {recipe or model}")

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, where: str = "study") -> StudySpec:
        """Read plain data, as YAML gives it. Raises `InputError` for an unknown or a missing key, or a wrong value."""
        if not isinstance(content, Mapping):
            raise InputError("not a mapping of keys", where=where, hint="see docs/study.md for an example")
        known = [f.name for f in fields(cls)]
        for key in content:
            one_of(str(key), known, what="key", where=where)
        missing = [key for key in ("models", "family", "train") if content.get(key) is None]
        if missing:
            raise InputError(f"{', '.join(missing)} missing", where=where, hint="a study names models, family, train")
        values = {key: value for key, value in content.items() if value is not None}
        for key in ("models", "methods", "objectives", "rates", "stages", "seeds", "width_axes"):
            if key in values:
                values[key] = _listed(values[key], key, where)
        for key in ("scorers", "rates_by_method", "train_by_model", "recipes"):
            if not isinstance(values.get(key, {}), Mapping):
                raise InputError(f"{values[key]!r} is not a mapping", where=f"{where}, {key}")
        for key in ("scorers", "rates_by_method"):
            values[key] = {_method(method): value for method, value in values.get(key, {}).items()}
        values["scorers"] = {
            method: _listed(asked, "scorers", f"{where}, scorers") if isinstance(asked, list) else asked
            for method, asked in values["scorers"].items()
        }
        values["rates_by_method"] = {
            method: _listed(rates, "rates", f"{where}, rates_by_method")
            for method, rates in values["rates_by_method"].items()
        }
        milestones = values["train"].get("eval_at") if isinstance(values["train"], Mapping) else None
        values["train"] = read_recipe(values["train"], where=f"{where}, train")
        values["train_by_model"] = {
            model: _recipe_values(own, f"{where}, train_by_model, {model}", values["train"].tokens)
            for model, own in values.get("train_by_model", {}).items()
        }
        values["recipes"] = {
            str(name): _recipe_values(own, f"{where}, recipes, {name}", values["train"].tokens)
            for name, own in values.get("recipes", {}).items()
        }
        for own in (*values["train_by_model"].values(), *values["recipes"].values()):
            # `log:8` means eight readings of whatever a model's own tokens are
            if isinstance(milestones, str) and "tokens" in own and "eval_at" not in own:
                own["eval_at"] = parse_eval_at(milestones, own["tokens"])
        if not isinstance(values.get("controls", True), bool):
            raise InputError(f"{values['controls']!r} is not true or false", where=f"{where}, controls")
        for key in ("family", "data", "held_out"):
            if not isinstance(values.get(key, ""), str):
                raise InputError(f"{values[key]!r} is not a text", where=f"{where}, {key}", hint="put it in quotes")
        if "budget" in values:
            values["budget"] = StudyBudget.from_dict(values["budget"], where=f"{where}, budget")
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> StudySpec:
        """Read a study file. Raises `InputError` if it is missing, not YAML, or not a study."""
        if not Path(path).exists():
            raise InputError("no such study file", where=str(path))
        return cls.from_dict(read_yaml(Path(path)), where=str(path))


def read_recipe(content: Any, *, where: str) -> TrainSpec:
    """A `TrainSpec` from YAML: counts like `100k`, milestones like `log:8`, and `6e-4`, which YAML takes for text.

    Raises `InputError` for an unknown key or a value that is no number.
    """
    values = _recipe_values(content, where)
    if "tokens" not in values:
        raise InputError("tokens missing", where=where, hint="say how many tokens to train on, e.g. 100k")
    return TrainSpec.from_dict(values, where=where)


def _recipe_values(content: Any, where: str, tokens: int | None = None) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise InputError(f"{content!r} is not a mapping", where=where)
    types = {f.name: str(f.type) for f in fields(TrainSpec)}
    values = dict(content)
    for key, value in values.items():
        one_of(str(key), types, what="key", where=where)
        if types[key].startswith(("int", "float")) and value is not None:
            values[key] = _number(value, types[key].startswith("int"), f"{where}, {key}")
    for key in ("eval_at", "tasks_at"):
        milestones = values.get(key)
        if isinstance(milestones, str):
            total = values.get("tokens", tokens)
            if total is not None:
                values[key] = parse_eval_at(milestones, total)
        elif isinstance(milestones, list):
            values[key] = tuple(parse_count(point, what=f"{where}, {key}") if point else 0 for point in milestones)
    if isinstance(values.get("tasks"), str):
        values["tasks"] = parse_tasks(values["tasks"])
    return values


def _number(value: Any, whole: bool, where: str) -> int | float:
    if isinstance(value, str):
        if whole:
            return parse_count(value, what=where)
        try:
            value = float(value)
        except ValueError:
            raise InputError(f"{value!r} is not a number", where=where, hint="write it like 3e-4") from None
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise InputError(f"{value!r} is not a {'whole number' if whole else 'number'}", where=where)
    return value


def _method(value: Any) -> str:
    """A method's name; YAML reads an unquoted 2:4 as a number in base 60."""
    return f"{value // 60}:{value % 60}" if isinstance(value, int) and value > 60 else str(value)


def _listed(value: Any, key: str, where: str) -> tuple[Any, ...]:
    """One value or a list of them, each of the kind that the key holds."""
    values = value if isinstance(value, list | tuple) else [value]
    kinds = {"rates": (int, float), "stages": (int, float), "seeds": (int,)}.get(key)
    for one in values:
        if kinds and (isinstance(one, bool) or not isinstance(one, kinds)):
            raise InputError(f"{one!r} is not a number", where=f"{where}, {key}")
    if key == "methods":
        return tuple(map(_method, values))
    return tuple(values) if kinds else tuple(map(str, values))

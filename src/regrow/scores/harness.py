"""Ask a model benchmarks with lm-evaluation-harness (extra `[eval]`), on this machine and without changing the model.

Only what `lm_eval.evaluate` needs is used: `simple_evaluate` would set the global random seeds, which a training run
that asks in its midst would notice, and collect facts of the machine for seconds.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regrow.data.source import hub_reachable
from regrow.errors import InputError
from regrow.runs.harness_results import TaskResult, read_result, split_metric
from regrow.runs.scores import Score
from regrow.scores.spec import TasksSpec, require_harness

#: Of the examples that are shown, so that all checkpoints see the same; lm-eval's own default.
_SHOTS_SEED = 1234
#: Refits behind the standard error of metrics that have no formula for it; that of a mean has one.
_DRAWS = 1000


class Harness:
    """Tasks, loaded once, for one tokenizer; call it with a model for its scores.

    Args:
        spec: what to ask.
        tokenizer: of every model that is asked.
        batch_size: requests in one forward pass, or `auto` to try what fits an accelerator.
        progress: show lm-eval's bars on stderr.

    Raises `InputError` where lm-eval is missing, a task is not known, or its data can't be had.
    """

    def __init__(
        self,
        spec: TasksSpec,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int | str = 32,
        progress: bool = False,
    ) -> None:
        require_harness()
        self.spec = spec
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.progress = progress
        with _quiet(progress):
            self._loaded = _load(spec)
        #: How each score was measured, by its name; filled when a model is asked.
        self.measured: dict[str, dict[str, Any]] = {}
        self.chance = {name: _chance(task, spec.limit) for name, task in self._loaded["tasks"].items()}

    def __call__(self, model: PreTrainedModel) -> dict[str, TaskResult]:
        """The scores of `model`, by the names that were asked for; of a group without a score of its own, those of its
        tasks.

        The model is read in its own dtype and left as it was. Raises `InputError` for a task that has no score.
        """
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        was_training = model.training
        try:
            with _quiet(self.progress), torch.no_grad():
                asked = HFLM(pretrained=model, tokenizer=self.tokenizer, batch_size=self.batch_size)
                for kind in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
                    setattr(asked, kind, partial(getattr(asked, kind), disable_tqdm=not self.progress))
                results = evaluate(
                    lm=asked,
                    task_dict=self._loaded,
                    limit=self.spec.limit,
                    bootstrap_iters=_DRAWS,
                    log_samples=False,
                )
        finally:
            model.train(was_training)
        found = self._results(results)
        self.measured = self.how(found)
        return found

    def scores(self, model: PreTrainedModel) -> dict[str, Score]:
        """As calling it, the scores alone."""
        return {name: result.score for name, result in self(model).items()}

    def how(self, results: Mapping[str, TaskResult]) -> dict[str, dict[str, Any]]:
        """How each score was measured, for a run's `details["tasks"]`."""
        return {
            name: {
                **result.how(),
                "questions": result.score.questions,
                "limit": self.spec.limit,
                "lm_eval": version("lm_eval"),
            }
            for name, result in results.items()
        }

    def _results(self, content: Mapping[str, Any]) -> dict[str, TaskResult]:
        found: dict[str, TaskResult] = {}
        for name in self.spec.names:
            task, metric = split_metric(name)
            for part, shown in self._parts(task, metric, content):
                result = read_result(content, part, metric=metric, where=f"task {part}")
                if result is None:
                    raise InputError(
                        "none of its metrics is a score between 0 and 1", where=f"task {part}", hint="leave it out"
                    )
                found[shown] = _with_chance(result, self.chance.get(part))
        return found

    def _parts(self, task: str, metric: str | None, content: Mapping[str, Any]) -> list[tuple[str, str]]:
        """The tasks whose scores stand for `task`, each with the name it gets."""
        suffix = "" if metric is None else f":{metric}"
        group = self._loaded.get("groups", {}).get(task)
        if task in self._loaded["tasks"] or (group is not None and group.has_aggregation):
            return [(task, task + suffix)]
        tasks = self._tagged(task) if group is None else [each.task_name for each in group.get_all_tasks()]
        return [(each, each + suffix) for each in tasks]

    def _tagged(self, tag: str) -> list[str]:
        tags = {name: each.config.tag or () for name, each in self._loaded["tasks"].items()}
        return [name for name, given in tags.items() if tag == given or tag in given]


def _with_chance(result: TaskResult, chance: float | None) -> TaskResult:
    return result if chance is None else replace(result, score=replace(result.score, chance=chance))


def _chance(task: Any, limit: int | None) -> float | None:
    """What guessing scores: the mean of 1 over the number of choices; None where a question has no choices."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return None
    counts = []
    for index, document in enumerate(task.eval_docs):
        if limit is not None and index >= limit:
            break
        choices = task.doc_to_choice(document)
        counts.append(len(choices) if isinstance(choices, list | dict | tuple) else 0)
    return sum(1 / count for count in counts) / len(counts) if counts and all(counts) else None


def _load(spec: TasksSpec) -> dict[str, Any]:
    """The tasks that are asked for, with the number of shots set, as lm-eval's task manager loads them."""
    names = [split_metric(name)[0] for name in spec.names]
    manager = _manager(spec.folders, True)
    if not all(name in manager.all_tasks for name in names):
        manager = _manager(spec.folders, False)
    for name in names:
        if name not in manager.all_tasks:
            raise _unknown(name, manager.all_tasks)
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or not hub_reachable()
    try:
        loaded: dict[str, Any] = manager.load(names)
    except Exception as error:  # of every kind: data of a task is read by code of its own
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"can't be loaded: {reason}",
            where=f"tasks {', '.join(names)}",
            hint="its data comes from the Hugging Face Hub unless the task file names local files",
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
    for task in loaded["tasks"].values():
        fixed = task.get_config("num_fewshot")
        if fixed is None or (spec.shots is not None and fixed != 0):
            task.set_config(key="num_fewshot", value=spec.shots or 0)
        task.set_fewshot_seed(seed=_SHOTS_SEED)
    return loaded


@lru_cache(maxsize=4)
def _manager(folders: tuple[Path, ...], only_folders: bool) -> Any:
    """lm-eval's index of tasks. Its own thousands of files take seconds to read, so they are read only if need be."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=[str(folder) for folder in folders], include_defaults=not only_folders)


def _unknown(name: str, known: list[str]) -> InputError:
    import difflib

    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else "`lm_eval ls tasks` lists them"
    return InputError(f"lm-eval knows no task {name!r}", where="tasks", hint=hint)


@contextlib.contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """No remarks of lm-eval's and no bars of datasets' inside; without `progress` nothing at all on stderr."""
    log = logging.getLogger("lm_eval")
    level, bars = log.level, datasets.are_progress_bars_disabled()
    log.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with contextlib.nullcontext() if progress else contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        log.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()

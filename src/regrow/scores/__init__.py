"""Benchmark scores of a model, measured by lm-evaluation-harness."""

from regrow.scores.spec import TasksSpec, parse_tasks

__all__ = ["TasksSpec", "parse_tasks"]

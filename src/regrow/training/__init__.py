"""Post-training: a `TrainSpec` and a model in, a checkpoint and a run record out.

Importing the package is light; `regrow.training.run` and `regrow.training.post_train` need torch.
"""

from regrow.training.spec import TrainSpec, default_milestones, parse_eval_at

__all__ = ["TrainSpec", "default_milestones", "parse_eval_at"]

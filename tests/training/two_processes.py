"""What each of two processes runs in test_processes.py: a pruned model with everything on, copied and sharded."""

# ruff: noqa: E402
import gc

gc.disable()  # imports make no garbage, and looking for some takes a fifth of their time

import json
import sys
from pathlib import Path

from regrow.training import TrainSpec
from regrow.training.post_train import post_train
from regrow.training.signals import RunStopped, StopRequest

SPEC = TrainSpec(
    tokens=4096,
    batch_tokens=1024,
    sequence_length=64,
    learning_rate=3e-3,
    held_out_blocks=40,  # three batches: one process reads two of them
    eval_at=(1024, 2048),
    micro_batch_blocks=8,
    average="ema:0.6",
    cooldown_tokens=2048,
    save_every_tokens=1024,
    precision="fp32",  # in bf16 the order of a sum shows at 1e-6 of the loss
)


class StopAt(StopRequest):
    """Asks to stop after a step, as a signal would."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.signal = "SIGTERM"

    def heard(self, step, device):
        return step == self.step


def curve(run):
    return [(p.tokens, p.loss, p.train_loss, p.loss_averaged, p.loss_cooled) for p in run.curve]


def main(model: str, text: str, out: Path) -> None:
    ask = {"data": text, "held_out": text, "spec": SPEC, "resume": True, "cache": False}
    curves = {"copied": curve(post_train(model, out=out / "copied", **ask))}
    stopped = ""
    try:  # without pytest, which would be one more import
        post_train(model, out=out / "sharded", shard=True, stop=StopAt(3), **ask)
    except RunStopped as error:
        stopped = str(error)
    assert "3072 of 4096 tokens" in stopped
    curves["sharded"] = curve(post_train(model, out=out / "sharded", shard=True, **ask))
    print(json.dumps(curves))


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))

"""What the tests of the importers share: the real logs, and what a test says of a run that logs do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regrow.runs import RunRecord
from regrow.runs.importers import ImportSpec

ROOT = Path(__file__).parents[3]
LOGS = ROOT / "examples" / "logs"
#: One log of each format, from the real tools; its README says whence.
FORMATS = LOGS / "formats"
#: One run of the real Trainer, which W&B and TensorBoard logged too: see examples/logs/make_logs.py.
TRACKED = LOGS / "tiny-llama-0.2m-depth-0.33" / "trainer_state.json"

#: Continued pretraining of BLOOM-7B1 on German by BigScience: the `log_history` of
#: https://huggingface.co/bs-la/bloom-7b1_de_continual-pretrain_100000samples_-1vocab_original at f7ea028. The numbers
#: alone, as the licence of the file is not stated.
BLOOM_GERMAN = [
    {"epoch": 0.27, "learning_rate": 0.0001, "loss": 3.0311, "step": 2500},
    {"epoch": 0.55, "learning_rate": 0.0001, "loss": 2.7334, "step": 5000},
    {"epoch": 0.55, "eval_loss": 2.775390625, "eval_runtime": 12.1862, "eval_steps_per_second": 8.288, "step": 5000},
    {"epoch": 0.82, "learning_rate": 0.0001, "loss": 2.6307, "step": 7500},
    {"epoch": 1.1, "learning_rate": 0.0001, "loss": 2.4576, "step": 10000},
    {"epoch": 1.1, "eval_loss": 2.68359375, "eval_runtime": 12.1913, "eval_steps_per_second": 8.285, "step": 10000},
    {"epoch": 1.37, "learning_rate": 0.0001, "loss": 2.2705, "step": 12500},
    {"epoch": 1.65, "learning_rate": 0.0001, "loss": 2.2921, "step": 15000},
    {"epoch": 1.65, "eval_loss": 2.62109375, "eval_runtime": 12.1817, "eval_steps_per_second": 8.291, "step": 15000},
]

#: bigscience-workshop/bigscience, train/tr8-104B-wide/chronicles.md (Apache-2.0): batches grew on the way, so that 7000
#: iterations hold 260,912 samples and not 7000 times 96.
BIGSCIENCE = """\
 iteration     7000/  159576 | consumed samples:       260912 | elapsed time per iteration (ms): 18706.1 | learning \
rate: 6.000E-05 | global batch size:    96 | lm loss: 6.444662E+00 | loss scale: 2048.0 | grad norm: 98258.265 | num \
zeros: 0.0 | number of skipped iterations:   0 | number of nan iterations:   0 |
------------------------------------------------------------------------------------------------
 validation loss at iteration 7000 | lm loss value: 7.174200E+00 | lm loss PPL: 1.305315E+03 |
------------------------------------------------------------------------------------------------
"""

#: A line of the list of arguments that Megatron-LM prints at the top of a log.
SEQ_LENGTH = "  seq_length ...................................... 2048\n"


def spec(**changes: Any) -> ImportSpec:
    """A run of a 1.2B model pruned to 0.9B, but for these."""
    about: dict[str, Any] = {
        "run": "r",
        "family": "f",
        "method": "depth",
        "params_before": 1_200_000_000,
        "params_after": 900_000_000,
        "loss_before": 2.0,
    }
    return ImportSpec(**{**about, **changes})


def points(record: RunRecord) -> list[tuple[int, float]]:
    return [(point.tokens, point.loss) for point in record.curve]


def notes(record: RunRecord) -> str:
    return " | ".join(record.details["import_notes"])


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path

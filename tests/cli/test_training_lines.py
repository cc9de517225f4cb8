"""What a run says of itself where there is no terminal."""

from dataclasses import replace

from regrow.cli.training_bar import TrainingLines, progress_line, settings
from regrow.runs import CurvePoint, RunRecord
from regrow.training.callbacks import Progress
from regrow.training.spec import TrainSpec

SPEC = TrainSpec(tokens=98_304, learning_rate=3e-4, average="ema:0.99", seed=7)
RECORD = RunRecord(
    run="r",
    family="llama",
    method="depth",
    params_before=189_000,
    params_after=158_000,
    pruning_rate=0.164,
    loss_before=3.876,
    spec={"model": "pruned", "train": SPEC.to_dict()},
    seed=7,
    objective="cross-entropy",
    details={
        "precision": "bf16",
        "device": "AMD EPYC, AVX512",
        "processes": 1,
        "threads": 2,
        "unique_tokens": 98_304,
        "epochs": 0.04,
        "held_out_tokens": 16_320,
    },
)


def at(tokens: int, **more) -> Progress:
    known = {"loss": 4.2, "tokens_per_second": 1000.0, "learning_rate": 3e-4, "held_out": 4.4, "held_out_tokens": 0}
    return Progress(tokens=tokens, total=100_000, **(known | more))


def test_settings_name_what_was_asked_for_and_what_was_chosen():
    text = "\n".join(settings(RECORD))
    for part in (
        "r: pruned, depth pruned at 0.164, 189k parameters -> 158k, loss before pruning 3.8760",
        "98,304 tokens in 48 steps of 2,048 (blocks of 256), cross-entropy, seed 7",
        "learning rate 0.0003, constant, warm-up of 0 tokens, averaged weights ema:0.99",
        "bf16 on AMD EPYC, AVX512, 1 process, 2 threads",
        "held-out text: 16,320 tokens",
    ):
        assert part in text
    assert "goes on" not in text
    begun = replace(RECORD, curve=(CurvePoint(tokens=49_152, loss=4.0),))
    assert settings(begun)[-1] == "  goes on from 49,152 tokens"


def test_a_line_says_where_the_run_is():
    assert progress_line(at(50_000)) == (
        "50,000 of 100,000 tokens (50%): loss 4.2000, held-out 4.4000 (at the start), rate 3.00e-04, 1,000 tokens/s, "
        "about 50 s left"
    )
    assert "held-out 4.4000 (at 10k)," in progress_line(at(50_000, held_out_tokens=10_000))
    assert "held-out 4.4000, rate" in progress_line(at(50_000, held_out_tokens=50_000))
    first = progress_line(at(2_000, loss=None, tokens_per_second=None, held_out=None, held_out_tokens=None))
    assert first == "2,000 of 100,000 tokens (2%): loss -, held-out -, rate 3.00e-04, - tokens/s"


def test_lines_come_now_and_then_and_with_each_new_held_out_loss(capsys):
    clock = iter(range(10_000))
    seconds = {"now": 0.0}
    lines = TrainingLines(every=30, clock=lambda: seconds["now"])
    for step in range(100):  # one a second
        seconds["now"] = float(next(clock))
        lines.show(at(step * 1000, held_out_tokens=0 if step < 45 else 45_000))
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()] == ["0", "30,000", "45,000", "75,000"]

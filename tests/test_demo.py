"""The demo's path on three random models: every file it promises, numbers that agree with the commands by hand."""

import json
from dataclasses import replace

import pytest

from regrow.arch import find_architecture
from regrow.demo import LEARNING_RATE, demo_study, result_to_dict, run_demo
from regrow.errors import RunFailed
from regrow.ladder import find_model
from regrow.laws import load_laws, validate
from regrow.pruning.outline import outline
from regrow.runs import read_runs
from regrow.study import StudyResult, StudySpec, run_study
from regrow.training.spec import TrainSpec


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from regrow.ladder import ASSETS

    folders = []
    for hidden in (16, 24, 32):
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=2048,
            hidden_size=hidden,
            num_hidden_layers=4,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=3 * hidden,
            tie_word_embeddings=True,
            max_position_embeddings=64,
        )
        folder = tmp_path_factory.mktemp("models") / f"h{hidden}"
        LlamaForCausalLM(config).save_pretrained(folder)
        AutoTokenizer.from_pretrained(ASSETS / "tokenizer").save_pretrained(folder)
        folders.append(str(folder))
    return folders


def test_the_demos_study_is_the_whole_ladder():
    cells = demo_study().cells()
    assert len(cells) == 32
    assert {c.method for c in cells} == {"none", "depth", "width", "2:4"}
    assert {c.train.learning_rate for c in cells} == {LEARNING_RATE}
    for cell in cells:
        if cell.prune:  # every cell can be: its shape exists
            plan = outline(find_architecture(find_model(cell.model)), cell.prune)
            assert plan.target_rate is None or plan.pruning_rate == pytest.approx(plan.target_rate, abs=0.02)


def test_the_path_from_models_to_a_report(models, warm_workers, text, tmp_path):
    study = StudySpec(
        models=tuple(models),
        family="random",
        methods=("depth", "2:4"),
        rates=(0.05, 0.1),
        data=str(text),
        held_out=str(text),
        train=TrainSpec(
            tokens=4_000,
            batch_tokens=512,
            sequence_length=64,
            held_out_blocks=8,
            learning_rate=2e-3,
            eval_at=(1000, 2000, 3000),
            save_every_tokens=0,
        ),
    )
    stages = []
    result = run_demo(tmp_path, study=study, run=lambda s, out: run_study(s, out, workers=1), say=stages.append)
    assert len(stages) == 2
    for name in ("law.json", "report.html", "result.json", "study.json"):
        assert (tmp_path / name).stat().st_size > 0
    runs = read_runs(tmp_path)
    assert len(runs) == 12
    largest = max(r.params_before for r in runs)
    # the largest is predicted, never fitted
    for law in load_laws(tmp_path / "law.json"):
        assert law.ranges["params_before"][1] < largest
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored == json.loads(json.dumps(result_to_dict(result)))
    assert {m["method"] for m in stored["methods"]} == {"depth", "2:4"}
    for form in ("regrowth", "p2"):
        by_hand = {r.method: r.mape for r in validate(runs, hold_out="size", forms=[form])}
        found = {m["method"]: (m if form == "regrowth" else m[form]) for m in stored["methods"]}
        assert {name: m["held_out"]["mape"] for name, m in found.items()} == pytest.approx(by_hand)
        assert {m["form"] for m in found.values()} == {form}
    control = next(r for r in runs if r.is_control and r.params_before == largest)
    assert result.control_drift[largest] == pytest.approx(control.curve[-1].loss - control.loss_before)


def test_a_demo_with_failed_runs_says_so(models, tmp_path):
    study = replace(demo_study(), models=(models[0],))
    failed = StudyResult(ran=(), skipped=(), failed={"cell": "went wrong"})
    with pytest.raises(RunFailed, match="1 run failed; cell: went wrong"):
        run_demo(tmp_path, study=study, run=lambda s, out: failed)

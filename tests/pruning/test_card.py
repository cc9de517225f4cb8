"""The card says what the plan says, in a form that Hugging Face reads, and its command does the same again."""

import shlex
from dataclasses import replace

import pytest
import yaml

from regrow.arch import catalog
from regrow.pruning.card import command, model_card, plan_rows
from regrow.pruning.outline import outline
from regrow.pruning.plan import Candidate
from regrow.pruning.spec import PruneSpec
from regrow.shapes import parse_shape

BEFORE = catalog()["Llama-3.1-8B"]
TEXT = {"blocks": 8, "length": 512, "data_fingerprint": "f00d", "files": ["text.jsonl"]}
SPECS = {
    "depth": PruneSpec(method="depth", rate=0.26, scorer="perplexity", iterative=True, seed=3),
    "width": PruneSpec(method="width", params=6_000_000_000, axes=("hidden", "intermediate"), multiple_of=64, search=2),
    "shape": PruneSpec(method="width", shape={"hidden": 3072, "intermediate": 9216}),
    "2:4": PruneSpec(method="2:4"),
}


def card(spec, model="meta-llama/Llama-3.1-8B", calibration=TEXT, **changes):
    plan = replace(outline(BEFORE, spec), **changes)
    return model_card(model, spec, plan, calibration, {"torch": "2", "transformers": "5"})


def front_matter(text):
    first, matter, _ = text.split("---\n", 2)
    assert first == ""
    return yaml.safe_load(matter)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_front_matter(spec):
    matter = front_matter(card(spec))
    assert matter["base_model"] == "meta-llama/Llama-3.1-8B"
    assert (matter["library_name"], matter["pipeline_tag"]) == ("transformers", "text-generation")
    assert {"pruning", "regrow"} < set(matter["tags"])


def test_text_with_a_name_is_asked_for_by_it():
    ladder = TEXT | {"files": ["post_train.parquet"], "name": "ladder"}
    assert "--calibration ladder " in command("model", SPECS["2:4"], ladder)
    assert "post_train.parquet" in card(SPECS["2:4"], calibration=ladder)


def test_the_precision_of_the_passes_is_asked_for_again():
    assert "--precision" not in command("model", SPECS["2:4"], TEXT)  # records before it was written
    assert "--precision bf16 " in command("model", SPECS["2:4"], TEXT | {"precision": "bf16"})


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_command_asks_for_the_same(spec):
    words = shlex.split(command("model", spec, TEXT))
    assert words[:3] == ["regrow", "prune", "model"]
    flags = {word[2:].replace("-", "_"): True for word in words if word in ("--iterative", "--strict")}
    rest = [word for word in words[3:] if word not in ("--iterative", "--strict")]
    asked = {name[2:].replace("-", "_"): value for name, value in zip(rest[::2], rest[1::2], strict=True)} | flags
    assert (asked.pop("out"), asked.pop("calibration")) == ("pruned", "text.jsonl")
    for name, read in {
        "rate": float,
        "params": int,
        "shape": parse_shape,
        "axes": lambda text: tuple(text.split(",")),
    }.items():
        if name in asked:
            asked[name] = read(asked[name])
    for name in ("search", "multiple_of", "seed", "calibration_blocks", "calibration_length"):
        if name in asked:
            asked[name] = int(asked[name])
    assert PruneSpec(**asked) == spec


def test_what_it_says():
    text = card(SPECS["depth"], dropped_layers=(3, 24))
    assert "8.03B parameters became 5.85B" in text
    assert "Blocks removed (numbered as in the original): 3, 24." in text
    assert "removed one by one" in text
    assert "8 blocks of 512 tokens from text.jsonl (fingerprint of the packed text: f00d)" in text
    assert "Note: asked for rate 0.2600, nearest in whole blocks is" in text
    assert "Made with regrow on torch 2, transformers 5." in text
    tried = Candidate(hidden=3072, intermediate=9216, kv_heads=8, pruning_rate=0.25, loss=2.5)
    assert "| 3072 | 9216 | 8 | 0.2500 | 2.5000 |" in card(SPECS["width"], candidates=(tried,))
    assert "parameters that are not zero" in card(SPECS["2:4"], calibration=None).replace(
        "4.54B that", "4.54B parameters that"
    )
    assert "No text was read" in card(SPECS["2:4"], calibration=None)


def test_who_runs_the_zeros_is_said_of_zeros_only():
    assert "neither smaller nor faster" not in card(SPECS["depth"]) + card(SPECS["width"])
    two_of_four = card(SPECS["2:4"])
    assert "neither smaller nor faster" in two_of_four
    for source in ("vllm-project/vllm#36799", "vllm-project/llm-compressor#2452", "pytorch/ao#4728"):
        assert source in two_of_four
    # what left and what is left concerns 2:4; of another pattern nothing is claimed
    other = card(PruneSpec(method="4:8"))
    assert "neither smaller nor faster" in other
    assert "vLLM" not in other
    assert "PyTorch" not in other


def test_rows_are_the_plan():
    plan = outline(BEFORE, SPECS["shape"])
    rows = {row[0]: row[1:] for row in plan_rows(plan)}
    assert rows["hidden"] == ["4096", "3072", "-25.0%"]
    assert rows["layers"] == ["32", "32", ""]
    assert rows["pruning rate"] == ["", f"{plan.pruning_rate:.4f}", ""]
    asked = plan_rows(outline(BEFORE, SPECS["width"]))[-1][-1]
    assert asked == f"asked {1 - 6e9 / BEFORE.params:.4f} (6B parameters)"


def test_the_licence_comes_along(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: [en]\ntags: [chat]\n---\n# Model\n")
    matter = front_matter(card(SPECS["depth"], model=str(tmp_path)))
    assert (matter["license"], matter["language"], matter["base_model"]) == ("apache-2.0", ["en"], tmp_path.name)
    assert str(tmp_path) not in card(SPECS["depth"], model=str(tmp_path))
    for other in ("no front matter", "---\n: [\n---\n", "---\n- list\n---\n"):
        (tmp_path / "README.md").write_text(other)
        assert "license" not in front_matter(card(SPECS["depth"], model=str(tmp_path)))

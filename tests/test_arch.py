"""Counts against published totals and against the models that transformers builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regrow import arch
from regrow.arch import Architecture, catalog, find_architecture
from regrow.errors import InputError

#: Totals with tied embeddings counted once, as public sources state them (docs/families.md); of Gemma 3 from 4B on and
#: of Ministral 3 those of the language models.
PUBLISHED = {
    "Llama-3.2-1B": 1_235_814_400,
    "Llama-3.2-3B": 3_212_749_824,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.1-70B": 70_553_706_496,
    "Llama-3.1-405B": 405_853_388_800,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen2.5-1.5B": 1_543_714_304,
    "Qwen2.5-3B": 3_085_938_688,
    "Qwen2.5-7B": 7_615_616_512,
    "Qwen2.5-14B": 14_770_033_664,
    "Qwen2.5-32B": 32_763_876_352,
    "Qwen2.5-72B": 72_706_203_648,
    "SmolLM2-135M": 134_515_008,
    "SmolLM2-360M": 361_821_120,
    "SmolLM2-1.7B": 1_711_376_384,
    "Qwen3-0.6B": 596_049_920,
    "Qwen3-1.7B": 1_720_574_976,
    "Qwen3-4B": 4_022_468_096,
    "Qwen3-8B": 8_190_735_360,
    "Qwen3-14B": 14_768_307_200,
    "Qwen3-32B": 32_762_123_264,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Mistral-7B-v0.3": 7_248_023_552,
    "Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "Mistral-Small-24B-Instruct-2501": 23_572_403_200,
    "Ministral-8B-Instruct-2410": 8_019_808_256,
    "Ministral-3-3B-Base-2512": 3_429_006_336,
    "Ministral-3-8B-Base-2512": 8_489_553_920,
    "Ministral-3-14B-Base-2512": 13_506_073_600,
    "SmolLM3-3B": 3_075_098_624,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-270m": 268_098_176,
    "gemma-3-1b-pt": 999_885_952,
    "gemma-3-4b-pt": 3_880_099_328,
    "gemma-3-12b-pt": 11_765_788_416,
    "gemma-3-27b-pt": 27_009_002_240,
    "OLMo-2-0425-1B": 1_484_916_736,
    "OLMo-2-1124-7B": 7_298_617_344,
    "OLMo-2-1124-13B": 13_716_198_400,
    "Olmo-3-1025-7B": 7_298_011_136,
    "Olmo-3-1125-32B": 32_233_522_176,
    "granite-3.3-2b-instruct": 2_533_539_840,
    "granite-3.3-8b-instruct": 8_170_864_640,
    "Phi-3-mini-4k-instruct": 3_821_079_552,
    "phi-4": 14_659_507_200,
    "Phi-4-mini-instruct": 3_836_021_760,
    "GLM-4-9B-0414": 9_400_279_040,
    "Seed-OSS-36B-Base": 36_151_104_512,
    "EXAONE-4.0-1.2B": 1_279_391_488,
    "EXAONE-4.0-32B": 32_003_216_384,
    "ERNIE-4.5-0.3B-PT": 360_748_032,
    "Qwen3-30B-A3B": 30_532_122_624,
    "Qwen3-235B-A22B": 235_093_634_560,
}

TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "pad_token_id": 0,
}

#: What transformers builds no model from: Ministral without `head_dim`, InternLM3 with one kind of bias, and a Helium
#: whose heads are not as wide as the hidden width together.
NO_MODEL = {
    "ministral": lambda config: "head_dim" not in config,
    "internlm3": lambda config: bool(config.get("attention_bias")) != bool(config.get("mlp_bias")),
    "helium": lambda config: config["num_attention_heads"] * config.get("head_dim", 128) != config["hidden_size"],
}


def skip_what_cannot_be(config: dict) -> None:
    if NO_MODEL.get(config["model_type"], lambda config: False)(config):
        pytest.skip("transformers builds no such model")


def entries() -> dict[str, dict]:
    return json.loads((Path(arch.__file__).parent / "catalog.json").read_text())["models"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_catalogue_totals_are_the_published_ones(name: str) -> None:
    assert catalog()[name].params == PUBLISHED[name] == entries()[name]["params"]


def test_catalogue_holds_nothing_unchecked_and_names_its_sources() -> None:
    assert set(catalog()) == set(PUBLISHED)
    assert all(entry["source"].startswith("https://huggingface.co/") for entry in entries().values())


def on_meta(config: dict) -> int:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    options = {k: v for k, v in config.items() if k != "model_type"}
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(config["model_type"], **options)
        )
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "SmolLM2-135M",
        "SmolLM2-360M",
        "Qwen2.5-0.5B",
        "Llama-3.2-1B",
        "Qwen3-0.6B",
        "Mistral-7B-v0.3",
        "Ministral-3-3B-Base-2512",
        "SmolLM3-3B",
        "gemma-2-2b",
        "gemma-3-1b-pt",
        "OLMo-2-0425-1B",
        "Olmo-3-1025-7B",
        "granite-3.3-2b-instruct",
        "phi-4",
        "GLM-4-9B-0414",
        "Seed-OSS-36B-Base",
        "EXAONE-4.0-1.2B",
        "ERNIE-4.5-0.3B-PT",
        "Qwen3-30B-A3B",
    ],
)
def test_catalogue_counts_what_transformers_builds(name: str) -> None:
    assert catalog()[name].params == on_meta(entries()[name]["config"])


#: Totals on the Hub's pages of multimodal models, whose text models the catalogue has: Ministral 3 in bf16. The pages
#: of the 8B and 14B in FP8 have 476 and 560 more, two scales for each of seven matrices of every block.
WITH_VISION = {"3B": 3_849_090_048, "8B": 8_918_026_716 - 476, "14B": 13_945_032_240 - 560}


@pytest.mark.parametrize("size", WITH_VISION)
def test_ministral_3_and_its_vision_tower_make_the_published_total(size: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    text = entries()[f"Ministral-3-{size}-Base-2512"]["config"]
    vision = {"model_type": "pixtral", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    config = transformers.Mistral3Config(
        text_config=text,
        vision_config={**vision, "num_attention_heads": 16, "patch_size": 14},
        tie_word_embeddings=text["tie_word_embeddings"],
    )
    with torch.device("meta"):
        model = transformers.Mistral3ForConditionalGeneration(config)
    assert sum(p.numel() for p in model.parameters()) == WITH_VISION[size]
    own = [p.numel() for name, p in model.named_parameters() if "language_model" in name or "lm_head" in name]
    assert sum(own) == catalog()[f"Ministral-3-{size}-Base-2512"].params


def test_files_that_hold_a_tied_output_layer_twice_state_it_twice() -> None:
    """The Hub's pages of two Qwen3 count the output layer that their files hold beside the embedding."""
    for name, stated in (("Qwen3-0.6B", 751_632_384), ("Qwen3-1.7B", 2_031_739_904)):
        shape = catalog()[name]
        assert shape.params + shape.embedding_params == stated


@pytest.mark.parametrize("model_type", arch.SUPPORTED_MODEL_TYPES)
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"tie_word_embeddings": True},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"head_dim": 16},
        {"num_key_value_heads": 8},
    ],
    ids=str,
)
def test_every_switch_counts_what_transformers_builds(model_type: str, extra: dict) -> None:
    config = {"model_type": model_type, **TINY, **extra}
    skip_what_cannot_be(config)
    assert Architecture.from_config(config).params == on_meta(config)


@pytest.mark.parametrize("model_type", arch.SUPPORTED_MODEL_TYPES)
def test_absent_keys_take_the_defaults_of_transformers(model_type: str) -> None:
    config = {"model_type": model_type, **TINY, "hidden_size": 128, "num_attention_heads": 32}
    del config["num_key_value_heads"]
    if model_type == "helium":
        config |= {"hidden_size": 2560, "num_attention_heads": 20}
    skip_what_cannot_be(config)
    assert Architecture.from_config(config).params == on_meta(config)


def test_flops_are_two_per_weight_plus_causal_attention() -> None:
    a = Architecture.from_config({"model_type": "llama", **TINY})
    weights = a.params - a.embedding_params - (2 * a.layers + 1) * a.hidden + a.vocab * a.hidden
    assert a.forward_flops_per_token(0) == 2 * weights
    assert a.forward_flops_per_token(10) - a.forward_flops_per_token(0) == 2 * a.layers * a.heads * a.head_dim * 10
    assert a.training_flops_per_token(10) == 3 * a.forward_flops_per_token(10)
    # 6 per parameter is the usual estimate: near it for a large model at a moderate context
    big = catalog()["Llama-3.1-8B"]
    assert big.training_flops_per_token(2048) / (6 * big.params) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "llama-3.1-8b", "meta-llama/Llama-3.1-8B"])
def test_models_are_found_by_name(name: str) -> None:
    assert find_architecture(name).params == 8_030_261_248


def test_models_are_found_on_disk(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **TINY}))
    assert find_architecture(str(tmp_path)) == find_architecture(str(tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not a JSON file"),
        ("[1]", "not a JSON object"),
        ('{"model_type": "gpt2"}', "models of type 'gpt2' are not supported: its layer norms have biases"),
        ('{"model_type": "lama"}', "unknown model type 'lama'; did you mean 'llama'"),
        ('{"model_type": "llama"}', "the key 'num_attention_heads' is missing"),
        (json.dumps({"model_type": "llama", **TINY, "hidden_size": "wide"}), "not a model's shape"),
        (json.dumps({"model_type": "llama", **TINY, "num_hidden_layers": 0}), "must be at least 1"),
        (json.dumps({"model_type": "llama", **TINY, "num_key_value_heads": 3}), "do not divide"),
    ],
)
def test_bad_configs_are_one_line(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        find_architecture(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_config_and_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model config"):
        find_architecture(str(tmp_path))
    with pytest.raises(InputError, match=r"did you mean 'Llama-3.1-8B'"):
        find_architecture("Llama-3.1-8")
    with pytest.raises(InputError, match="unknown model"):
        find_architecture("")

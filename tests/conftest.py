"""Tiny real models and text, made once."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

# before torch starts its pools: tiny models gain nothing from threads, and threads that share a core slow all down
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # it would inherit what the line below set
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# tokenised text is cached where nobody else looks, and gone with the session
_CACHE = tempfile.TemporaryDirectory(prefix="regrow-test-cache-")
os.environ["REGROW_CACHE"] = _CACHE.name


# nothing that an import makes is garbage, and looking for some is a fifth of the time that imports take
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def freeze_what_is_loaded() -> None:
    """Take what is imported out of the garbage collector's sight: a million objects, and each training collects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two blocks with the ladder's tokenizer, as a checkpoint folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from regrow.ladder import ASSETS

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=2048,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    folder = tmp_path_factory.mktemp("tiny") / "model"
    LlamaForCausalLM(config).save_pretrained(str(folder))
    AutoTokenizer.from_pretrained(str(ASSETS / "tokenizer")).save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred short documents of real text, one per row of a Parquet file."""
    import pandas as pd

    from regrow.ladder import find_corpus

    documents = pd.read_parquet(find_corpus("ladder", "held_out"))["text"].str.slice(0, 2000)
    path = tmp_path_factory.mktemp("text") / "text.parquet"
    pd.DataFrame({"text": documents.tolist()}).to_parquet(path)
    return path


@pytest.fixture(scope="session")
def local_engine() -> Iterator[Any]:
    """Two workers for all tests: each takes seconds to import torch and transformers, once."""
    from regrow.study.engines import make_engine

    with closing(make_engine("local", workers=2)) as engine:
        yield engine


@pytest.fixture(scope="module")
def warm_workers(local_engine) -> Iterator[None]:
    """A local engine that a module's tests start finds the session's idle workers, and leaves its own to the session.

    Each engine still runs as many workers as it was asked for; they have merely imported torch before.
    """
    from regrow.study import local

    class Warm(local.LocalEngine):
        def __init__(self, **asked: Any) -> None:
            super().__init__(**asked)
            self._idle = local_engine._idle

        def close(self) -> None:
            self._idle = []
            super().close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "LocalEngine", Warm)
        yield


@pytest.fixture(scope="session")
def make_record():
    """`make_record(name, **changes)`: the record of a small depth-pruned run; its curve is empty unless given."""
    from regrow.runs import RunRecord

    def make(name: str = "r", **changes) -> RunRecord:
        values = {
            "run": name,
            "family": "f",
            "method": "depth",
            "params_before": 100,
            "params_after": 80,
            "pruning_rate": 0.2,
            "loss_before": 2.0,
        }
        return RunRecord(**{**values, **changes})

    return make

"""Asks one program that serves models for its greedy tokens, in a process of its own, which the program may end.

`python -m regrow.serving.child RUNTIME SOURCE REPLY` reads a question from stdin and writes the answer to REPLY. It
imports the program that it asks, and nothing else beside the standard library: an interpreter without regrow runs it by
its file.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: vLLM's KV cache: for a few short sequences. Its default is a share of all the memory that there is, which must be
#: free when it starts; where the cache is given in bytes, the share is good for that check alone.
_CACHE_BYTES, _SHARE = 2**30, 0.01


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a program is asked.

    Attributes:
        prompts: the tokens of each prompt.
        texts: whole texts, whose tokens it is to count.
        count: tokens to pick after each prompt.
        room: tokens that it must hold at once.
        dtype: of its weights, by torch's name.
        implementation: of vLLM: `auto` or `transformers`.
        threads: of the CPU.
    """

    prompts: list[list[int]]
    texts: list[str]
    count: int
    room: int
    dtype: str
    implementation: str = "auto"
    threads: int = 1


def _llama_cpp(path: str, question: Question) -> dict[str, Any]:
    """llama.cpp, through the package `xllamacpp`, on the CPU with a float32 cache."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_ctx = question.room
    params.n_gpu_layers = 0
    params.n_parallel = 1
    params.warmup = False
    params.verbosity = 1  # errors
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = question.threads
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    # only the verbose reply names the tokens that are parts of a character
    verbose = {"return_tokens": True, "verbose": True}
    greedy = {"n_predict": question.count, "temperature": 0.0, "cache_prompt": False, **verbose}
    replies = [server.handle_completions({"prompt": ids, **greedy}) for ids in question.prompts]
    counts = [server.handle_completions({"prompt": text, "n_predict": 1}) for text in question.texts]
    return {
        "tokens": [list(map(int, reply["__verbose"]["tokens"])) for reply in replies],
        "text_tokens": [reply["usage"]["prompt_tokens"] for reply in counts],
        "how": [f"llama.cpp by xllamacpp {version('xllamacpp')}, on the CPU"],
    }


def _vllm(folder: str, question: Question) -> dict[str, Any]:
    """vLLM, of the folder as it lies, with its own or with transformers' implementation of the model."""
    # one process, so that what it raises is what ends this one
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    import vllm

    engine = vllm.LLM(
        model=folder,
        dtype=question.dtype,
        max_model_len=question.room,
        max_num_seqs=len(question.prompts),
        kv_cache_memory_bytes=_CACHE_BYTES,
        gpu_memory_utilization=_SHARE,
        enforce_eager=True,
        model_impl=question.implementation,
        skip_tokenizer_init=True,
    )
    asked = vllm.SamplingParams(temperature=0.0, max_tokens=question.count, ignore_eos=True, detokenize=False)
    replies = engine.generate([{"prompt_token_ids": ids} for ids in question.prompts], asked, use_tqdm=False)
    return {
        "tokens": [list(reply.outputs[0].token_ids) for reply in replies],
        "text_tokens": [],
        "how": [f"vLLM {vllm.__version__}, --model-impl {question.implementation}"],
    }


def main() -> None:
    """Ask one program, as this module's docstring says."""
    runtime, source, reply = sys.argv[1:]
    question = Question(**json.load(sys.stdin))
    answer = {"llama.cpp": _llama_cpp, "vllm": _vllm}[runtime](source, question)
    Path(reply).write_text(json.dumps(answer))


if __name__ == "__main__":
    main()

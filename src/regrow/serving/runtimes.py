"""What GGUF files hold, and what the programs that serve models answer."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from regrow.errors import RunFailed
from regrow.models.folder import Checkpoint
from regrow.models.library import quiet
from regrow.serving.child import Question
from regrow.serving.gguf_file import import_gguf, stored_tensors
from regrow.serving.reference import Answers, Prompts, answers_of

#: Tokens that llama.cpp holds room for, beside those of the longest prompt and its answer.
_SPARE = 8


def gguf_tensors_equal(checkpoint: Checkpoint, path: Path, dtype: str) -> int:
    """The number of tensors of a GGUF file, all of which hold the checkpoint's numbers to the bit.

    Raises `RunFailed` if one does not.
    """
    gguf = import_gguf()
    held = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    expected = stored_tensors(checkpoint, dtype)
    for tensor in expected:
        found = held.get(tensor.name)
        if found is None:
            raise RunFailed(f"the tensor {tensor.name} is missing", where=str(path))
        numbers = tensor.read()
        if found.data.tobytes() != numbers.tobytes() or list(reversed(found.shape.tolist())) != list(tensor.shape):
            raise RunFailed(f"the tensor {tensor.name} is not what was written", where=str(path))
    if len(held) != len(expected):
        raise RunFailed(f"{len(held)} tensors, {len(expected)} were written", where=str(path))
    return len(held)


def transformers_gguf_answers(path: Path, reference: Answers) -> Answers:
    """The answers of the model that transformers' own reader makes of a GGUF file. Raises what transformers raises."""
    from transformers import AutoModelForCausalLM

    with quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True
        )
    if report["missing_keys"]:
        raise RunFailed(f"it has no tensor for {sorted(report['missing_keys'])[0]}", where=str(path))
    return answers_of(model.eval(), Prompts(ids=reference.prompts), len(reference.tokens[0]))


def ask_apart(
    runtime: str, source: Path, reference: Answers, *, dtype: torch.dtype, implementation: str = "auto"
) -> tuple[Answers, list[str]]:
    """The answers of `llama.cpp` (of a GGUF file) or `vllm` (of a folder), and what is to be said of them.

    Raises `RunFailed` with the program's last line if it does not answer.
    """
    count = len(reference.tokens[0])
    question = Question(
        prompts=reference.prompts,
        texts=list(reference.texts),
        count=count,
        room=max([*map(len, reference.prompts), *reference.text_tokens]) + count + _SPARE,
        dtype=str(dtype).removeprefix("torch."),
        implementation=implementation,
        threads=torch.get_num_threads(),
    )
    with tempfile.TemporaryDirectory(prefix="regrow-") as work:
        reply = Path(work) / "reply.json"
        command = [sys.executable, "-m", "regrow.serving.child", runtime, str(source), str(reply)]
        ended = subprocess.run(command, input=json.dumps(asdict(question)), capture_output=True, text=True, check=False)
        if not reply.is_file():
            lines = [line for line in (ended.stderr or ended.stdout).splitlines() if line.strip()]
            told = next((line for line in lines if "ASSERT" in line or "error" in line.lower()), (lines or [""])[-1])
            raise RunFailed(f"it ended without an answer (exit code {ended.returncode}): {told.strip()[:300]}")
        answer = json.loads(reply.read_text())
    how = answer["how"]
    if answer["text_tokens"]:
        pairs = list(zip(answer["text_tokens"], reference.text_tokens, strict=True))
        same = sum(one == other for one, other in pairs)
        how.append(f"it splits {same} of {len(pairs)} texts into as many tokens as the model's own tokenizer")
    return Answers(prompts=reference.prompts, tokens=answer["tokens"], margins=reference.margins), how

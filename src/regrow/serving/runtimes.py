"""What GGUF files hold, and what the programs that serve models answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import torch

from regrow.errors import InputError, RunFailed
from regrow.models.folder import Checkpoint
from regrow.models.library import quiet
from regrow.serving import child
from regrow.serving.child import Question
from regrow.serving.gguf_file import import_gguf
from regrow.serving.gguf_tensors import stored_tensors
from regrow.serving.llama_cpp import class_of, reorders
from regrow.serving.reference import Answers, Prompts, answers_of

#: Tokens that llama.cpp holds room for, beside those of the longest prompt and its answer.
_SPARE = 8

#: Channels of a head of Qwen3 in transformers' config, which its reader of GGUF files does not set.
_QWEN3_HEAD = 128

#: The entry that transformers' config of Phi-3 pads with, which that reader does not set either.
_PHI3_PADDING = 32_000

#: How Python ends a traceback, and the most characters of a program's line that are passed on.
_EXCEPTION = re.compile(r"^[\w.]*(Error|Exception): \S")
_LONGEST_LINE = 300


def gguf_tensors_equal(checkpoint: Checkpoint, path: Path, dtype: str) -> int:
    """The number of tensors of a GGUF file, all of which hold the checkpoint's numbers to the bit.

    Raises `RunFailed` if one does not.
    """
    gguf = import_gguf()
    held = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    expected = stored_tensors(checkpoint, gguf, dtype)
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


def unread_by_transformers(checkpoint: Checkpoint) -> str | None:
    """Why transformers' own reader can't read the model's GGUF file right; None where it can."""
    arch = checkpoint.arch
    form = class_of(arch, checkpoint.config.to_dict())
    if form.name in ("gemma2", "gemma3"):
        return "it leaves out which blocks have windows, and the scale of attention"
    if form.name not in ("llama", "qwen2", "qwen3", "phi3"):
        return f"it does not know {form.name}, or not all of its sizes"
    if form.name == "phi3" and arch.vocab <= _PHI3_PADDING:
        return f"it pads any Phi-3 with entry {_PHI3_PADDING:,}"
    if form.name == "llama" and (arch.qkv_bias or arch.o_bias or arch.mlp_bias):
        return "it leaves out the biases of Llama's family"
    if form.name == "llama" and not reorders(arch, form):
        return "it takes a Llama that rotates the halves of a head"
    if form.name == "llama" and checkpoint.folder.name == "mistral":
        return "it looks for an architecture `mistral` in a file of that name, which llama.cpp does not have"
    if form.name == "qwen3" and arch.head_dim != _QWEN3_HEAD:
        return f"it takes heads of {_QWEN3_HEAD} channels for any Qwen3"
    return None


def transformers_gguf_answers(path: Path, reference: Answers) -> Answers:
    """The answers of the model that transformers' own reader makes of a GGUF file. Raises what transformers raises."""
    from transformers import AutoModelForCausalLM

    # of a bare name transformers takes the weights from the working folder, where that has a file of the same name
    whole = path.absolute()
    with quiet():
        model, report = AutoModelForCausalLM.from_pretrained(
            whole.parent, gguf_file=str(whole), dtype=torch.float32, output_loading_info=True
        )
    if report["missing_keys"]:
        raise RunFailed(f"it has no tensor for {sorted(report['missing_keys'])[0]}", where=str(path))
    return answers_of(model.eval(), Prompts(ids=reference.prompts), len(reference.tokens[0]))


def vllm_python(named: str | Path | None = None) -> Path | None:
    """The Python interpreter that has vLLM: the one that is named, this one, or that of the `vllm` command on the path.

    vLLM pins other versions of transformers than regrow does, so it usually lives in an environment of its own. None
    where there is none. Raises `InputError` if `named` is no file.
    """
    if named is not None:
        if not Path(named).is_file():
            raise InputError("no such file", where=str(named), hint="give the interpreter, e.g. /opt/vllm/bin/python")
        return Path(named).absolute()
    if find_spec("vllm") is not None:
        return Path(sys.executable)
    command = shutil.which("vllm")
    beside = None if command is None else Path(command).resolve().with_name("python")
    return beside if beside is not None and beside.is_file() else None


def _command(python: Path) -> list[str]:
    """What runs the child: in an interpreter of another environment by its file, without this one's search path."""
    if python == Path(sys.executable):
        return [str(python), "-m", child.__name__]
    return [str(python), "-I", child.__file__]


def last_words(log: str) -> str:
    """The line of a program's log that says best why it ended: an assertion, a loader's error, the last exception."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    for found in (
        [line for line in lines if "ASSERT" in line],
        [line for line in lines if "error loading" in line],
        [line for line in reversed(lines) if _EXCEPTION.search(line)],
        [line for line in lines if "error" in line.lower()],
        lines[::-1],
    ):
        if found:
            return found[0][:_LONGEST_LINE]
    return "it wrote nothing"


def ask_apart(
    runtime: str,
    source: Path,
    reference: Answers,
    *,
    dtype: torch.dtype,
    implementation: str = "auto",
    longest: int | None = None,
    python: Path | None = None,
) -> tuple[Answers, list[str]]:
    """The answers of `llama.cpp` (of a GGUF file) or `vllm` (of a folder), and what is to be said of them.

    Args:
        longest: positions that the model has, of which vLLM takes no more.
        python: the interpreter that has the program; default: this one.

    Raises `RunFailed` with the program's last line if it does not answer.
    """
    count = len(reference.tokens[0])
    room = max([*map(len, reference.prompts), *reference.text_tokens]) + count + _SPARE
    question = Question(
        prompts=reference.prompts,
        texts=list(reference.texts),
        count=count,
        room=room if longest is None else min(room, longest),
        dtype=str(dtype).removeprefix("torch."),
        implementation=implementation,
        threads=torch.get_num_threads(),
    )
    with tempfile.TemporaryDirectory(prefix="regrow-") as work:
        reply = Path(work) / "reply.json"
        command = [*_command(python or Path(sys.executable)), runtime, str(source.absolute()), str(reply)]
        ended = subprocess.run(command, input=json.dumps(asdict(question)), capture_output=True, text=True, check=False)
        if not reply.is_file():
            raise RunFailed(
                f"it ended without an answer (exit code {ended.returncode}): {last_words(ended.stderr or ended.stdout)}"
            )
        answer = json.loads(reply.read_text())
    how = answer["how"]
    if answer["text_tokens"]:
        pairs = list(zip(answer["text_tokens"], reference.text_tokens, strict=True))
        same = sum(one == other for one, other in pairs)
        how.append(f"it splits {same} of {len(pairs)} texts into as many tokens as the model's own tokenizer")
    return Answers(prompts=reference.prompts, tokens=answer["tokens"], margins=reference.margins), how

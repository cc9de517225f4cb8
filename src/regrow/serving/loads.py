"""Which programs load a checkpoint, and whether they give the tokens that transformers gives."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from regrow.errors import InputError, one_of, reason_of
from regrow.models.folder import open_checkpoint
from regrow.models.load import local_checkpoint
from regrow.serving.constraints import RUNTIMES, limits_of
from regrow.serving.gguf_file import import_gguf, write_gguf
from regrow.serving.gguf_tensors import GGUF_DTYPES
from regrow.serving.limit import Limit
from regrow.serving.reference import (
    Agreement,
    Answers,
    agreement,
    answers_of,
    answers_without_cache,
    load_reference,
    prompts_for,
)
from regrow.serving.runtimes import ask_apart, gguf_tensors_equal, transformers_gguf_answers, unread_by_transformers
from regrow.serving.runtimes import vllm_python as find_vllm
from regrow.serving.vllm import heads_by_hidden

#: The packages by which a runtime is asked.
PACKAGES = {"transformers": "transformers", "gguf": "gguf", "llama.cpp": "xllamacpp"}

#: `loads`: it loaded the model and gave the same tokens. `differs`: other tokens. `fails`: it did not load it.
#: `by shape`: it is not installed; its known limits were checked.
Status = Literal["loads", "differs", "fails", "by shape"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What one runtime made of a checkpoint.

    Attributes:
        runtime: of `regrow.serving.constraints.RUNTIMES`.
        status: see `Status`.
        how: what was done and found, in sentences.
        agreement: how its tokens compare with transformers'; None where it was not asked.
        limits: its known limits that the model meets.
    """

    runtime: str
    status: Status
    how: tuple[str, ...] = ()
    agreement: Agreement | None = None
    limits: tuple[Limit, ...] = ()

    @property
    def good(self) -> bool:
        """Whether it loads the model and agrees, or, where it is not installed, no known limit speaks against it."""
        against = any(limit.kind != "note" for limit in self.limits)
        return self.status == "loads" or (self.status == "by shape" and not against)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        limits = [limit._asdict() for limit in self.limits]
        agreed = None if self.agreement is None else {**asdict(self.agreement), "same": self.agreement.same}
        return {
            "runtime": self.runtime,
            "status": self.status,
            "good": self.good,
            "how": list(self.how),
            "agreement": agreed,
            "limits": limits,
        }


@dataclass
class _Asked:
    """A checkpoint that is checked; its reference answers are computed once, when they are first needed."""

    folder: Path
    dtype: str
    tokens: int
    say: Callable[[str], None]
    work: Path
    gguf_path: Path | None = None
    vllm_python: Path | None = None
    _answers: Answers | None = None
    _written: tuple[Path, list[str]] | None = None
    checkpoint: Any = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoint = open_checkpoint(self.folder)

    def reference(self) -> Answers:
        """transformers' answers, from the weights as `dtype` holds them."""
        if self._answers is None:
            self.say("asking transformers")
            longest = self.checkpoint.config.max_position_embeddings - self.tokens
            prompts = prompts_for(self.folder, self.checkpoint.config, longest)
            model = load_reference(self.folder, GGUF_DTYPES[self.dtype])
            self._answers = answers_of(model, prompts, self.tokens)
        return self._answers

    def gguf(self) -> tuple[Path, list[str]]:
        """The model's GGUF file and what it lacks; it is written once."""
        if self._written is None:
            path = self.gguf_path or self.work / "model.gguf"
            self.say(f"writing {path.name}")
            self._written = path, write_gguf(self.folder, path, dtype=self.dtype, progress=self.say)
        return self._written


def check_loads(
    model: str | Path,
    runtimes: Sequence[str] = RUNTIMES,
    *,
    dtype: str = "fp32",
    tokens: int = 32,
    gguf_path: str | Path | None = None,
    vllm_python: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[Loaded]:
    """Load a checkpoint with each runtime that is installed, and compare its greedy tokens with transformers'.

    Args:
        model: a checkpoint folder or a Hub name.
        runtimes: of `regrow.serving.constraints.RUNTIMES`.
        dtype: in which matrices are stored for the comparison, of `regrow.serving.gguf_file.GGUF_DTYPES`; transformers
            computes in float32 with weights rounded to it.
        tokens: picked after each prompt.
        gguf_path: keep the GGUF file here.
        vllm_python: the Python interpreter of the environment that has vLLM; default: this one, or that of the `vllm`
            command on the path.
        progress: called with a line of text now and then.

    Raises `InputError` for an unknown runtime, and for a checkpoint that regrow refuses.
    """
    for name in runtimes:
        one_of(name, RUNTIMES, what="runtime", where="--loads")
    one_of(dtype, GGUF_DTYPES, what="type", where="--dtype")
    if tokens < 1:
        raise InputError(f"{tokens} tokens", where="--tokens", hint="give at least 1")
    if gguf_path is not None and not {"gguf", "llama.cpp"} & set(runtimes):
        raise InputError("a GGUF file without gguf", where="--gguf", hint="add gguf to --loads")
    if gguf_path is not None:
        import_gguf()
    if vllm_python is not None and "vllm" not in runtimes:
        raise InputError("an interpreter without vllm", where="--vllm-python", hint="add vllm to --loads")
    interpreter = find_vllm(vllm_python) if "vllm" in runtimes else None
    with tempfile.TemporaryDirectory(prefix="regrow-") as work:
        asked = _Asked(
            folder=local_checkpoint(model),
            dtype=dtype,
            tokens=tokens,
            say=progress or (lambda line: None),
            work=Path(work),
            gguf_path=None if gguf_path is None else Path(gguf_path),
            vllm_python=interpreter,
        )
        return [_checked(name, asked) for name in dict.fromkeys(runtimes)]


def _checked(name: str, asked: _Asked) -> Loaded:
    arch, config = asked.checkpoint.arch, asked.checkpoint.config.to_dict()
    limits = tuple(limits_of(name, arch, config))
    missing = _missing(name, asked)
    if missing:
        how = f"{' and '.join(missing)} not installed: known limits were checked by shape, nothing was loaded"
        return Loaded(runtime=name, status="by shape", how=(how,), limits=limits)
    try:
        found, how_found = _ASK[name](asked)
    except Exception as error:  # whatever a runtime raises is its answer
        return Loaded(runtime=name, status="fails", how=(reason_of(error),), limits=limits)
    status: Status = "loads" if found is None or found.same else "differs"
    return Loaded(runtime=name, status=status, how=tuple(how_found), agreement=found, limits=limits)


def _missing(name: str, asked: _Asked) -> list[str]:
    """The packages that a runtime needs and that are not installed."""
    if name == "vllm":
        return [] if asked.vllm_python is not None else ["vllm"]
    packages = ("gguf", PACKAGES[name]) if name == "llama.cpp" else (PACKAGES[name],)
    return [package for package in packages if find_spec(package) is None]


def _ask_transformers(asked: _Asked) -> tuple[Agreement, list[str]]:
    """With its cache, and without: a stale layer index or window shows as a difference between the two."""
    reference = asked.reference()
    model = load_reference(asked.folder, GGUF_DTYPES[asked.dtype])
    found = agreement(answers_without_cache(model, reference), reference)
    return found, ["every parameter found its place; answers with the cache were compared with those without"]


def _ask_gguf(asked: _Asked) -> tuple[Agreement | None, list[str]]:
    """Written, read back tensor by tensor, and read by transformers where its reader can."""
    path, lacks = asked.gguf()
    asked.say("reading the GGUF file back")
    count = gguf_tensors_equal(asked.checkpoint, path, asked.dtype)
    how = [f"{count} tensors read back with gguf are equal to the bit ({asked.dtype})", *lacks]
    unread = unread_by_transformers(asked.checkpoint)
    if unread is not None:
        return None, [*how, f"transformers' own GGUF reader was not asked: {unread}"]
    found = transformers_gguf_answers(path, asked.reference())
    return agreement(found, asked.reference()), [*how, "transformers read the file"]


def _ask_llama_cpp(asked: _Asked) -> tuple[Agreement, list[str]]:
    path, lacks = asked.gguf()
    reference = replace(asked.reference(), texts=(), text_tokens=()) if lacks else asked.reference()
    asked.say("asking llama.cpp")
    found, how = ask_apart("llama.cpp", path, reference, dtype=GGUF_DTYPES[asked.dtype])
    return agreement(found, reference, GGUF_DTYPES[asked.dtype]), [*how, *lacks]


def _ask_vllm(asked: _Asked) -> tuple[Agreement, list[str]]:
    # its own Qwen2 would give other tokens
    implementation = "transformers" if heads_by_hidden(asked.checkpoint.arch) else "auto"
    reference = asked.reference()
    asked.say("asking vLLM")
    found, how = ask_apart(
        "vllm", asked.folder, reference, dtype=GGUF_DTYPES[asked.dtype], implementation=implementation,
        longest=asked.checkpoint.config.max_position_embeddings, python=asked.vllm_python,
    )  # fmt: skip
    return agreement(found, reference, GGUF_DTYPES[asked.dtype]), how


_ASK: dict[str, Callable[[_Asked], tuple[Agreement | None, list[str]]]] = {
    "transformers": _ask_transformers,
    "gguf": _ask_gguf,
    "llama.cpp": _ask_llama_cpp,
    "vllm": _ask_vllm,
}

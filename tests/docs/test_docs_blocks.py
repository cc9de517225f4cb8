"""Every command of the shell blocks is run, on small things in the place of a reader's large ones, or says why not.

A page's blocks run in order in a folder that holds what the page takes for granted: a text, a pruned model, a study.
`STANDS_FOR` says what replaces what; nothing else of a command is changed. `NOT_HERE` lists what can't run in a test,
with the reason; of those, what regrow is asked is parsed all the same.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from test_docs_pages import PAGES, ROOT, parse

from regrow.cli.main import main

#: Options of a reader's own that are replaced: the words as the page has them, and what runs here.
_FEW = "--tokens 2k --batch-tokens 512 --held-out-blocks 2 --lr 1e-3"
STANDS_FOR = {
    "MODEL": "tiny-llama-0.2m",
    "--params 6B": "--params 150k",
    "--tokens 300M": _FEW,
    "--tokens 2B --batch-tokens 512k --sequence-length 2048": f"{_FEW} --sequence-length 256",
    "--eval-at linear:30": "--eval-at linear:4",
    "--tokens 20k": "--tokens 1k",  # a cool-down
    "--tokens 100k": "--tokens 1k",  # of documents seen
    "--calibration text.jsonl": "--calibration text.jsonl --calibration-blocks 2 --calibration-length 128",
    "--held-out ladder": "--held-out held-out.jsonl",
    "--out study": "--out study --workers 1",
    "six --out examples/six_runs.csv": "study --out exported.csv",
    # without a text of its own it would tokenise the whole embedded one
    "--out measured": "--calibration text.jsonl --calibration-blocks 2 --calibration-length 128 --out measured",
    # the same hold-outs as on the page, which is made without this
    "--out report.md": "--out report.md --no-validate",
    "--out report.png": "--out report.png --no-validate",
    # alternatives that a page shows under one name
    "--out pruned": "--out pruned --overwrite",
    "--stop-when gain:0.01 --out run": "--stop-when gain:0.01 --out run-2",
}
#: What does not run here: a pattern, and why. Patterns that no page needs are an error.
NOT_HERE = {
    r"make (test|lint|format|docs)": "this is `make test`; the others are run by the gate or write into the clone",
    r"regrow eval tiny-llama-0.2m --tasks": "3,000 questions: tests/scores and tests/cli ask a few",
    r"make demo": "32 runs of 98,304 tokens: tests/test_demo.py runs the same with fewer",
    r"make ladder": "hours, and packages of Debian: tests/ladder runs its parts",
    r"make results": "minutes of fits: tests/docs/test_results.py makes a part of the page anew",
    r"python3 -m venv|(\.venv/bin/)?pip install|\. \.venv/bin/activate": "a package index: the gate installs a clone",
    r"python -m benchmarks.training.throughput": "needs an H100: test_benchmarks_page checks scripts and options",
    r"regrow study examples/six_runs.yaml": "6 runs of 98,304 tokens: its file is checked",
    r"regrow study hidden.yaml|regrow validate hidden": "16 runs of 98,304 tokens: its file is checked",
    r"regrow study .*--engine ray": "a cluster of several machines: tests/study runs a local one",
    r"ray (start|get-auth-token)|export RAY_|chmod 600|cd /shared/project": "a cluster of several machines",
    r"first=|srun": "Slurm",
    r"torchrun|accelerate launch": "eight accelerators: tests/training runs two processes",
    r"regrow check pruned --loads": "other programs: tests/serving asks those that are installed",
    r"regrow prune MODEL --method experts": "the ladder has no mixture of experts: tests/pruning prunes a tiny one",
    r"regrow fit study runs/large": "follows a run on eight accelerators",
}


def commands(page: str) -> list[str]:
    """Every command of the shell blocks, on one line, without comments and prompts; `&&` joins two of them."""
    found: list[str] = []
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.sub(r"(^|\s)#.*", "", line).split("&&"):
                if part.strip():
                    found.append(" ".join(part.split()))
    return found


def reason(command: str) -> str | None:
    """Why a command does not run here; None if it does."""
    return next((why for pattern, why in NOT_HERE.items() if re.match(pattern, command)), None)


def small(command: str) -> str:
    for words, stand_in in STANDS_FOR.items():
        command = re.sub(rf"(?<!\S){re.escape(words)}(?!\S)", stand_in, command)
    return command


EVERY = [(page, command) for page in PAGES for command in commands(page.read_text())]


def test_blocks_are_read_as_a_shell_reads_them() -> None:
    block = "```sh\nregrow a --b \\\n   --c   # why\n# not this\nregrow d && regrow e > f\n```\n```text\nno\n```\n"
    assert commands(block) == ["regrow a --b --c", "regrow d", "regrow e > f"]
    assert small("regrow train MODEL --tokens 300M --x") == f"regrow train tiny-llama-0.2m {_FEW} --x"
    assert small("regrow train MODEL.1 --tokens 300Mx") == "regrow train MODEL.1 --tokens 300Mx"


def test_every_command_runs_or_says_why_not() -> None:
    for page, command in EVERY:
        assert command.startswith("regrow ") or reason(command), f"{page.name}: {command}"
    for pattern in NOT_HERE:
        assert any(re.match(pattern, command) for _, command in EVERY), f"no page has {pattern}"
    for words in STANDS_FOR:
        assert any(small(command) != command and words in command for _, command in EVERY), f"no page has {words}"


@pytest.mark.parametrize(
    "command", [c for _, c in EVERY if reason(c) and ("regrow " in c or "regrow." in c)], ids=lambda c: c[:50]
)
def test_what_does_not_run_is_parsed(command: str) -> None:
    asked = re.split(r"-m regrow\.cli\.main |\bregrow (?=[a-z])", command, maxsplit=1)[-1]
    parse(["regrow", *shlex.split(asked)])


def test_make_has_the_targets_that_pages_name() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert targets >= {command.split()[1] for _, command in EVERY if command.startswith("make ")}


def files_in(page: str) -> dict[str, Any]:
    """The YAML blocks of a page whose first line is a comment with their name."""
    found = re.findall(r"^( *)```yaml\n *# ([\w.]+)\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    return {name: yaml.safe_load(text) for _, name, text in found}


STUDY = files_in((ROOT / "docs" / "study.md").read_text())["study.yaml"]


def test_study_files_of_the_pages_are_studies() -> None:
    from regrow import StudySpec

    files = [content for page in PAGES for content in files_in(page.read_text()).values()]
    files += [yaml.safe_load(path.read_text()) for path in ROOT.glob("examples/*.yaml")]
    assert len(files) >= 4
    for content in files:
        StudySpec.from_dict(content).check()


def call(folder: Path, command: str) -> str:
    """Run one command in a folder, in this process; what it printed on stdout, which may go to a file as in a shell."""
    command, _, target = command.partition(" > ")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code, f"{command}: {err.getvalue()[-2000:]}"
    if target:
        (folder / target.strip()).write_text(out.getvalue())
    return out.getvalue()


def follow(page: str, folder: Path) -> list[str]:
    """Run the commands of a page that can run; what each printed."""
    return [call(folder, small(command)) for command in commands((ROOT / page).read_text()) if not reason(command)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, warm_workers: None) -> Path:
    """The folder of a reader who had a text, logs and a study file, and has followed the README."""
    folder = tmp_path_factory.mktemp("reader") / "here"
    shutil.copytree(ROOT / "examples", folder / "examples")
    shutil.copy(ROOT / "examples" / "six_runs.csv", folder / "runs.csv")
    shutil.copytree(ROOT / "examples" / "logs" / "tiny-llama-0.2m-depth-0.17", folder / "out" / "checkpoint-500")
    texts = pd.read_parquet(ROOT / "src/regrow/ladder/assets/corpus/held_out.parquet")["text"].str.slice(0, 3000)
    for name, part in (("text.jsonl", texts[:50]), ("held-out.jsonl", texts[50:60]), ("corpus.jsonl", texts[60:])):
        part.to_frame("text").to_json(folder / name, orient="records", lines=True)
    few = {"tokens": 2048, "batch_tokens": 512, "held_out_blocks": 2, "eval_at": [512, 1024], "learning_rate": 1e-3}
    smaller = {"models": ["tiny-llama-0.2m"], "methods": ["depth"], "rates": [0.17, 0.33], "train": few}
    here = {"family": STUDY["family"], "data": "text.jsonl", "held_out": "held-out.jsonl"}
    (folder / "study.yaml").write_text(yaml.safe_dump({**here, **smaller}))
    printed = follow("README.md", folder)
    assert len(printed) == 10
    for made in (
        "runs/tiny-llama-0.2m-depth-0.17",
        "runs/depth-0.25",
        "pruned/model.safetensors",
        "study/study.json",
        "report.html",
    ):
        assert (folder / made).exists(), made
    # what `make demo` leaves, of runs that were made before
    call(folder, "regrow import --manifest examples/logs/manifest.csv --out demo/runs")
    call(folder, "regrow fit demo --out demo/law.json")
    return folder


#: Pages, and what is there once they were followed.
FOLLOWED = [
    ("docs/index.md", ["law.json", "report.html"]),
    ("docs/import.md", ["runs/llama-1b-depth/run.json"]),
    ("docs/plan.md", ["exported.csv"]),
    ("docs/faq.md", ["sparse/regrow_prune.json"]),
    ("docs/data.md", ["seen.csv"]),
    ("docs/design.md", ["qwen-1.yaml"]),
    ("docs/report.md", ["report.html", "report.md", "report.png"]),
    ("docs/study.md", ["law.json"]),
    ("docs/pruning.md", ["plan.json", "pruned/regrow_prune.json"]),
    ("docs/training.md", ["run/DONE", "run-cooled/DONE"]),
    ("docs/forecast.md", ["run/DONE", "run-2/DONE"]),
]


@pytest.mark.timeout(900)  # follows the README first, which imports torch and starts a study's worker
def test_the_pages_can_be_followed(reader: Path, tmp_path: Path) -> None:
    # one test, as workers that share the tests out would follow the README once each
    for page, leaves in FOLLOWED:
        here = tmp_path / Path(page).stem
        shutil.copytree(reader, here)  # pages give the same names to different things
        follow(page, here)
        for name in leaves:
            assert (here / name).exists(), f"{page}: {name}"


def test_every_page_with_commands_that_run_is_followed() -> None:
    followed = {"README.md", *(page for page, _ in FOLLOWED)}
    assert {str(page.relative_to(ROOT)) for page, command in EVERY if not reason(command)} == followed

"""The table of scorers, and two new scorers that live in this file alone: an entry and a kernel each."""

import json
from dataclasses import replace

import pytest
import torch
from tiny_models import make, tokens

from regrow.arch import Architecture
from regrow.errors import InputError
from regrow.models.layout import block_weights
from regrow.models.load import load_model
from regrow.pruning import PruneSpec, outline, prune_model
from regrow.pruning.calibration import weights_fingerprint
from regrow.pruning.card import model_card
from regrow.pruning.kernel import DepthKernel, Kernel, Needs, load_kernel
from regrow.pruning.scorers import SCORERS, Scorer, find_scorer, scorers_of
from regrow.pruning.scores import DepthScores
from regrow.pruning.sparsify import SparsityKernel


class SmallestStep(DepthKernel):
    """Removes the blocks that move the hidden states least, by the norm of the step."""

    def measure(self, stream, spec, plan, tokens, *, progress=None):
        hidden, steps = stream.embed(tokens), []
        for _, block in stream.blocks():
            after = stream.run(block, hidden)
            steps.append((after - hidden).norm(dim=-1).mean())
            hidden = after
        return DepthScores(
            scorer="smallest-step",
            iterative=False,
            values=torch.stack(steps),
            loss=None,
            tokens=tokens.numel(),
            fingerprint=weights_fingerprint(stream.source),
        )

    def needs(self, arch, *, samples, length, iterative):
        return Needs(walks=2, solver=12345)


class FirstOfGroup(SparsityKernel):
    """Keeps the first N of every M weights."""

    def zero(self, weight, measured, pattern, **report):
        n, m = pattern
        weight.unflatten(-1, (-1, m))[..., n:] = 0
        return weight


STEP = Scorer(
    name="smallest-step", kind="depth", description="the step of each block", kernel=SmallestStep, scores="own"
)
FIRST = Scorer(
    name="first-of-group",
    kind="N:M",
    description="the place in its group",
    kernel=FirstOfGroup,
    reads_text=False,
    scores=None,
    on_the_way=True,
)


@pytest.fixture
def toys(monkeypatch):
    for entry in (STEP, FIRST):
        monkeypatch.setitem(SCORERS, (entry.kind, entry.name), entry)


@pytest.fixture
def regrow(monkeypatch, capsys):
    """Run `regrow ...` in this process and return what it prints on stdout."""

    def run(*arguments):
        from regrow.cli.main import main

        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["regrow", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert not end.value.code, err
        return out

    return run


def test_a_new_depth_scorer_is_used_by_the_command_line(toys, regrow, tiny_model, text, tmp_path):
    ask = ("prune", tiny_model, "--method", "depth", "--shape", "layers=2", "--scorer", "smallest-step")
    planned = json.loads(regrow(*ask, "--dry-run", "--json"))
    known = json.loads(regrow(*(*ask[:-1], "block-influence"), "--dry-run", "--json"))
    assert planned["scorer"] == "smallest-step"
    # its estimate: the states once more, and what its kernel asks for
    arch = outline_of(tiny_model).before
    assert planned["memory_bytes"] - known["memory_bytes"] == 12345 + 32 * 512 * arch.hidden * 4
    options = ("--calibration", text, "--calibration-length", "32", "--save-scores", tmp_path / "scores")
    regrow(*ask, *options, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "regrow_prune.json").read_text())
    steps = DepthScores.load(tmp_path / "scores").values
    assert record["plan"]["dropped_layers"] == [int(steps.argmin())]
    assert "chosen by the step of each block" in (tmp_path / "out" / "README.md").read_text()
    assert load_model(tmp_path / "out").config.num_hidden_layers == 2
    # the scores serve again, and only their scorer
    regrow(*ask, "--scores", tmp_path / "scores", "--out", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "regrow_prune.json").read_text())["plan"] == record["plan"]
    with pytest.raises(InputError, match="the scores hold smallest-step, the scorer is perplexity"):
        prune_model(
            load_model(tiny_model),
            PruneSpec(method="depth", shape={"layers": 2}, scorer="perplexity"),
            None,
            scores=DepthScores.load(tmp_path / "scores"),
        )


def test_a_new_sparsity_scorer_prunes_without_text(toys):
    model = make("llama-tied")
    pruned, plan = prune_model(model, PruneSpec(method="1:4", scorer="first-of-group"), None)
    before = block_weights(model)
    for name, weight in block_weights(pruned).items():
        expected = torch.where(torch.arange(weight.shape[1]) % 4 == 0, before[name], 0)
        assert torch.equal(weight, expected)
    spec = PruneSpec(method="1:4", scorer="first-of-group")
    assert "chosen by the place in its group" in model_card("model", spec, plan, None, {"torch": "2"})


def test_a_plan_by_a_new_scorer_needs_its_entry(toys, monkeypatch):
    spec = PruneSpec(method="depth", shape={"layers": 2}, scorer="smallest-step")
    _, plan = prune_model(make("llama-tied"), spec, tokens())
    monkeypatch.delitem(SCORERS, ("depth", "smallest-step"))
    with pytest.raises(InputError, match="unknown scorer for depth 'smallest-step'"):
        replace(spec, seed=1)
    with pytest.raises(InputError, match="unknown scorer for depth 'smallest-step'"):
        model_card("model", spec, plan, None, {"torch": "2"})


@pytest.mark.parametrize("entry", SCORERS.values(), ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_every_entry_has_its_kernel(entry):
    kernel = load_kernel(entry)
    assert isinstance(kernel, Kernel)
    assert kernel.entry is entry
    assert find_scorer("2:4" if entry.kind == "N:M" else entry.kind, entry.name) is entry
    # what refits or iterates reads text; a depth or width scorer that is not by chance has scores
    assert entry.reads_text or not (entry.refits or entry.iterative)
    assert entry.on_the_way == (entry.kind == "N:M")


def test_the_first_of_a_kind_is_the_default():
    for method in ("depth", "width"):
        assert PruneSpec(method=method, rate=0.2).scorer == scorers_of(method)[0].name
    assert PruneSpec(method="4:8").scorer == scorers_of("N:M")[0].name


def outline_of(folder):
    return outline(Architecture.from_pretrained(folder), PruneSpec(method="depth", shape={"layers": 2}))

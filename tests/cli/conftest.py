"""The command line in-process, and a table of runs whose law is known."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

#: the law behind the table: p2 with the exponents of a plausible family
TRUTH = {"alpha": 0.0, "beta": 0.3, "gamma": -1.4, "delta": 0.1, "N_C": 0.0, "D_C": 120.0, "E": 2.0}


def true_loss(n: float, rate: float, tokens: float, before: float) -> float:
    t = TRUTH
    return before + rate ** -t["gamma"] * n ** -t["delta"] * (t["D_C"] * tokens ** -t["beta"] + t["E"])


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def one_line_error(done: Result, *says: str) -> None:
    """Exit 2, nothing on stdout, and on stderr one line `error: ...` that says these, without a traceback."""
    assert done.code == 2
    assert done.out == ""
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.err
    for text in says:
        assert text in lines[0]


@pytest.fixture
def regrow(monkeypatch, capsys):
    """Run `regrow ...` in this process; what escapes `main` is a bug and fails the test."""

    def run(*arguments: object) -> Result:
        from regrow.cli.main import main

        capsys.readouterr()
        monkeypatch.setattr("sys.argv", ["regrow", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        return Result(int(end.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """A CSV with the contract's columns: three sizes, three rates and one control each, true up to a little noise."""
    rng = np.random.default_rng(0)
    rows = []
    for n, before in ((1e6, 3.6), (2e6, 3.4), (4e6, 3.2)):
        for rate in (0.0, 0.15, 0.25, 0.35):
            offset = 0.002 * rng.standard_normal()
            rows += [
                {
                    "run": f"{n:g}-{rate:g}",
                    "family": "sim",
                    "method": "depth" if rate else "none",
                    "params_before": n,
                    "params_after": n * (1 - rate),
                    "tokens": tokens,
                    "loss": (true_loss(n, rate, tokens, before) if rate else before)
                    * np.exp(offset + 0.001 * rng.standard_normal()),
                    "loss_before": before,
                }
                for tokens in np.geomspace(1e4, 3e5, 8).round()
            ]
    path = tmp_path_factory.mktemp("table") / "runs.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def law_file(table, tmp_path_factory) -> Path:
    from regrow import fit, read_runs, save_laws

    path = tmp_path_factory.mktemp("law") / "law.json"
    save_laws(fit(read_runs(table), draws=60), path)
    return path

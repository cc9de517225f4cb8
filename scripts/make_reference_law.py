"""The law that the package ships, from the records in studies/: `python scripts/make_reference_law.py`.

All families share one law. Families that it has not seen are drawn from its spread between those that it has, so the
intervals are as wide as families and recipes have been seen to differ.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from regrow.laws import save_laws
from regrow.laws.files import REFERENCE
from regrow.laws.pooled.fit import fit_pool, law_for, pools_of
from regrow.methods import ANY
from regrow.runs import read_runs

STUDIES = ("ladder-llama", "ladder-qwen2", "long-llama", "long-qwen2", "smollm2-2m")
DRAWS = 200
#: what the law is of, in words
RESTS_ON = (
    "the reference law rests on {runs} runs of {families} families of 0.19M to 135M parameters, trained for up to 4.2M "
    "tokens: of a larger model it says what theirs did, and the interval can't know what none of them showed"
)


def main() -> None:
    """Fit the pool and write the file."""
    root = Path(__file__).parents[1] / "studies"
    records = [r for name in STUDIES for r in read_runs(root / f"{name}.jsonl")]
    (pool,) = pools_of(records, "all", baseline="initial", skipped=[])
    fitted = fit_pool(pool.all_runs, pool.drifts)
    runs = len(pool.all_runs)
    note = RESTS_ON.format(runs=runs, families=len({r.family for r in pool.all_runs}))
    laws = []
    for method in (*dict.fromkeys(group.method for group in pool.groups), ANY):
        members = [g for g in pool.groups if method in (g.method, ANY)]
        seen = replace(members[0], family="reference", method=method)
        law = law_for(fitted, seen, baseline="initial", draws=DRAWS, seed=0, pool="all", warnings=(note,))
        ranges = dict(law.ranges)
        for name in ranges:
            ends = [g.x.only((name,)).ranges()[name] for g in members]
            ranges[name] = (min(low for low, _ in ends), max(high for _, high in ends))
        count = sum(len(g.runs) for g in members)
        points = sum(len(g) for g in members)
        laws.append(replace(law, ranges=ranges, n_runs=count, n_points=points))
    save_laws(laws, REFERENCE)
    print(f"{REFERENCE.name}: {', '.join(law.method for law in laws)} from {runs} runs")


if __name__ == "__main__":
    main()

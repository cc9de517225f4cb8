"""One step to half against two, from the records in `studies/turns/`, and what a law says of both.

    python -m benchmarks.study.stages

Trains nothing. The law is of the form regrowth, fitted to the family's runs in `studies/ladder-*` without those above a
rate of 0.4: neither one step to half nor a second stage was seen. Each stage is predicted from the loss right after its
own pruning. Losses in nats/token, read on the same 32 held-out blocks. Below each table stands what two steps bring
over one: as measured, as the law says from each measured cost, and as `regrow plan --stages` says before the second
pruning is done (from the cost of one step), and before anything is pruned.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean

from regrow.laws import Law, Setting, fit
from regrow.planning.stages import compare_stages, predicted_ends
from regrow.runs import RunRecord, read_archive

STUDIES = Path(__file__).parents[2] / "studies"
FAMILIES = ("llama", "qwen2")
#: Runs beyond this rate are not fitted.
_HIGHEST = 0.4


def laws_of(family: str) -> dict[str, Law]:
    """The laws of a family by method; the runs of all methods up to the highest rate are pooled for them."""
    runs = [run for run in read_archive(STUDIES / f"ladder-{family}.jsonl") if run.pruning_rate <= _HIGHEST]
    return {law.method: law for law in fit(runs, form="regrowth")}


def line(run: RunRecord, law: Law) -> list[str]:
    """A run as a row: what each pruning cost at once, where each stage ended, and where the law says it would."""
    stages = run.stages
    ends = predicted_ends(law, run)
    if not stages:
        costs = [f"{run.start_loss - run.loss_before:.3f}"]
        measured = [run.curve[-1].loss]
    else:
        costs = [f"{stage.damage:.3f}" for stage in stages]
        measured = [stages[1].loss_start, run.curve[-1].loss]
    return [
        "two" if stages else "one",
        " + ".join(costs),
        " then ".join(f"{loss:.3f}" for loss in measured),
        " then ".join(f"{loss:.3f}" for loss in ends),
    ]


def rows(runs: list[RunRecord], law: Law) -> tuple[list[str], str]:
    """The table of one method, and what its means and the law say of two steps less one."""
    out = ["| steps | cost at once | loss at the end of each | the law's |", "| --- | --- | --- | --- |"]
    last: dict[bool, list[float]] = defaultdict(list)
    said: dict[bool, list[float]] = defaultdict(list)
    for run in sorted(runs, key=lambda r: (bool(r.stages), r.run)):
        out.append(f"| {' | '.join(line(run, law))} |")
        last[bool(run.stages)].append(run.curve[-1].loss)
        said[bool(run.stages)].append(predicted_ends(law, run)[-1])
    one, two = mean(last[False]), mean(last[True])
    law_one, law_two = mean(said[False]), mean(said[True])
    example = next(run for run in runs if run.stages)
    start = next(run.start_loss for run in runs if not run.stages)
    said_before = []
    for known in ({"loss_pruned": start}, {}):
        at = Setting(
            params_before=float(example.params_before),
            pruning_rate=example.pruning_rate,
            loss_before=example.loss_before,
            **known,
        )
        rates, tokens = [stage.pruning_rate for stage in example.stages], float(example.curve[-1].tokens)
        found = compare_stages(law, at, rates, tokens)
        said_before.append(f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f}, 90%)")
    text = (
        f"two steps less one: measured {two - one:+.3f}; the law from each stage's measured cost "
        f"{law_two - law_one:+.3f}; before the second pruning is done {said_before[0]}; before anything is pruned "
        f"{said_before[1]}"
    )
    return out, text


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for family in FAMILIES:
        laws, by_method = laws_of(family), defaultdict[str, list[RunRecord]](list)
        for run in read_archive(STUDIES / "turns" / f"stages-{family}.jsonl"):
            by_method[run.method].append(run)
        for method, runs in sorted(by_method.items()):
            table, text = rows(runs, laws[method])
            print("\n".join([f"{family}, {method}", "", *table, "", text, ""]))


if __name__ == "__main__":
    main()

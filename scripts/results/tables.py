"""The tables of docs/results.md by name. A new table is a function here and a marker in the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from results import fits, held_out, recipes, regrowth, runs, scores, stopping, tail, terms
from results.evidence import GPU, RECIPES, SCORES, Evidence

TABLES: Mapping[str, Callable[[Evidence], Iterator[list[str]]]] = {
    "regrowth": lambda seen: regrowth.held_out_table(seen.beside),
    "few": lambda seen: regrowth.few_table(seen.base),
    "real-regrowth": lambda seen: regrowth.real_table(seen.studies[GPU]),
    "terms": lambda seen: terms.terms_table(seen.base),
    "stopping-summary": lambda seen: stopping.summary_table(seen.stops),
    "stopping": lambda seen: stopping.stops_table(seen.stops, stopping.GAINS[0]),
    "stopping-fine": lambda seen: stopping.stops_table(seen.stops, stopping.GAINS[1]),
    "tail": lambda seen: tail.tail_table(seen.base, seen.long),
    "recipes": lambda seen: recipes.recipes_table(seen.studies[RECIPES], seen.base, seen.studies[GPU]),
    "runs": runs.runs_table,
    "fits": fits.fits_table,
    "places": fits.places_table,
    "generalisation": held_out.generalisation_table,
    "forms": held_out.forms_table,
    "baselines": held_out.baselines_table,
    "losses": held_out.losses_table,
    "trends": fits.trends_table,
    "gaps": runs.gaps_table,
    "tokens": fits.tokens_table,
    "real": runs.real_table,
    "real-gpu": runs.real_gpu_table,
    "real-laws": held_out.real_laws_table,
    "distillation": runs.distillation_table,
    "scores": lambda seen: scores.scores_table(seen.studies[SCORES]),
}

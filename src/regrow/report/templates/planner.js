"use strict";
/* Laws, criteria and the search for D* in the page. The steps are those of regrow.laws and regrow.planning (forms, law,
   curves, criteria, solve, plan), so that both give the same numbers; tests hold them together to one part in a
   million. No document here: planner_ui.js binds it to the
   form. FORMS, the curves by the name of the form, comes from the forms themselves (Form.javascript). */

const FEWEST = 1, MOST = 1e18, COARSE = 8, BISECTIONS = 50, TINY = 2.2250738585072014e-308;
const GRID = Array.from({ length: 18 * 16 + 1 }, (_, i) => Math.pow(10, i / 16));
/* past a fitted range by less than this ratio still counts as inside; a range is at least this wide */
const INSIDE = 1.0005, LEAST_RANGE = 1.5;

/* Numbers that travel as base64 of little-endian arrays: exact, and a third of their text. */
function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  return new Kind(bytes.buffer);
}

/* A law as it works: its draws as rows [draws][parameters], the noise of a new run as rows [draws][n]. Numbers that
   several laws share travel once, in `arrays`. */
function ready(law, arrays) {
  const names = Object.keys(law.params), named = row => Object.fromEntries(names.map((name, i) => [name, row[i]]));
  const rows = part => {
    const column = at => part.sixDigits ? Float64Array.from(unpack(arrays[at], Float32Array), v => Number(v.toPrecision(6)))
      : unpack(arrays[at], Float64Array);
    const columns = Object.entries(part.draws).map(([i, at]) => [i, column(at)]);
    return Array.from({ length: part.count }, (_, k) => {
      const row = [...part.usual];
      for (const [i, values] of columns) row[i] = values[k];
      return named(row);
    });
  };
  const draws = rows(law), n = draws.length;
  const noise = Float64Array.from(unpack(arrays[law.noise], Int16Array), v => law.noiseScale * Math.sinh(v / 32767 * law.noiseMost));
  const each = n ? noise.length / n : 0;
  return {
    ...law,
    sizeEffects: unpack(arrays[law.sizeEffects], Float64Array),
    draws: draws,
    known: law.known.map(one => ({ size: one.size, point: named(one.point), draws: rows(one) })),
    noise: Array.from({ length: n }, (_, k) => noise.subarray(k * each, (k + 1) * each)),
  };
}

/* The page's data as it works: laws and the shapes of models unpacked. A shape is [rate asked for, rate reached, FLOPs of
   a training token]; that of the plan that the page opens with is kept exactly. */
function prepare(data) {
  data.laws = data.laws.map(law => (law.refused ? law : ready(law, data.arrays)));
  for (const model of data.models) {
    for (const [method, packed] of Object.entries(model.shapes)) model.shapes[method] = shapesOf(packed);
    if (!model.own) continue;
    const [method, rate, flops] = model.own, others = model.shapes[method] || [];
    const known = others.findIndex(shape => Math.abs(shape[1] - rate) < 1e-6);
    if (known >= 0) others.splice(known, 1, [others[known][0], rate, flops]);
    else model.shapes[method] = [...others, [rate, rate, flops]].sort((a, b) => a[1] - b[1]);
  }
  return data;
}

function shapesOf({ reached, flops, asked }) {
  const rates = unpack(reached, Float32Array), costs = unpack(flops, Float32Array);
  const wanted = asked ? Array.from({ length: asked.count }, (_, i) => Number((asked.first + i * asked.step).toFixed(6)))
    .filter((_, i) => !asked.skipped.includes(i)) : rates;
  return Array.from(rates, (rate, i) => [wanted[i], rate, costs[i]]);
}

/* A curve of loss (nats/token) against tokens, and the loss above which pruning leaves its gap. */
function falling(base, rest, size, power, shift) {
  return { base: base, loss: tokens => base + rest + size * Math.exp(-power * Math.log(tokens + shift)) };
}

function p2Curve(p, s, rate, before, shift) {
  const n = Math.log(s.params_before), scale = Math.exp(-p.gamma * Math.log(rate) - p.delta * n);
  return falling(before, scale * (p.N_C * Math.exp(-p.alpha * n) + p.E), scale * p.D_C, p.beta, shift);
}

/* The form regrowth (regrow.laws.forms.regrowth): the drift of an unpruned model, and the gap that closes above it. */
function regrowthCurve(p, s) {
  const before = s.loss_before, size = Math.log(s.params_before / 1e6), rate = Math.max(s.pruning_rate, 1e-3);
  const gap = s.loss_pruned > 0 ? Math.max(s.loss_pruned - before, 1e-3 * before)
    : Math.exp(p.gap + p.gap_rate * Math.log(rate / (1 - rate)) + p.gap_size * size);
  const seen = Math.max(gap, 0.02), b = p.exponent * Math.exp(p.exponent_gap * Math.log(seen) + p.exponent_size * size);
  const start = Math.exp(p.level + p.level_gap * (seen - 1)) * gap;
  const end = (p.end - p.end_lost * Math.log1p(-s.pruning_rate)) * before;
  const over = (value, usual) => value > 0 && usual > 0 ? Math.log(value / usual) : 0;
  const pace = p.pace * Math.exp(p.pace_rate * over(s.learning_rate, p.usual_rate)
    + p.pace_batch * over(s.batch_tokens, p.usual_batch)
    + (s.refitted >= 0 ? p.pace_refitted * (s.refitted - p.usual_refitted) : 0));
  return { base: before, loss: tokens => {
    if (tokens === 0) return before + gap;
    const left = Math.exp(-b * Math.log1p(tokens / (b * pace)));
    return before * (1 + p.drift / (1 + p.drift_tokens / tokens)) + (start - end) * left + end;
  } };
}

/* How far outside the fitted range, in widths of it, on a log scale. */
function outside(law, name, value) {
  const [low, high] = law.ranges[name];
  if (!(low > 0)) return 0;
  const ratio = Math.max(value / high, low / value);
  return ratio > INSIDE ? Math.log(Math.max(ratio, 1)) / Math.log(Math.max(high / low, LEAST_RANGE)) : 0;
}

/* The parameters for a new run of this size: its own where the fit has seen it (Law.parameters_at). */
function parametersAt(law, s) {
  return law.known.find(one => Math.abs(s.params_before - one.size) <= law.sameSize * one.size) || { point: law.params, draws: law.draws };
}

/* The fitted curve, and the curve of every draw with its random effect of the size, which is larger where the
   setting leaves the fitted sizes, rates and whatever else a study sets (Law.variance_inflation). */
function curvesOf(law, s) {
  const far = Math.hypot(1, ...law.columns.filter(c => c.designed).map(c => outside(law, c.name, s[c.name])));
  const here = parametersAt(law, s), drawn = here.draws.map((p, k) => {
    const curve = FORMS[law.form](p, s);
    if (law.sizeSpread === 0) return curve;
    const most = law.mostSizeEffect, effect = Math.min(Math.max(law.sizeSpread * law.sizeEffects[k] * far, -most), most);
    const wider = Math.exp(effect);
    return { base: curve.base, loss: tokens => curve.base + (curve.loss(tokens) - curve.base) * wider };
  });
  return { point: FORMS[law.form](here.point, s), draws: drawn };
}

/* A criterion: `on(curve)` gives what falls with tokens and the threshold at or under which it is met; `refuse` says
   why a setting has no answer; `at` is the threshold that would stop at these tokens. */
const CRITERIA = {
  gain: {
    option: "min_gain",
    on: (curve, s) => [tokens => curve.loss(tokens) - curve.loss(2 * tokens), s.min_gain],
    at: (curve, s, law, tokens) => curve.loss(tokens) - curve.loss(2 * tokens),
    because: s => `doubling the tokens buys less than ${general(s.min_gain)} nats`,
  },
  slope: {
    option: "max_slope",
    on: (curve, s) => [tokens => slopeAt(curve, tokens), s.max_slope],
    at: (curve, s, law, tokens) => slopeAt(curve, tokens),
    because: s => `a million more tokens buy less than ${general(s.max_slope)} nats`,
  },
  recovery: {
    option: "share",
    on: (curve, s, law) => {
      const floor = curve.loss(Infinity), gap = startOf(curve, s, law) - floor;
      return [tokens => (gap > 0 ? (curve.loss(tokens) - floor) / gap : Infinity), 1 - s.share];
    },
    at: (curve, s, law, tokens) => {
      const floor = curve.loss(Infinity);
      return 1 - (curve.loss(tokens) - floor) / (startOf(curve, s, law) - floor);
    },
    refuse: (curve, s, law) => {
      const floor = curve.loss(Infinity);
      if (s.loss_pruned === null)
        return law.ranges.tokens[0] > 0 ? "" :
          "The law does not say from how many tokens on it was fitted: give the loss right after pruning.";
      return s.loss_pruned > floor ? "" : `The loss after pruning, ${general(s.loss_pruned)}, is not above the law's ` +
        `floor, ${floor.toFixed(4)}: there is nothing to recover. Check both losses.`;
    },
    because: (s, law) => {
      const start = s.loss_pruned !== null ? `the loss after pruning, ${general(s.loss_pruned)}` :
        `the law's loss at the fewest tokens fitted, ${short(law.ranges.tokens[0])}`;
      return `${Math.round(100 * s.share)}% of the gap from ${start}, to the law's floor is closed`;
    },
  },
  target: {
    option: "target",
    on: (curve, s) => {
      const floor = curve.loss(Infinity);
      return [tokens => curve.loss(tokens) - floor, s.target - floor];
    },
    at: (curve, s, law, tokens) => curve.loss(tokens),
    refuse: (curve, s) => {
      const floor = curve.loss(Infinity);
      return s.target - floor > 0 ? "" : `A loss of ${general(s.target)} is unreachable: however many tokens, the ` +
        `law's floor here is ${floor.toFixed(4)} nats. Ask for more than the floor, prune less, or start from a ` +
        "larger model.";
    },
    because: s => `the loss is at most ${general(s.target)} nats`,
  },
  budget: { option: "budget_hours", because: s => `the budget of ${short(s.budget_hours)} GPU-hours is spent` },
};

/* -dL/dD in nats per million tokens, by a central difference in log D. */
function slopeAt(curve, tokens) {
  const step = 1e-3;
  return (curve.loss(tokens * Math.exp(-step)) - curve.loss(tokens * Math.exp(step))) / (2 * step * tokens) * 1e6;
}

/* The loss at which the recoverable gap begins. */
function startOf(curve, s, law) {
  return s.loss_pruned !== null ? s.loss_pruned : curve.loss(law.ranges.tokens[0]);
}

/* Index of the last of `at` on the grid where the measure is above the threshold; -1 where there is none. */
function lastUnmet(at, measure, threshold) {
  let last = at.length - 1;
  while (last >= 0 && measure(GRID[at[last]]) <= threshold) last--;
  return last;
}

/* D* of every curve, the fitted one first: the fewest tokens from which on the criterion stays met. FEWEST where it is
   met already there, Infinity where it is never. A coarse look brackets the last crossing; draws are read off the grid,
   the fitted law is bisected. */
function optimalTokens(criterion, curves, s, law) {
  const rows = [curves.point, ...curves.draws].map(curve => criterion.on(curve, s, law));
  const coarse = GRID.map((_, i) => i).filter(i => i % COARSE === 0);
  const last = rows.map(([measure, threshold]) => lastUnmet(coarse, measure, threshold));
  const crosses = last.map(i => i >= 0 && i < coarse.length - 1);
  const inner = last.filter((_, k) => crosses[k]);
  const from = COARSE * Math.min(...inner), to = COARSE * (Math.max(...inner) + 1);
  const fine = inner.length ? Array.from({ length: to - from + 1 }, (_, i) => from + i) : [];
  const found = rows.map(([measure, threshold], k) =>
    crosses[k] ? crossing(fine, measure, threshold) : last[k] < 0 ? FEWEST : Infinity);
  if (crosses[0]) found[0] = bisect(...rows[0], found[0]);
  return found;
}

/* The last crossing on a part of the grid, log-log between its points. */
function crossing(at, measure, threshold) {
  const last = lastUnmet(at, measure, threshold);
  if (last < 0) return GRID[at[0]];
  if (last === at.length - 1) return Infinity;
  const low = GRID[at[last]], high = GRID[at[last + 1]];
  const above = Math.log(Math.max(measure(low), TINY)), below = Math.log(Math.max(measure(high), TINY));
  const share = Math.min(Math.max((above - Math.log(Math.max(threshold, TINY))) / (above - below), 0), 1);
  return Math.exp(Math.log(low) + share * (Math.log(high) - Math.log(low)));
}

function bisect(measure, threshold, guess) {
  const right = Math.max(GRID.findIndex(tokens => tokens >= guess), 1);
  let low = Math.log(GRID[right - 1]), high = Math.log(GRID[right]);
  for (let i = 0; i < BISECTIONS; i++) {
    const middle = (low + high) / 2;
    if (measure(Math.exp(middle)) <= threshold) high = middle; else low = middle;
  }
  return Math.exp(high);
}

/* The smallest value that at least a share q of the values does not exceed: an order statistic, as one may be
   infinite. */
function quantile(values, q) {
  const sorted = Float64Array.from(values).sort(), at = values.length * q - 1, low = Math.floor(at);
  return sorted[Math.min(Math.max(at === low ? low : low + 1, 0), values.length - 1)];
}

/* Ends of the interval of the loss of a new run, or (`every` > 1) of a thinner sample of its noise, for drawing. */
function lossInterval(law, curves, tokens, level, every) {
  const all = [];
  curves.draws.forEach((curve, k) => {
    const log = Math.log(Math.max(curve.loss(tokens), 1e-12));
    for (let j = 0; j < law.noise[k].length; j += every) all.push(log + law.noise[k][j]);
  });
  if (!all.length || all.some(Number.isNaN)) return [null, null];
  const sorted = Float64Array.from(all).sort(), point = curves.point.loss(tokens);
  const read = q => {
    const at = (sorted.length - 1) * q, low = Math.floor(at), high = Math.min(low + 1, sorted.length - 1);
    return Math.exp(sorted[low] + (at - low) * (sorted[high] - sorted[low]));
  };
  return [Math.min(read((1 - level) / 2), point), Math.max(read(1 - (1 - level) / 2), point)];
}

/* Inputs outside the fitted data, by what factor. */
function extrapolates(law, s, tokens) {
  const out = {};
  for (const { name } of law.columns) {
    const [low, high] = law.ranges[name], value = name === "tokens" ? tokens : s[name];
    if (!Number.isFinite(value)) continue;
    if (value > high * INSIDE) out[name] = high > 0 ? value / high : Infinity;
    else if (value * INSIDE < low) out[name] = low / value;
  }
  return out;
}

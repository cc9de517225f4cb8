"use strict";
/* The p2 family of laws in the page. The steps are those of regrow.planning (curves, criteria, solve), so that both
   give the same numbers; tests hold them together to one part in a million. */

const FEWEST = 1, MOST = 1e16, PER_DECADE = 16;
const GRID = Array.from({ length: 16 * PER_DECADE + 1 }, (_, i) => Math.pow(10, i / PER_DECADE));

/* L(N0, rho, D, L0) in nats per token; p holds the parameters of the law in natural units. */
function lossAt(form, p, s, tokens) {
  const rate = form === "p2_odds" ? s.pruning_rate / (1 - s.pruning_rate) : s.pruning_rate;
  const before = form === "p2_counts" ? p.E0 + p.A * Math.pow(s.params_before, -p.a) : s.loss_before;
  const seen = form === "p2_shifted" ? tokens + p.D_s : tokens;
  const scale = Math.pow(rate, -p.gamma) * Math.pow(s.params_before, -p.delta);
  return before + scale * (p.N_C * Math.pow(s.params_before, -p.alpha) + p.D_C * Math.pow(seen, -p.beta) + p.E);
}

function gainAt(form, p, s, tokens) {
  return lossAt(form, p, s, tokens) - lossAt(form, p, s, 2 * tokens);
}

/* D*: the fewest tokens from which on the gain of a doubling stays at or under minGain. Infinity if never. */
function optimalTokens(form, p, s, minGain, exact) {
  const met = i => gainAt(form, p, s, GRID[i]) <= minGain;
  let last = GRID.length - 1;
  if (!met(last)) return Infinity;
  while (last >= 0 && met(last)) last--;
  if (last < 0) return FEWEST;
  let low = Math.log(GRID[last]), high = Math.log(GRID[last + 1]);
  if (!exact) {
    const above = Math.log(gainAt(form, p, s, GRID[last]));
    const below = Math.log(Math.max(gainAt(form, p, s, GRID[last + 1]), 1e-300));
    return Math.exp(low + Math.min(Math.max((above - Math.log(minGain)) / (above - below), 0), 1) * (high - low));
  }
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (gainAt(form, p, s, Math.exp(middle)) <= minGain) high = middle; else low = middle;
  }
  return Math.exp(high);
}

/* The smallest value that at least a share q of the values does not exceed. */
function quantile(values, q) {
  const sorted = [...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return sorted[Math.min(Math.max(Math.ceil(q * sorted.length - 1e-9) - 1, 0), sorted.length - 1)];
}

/* Everything the page says about one setting. */
function planFor(data, s) {
  const law = data.laws[s.law], names = Object.keys(law.params), form = law.form;
  const gpu = data.gpus.find(g => g.name === s.gpu);
  const tokens = optimalTokens(form, law.params, s, s.min_gain, true);
  const drawn = law.draws.map(row => {
    const p = {};
    names.forEach((name, i) => { p[name] = row[i]; });
    return optimalTokens(form, p, s, s.min_gain, false);
  });
  const kept = law.masked ? 1 : 1 - s.pruning_rate;
  const flops = tokens * 6 * s.params_before * kept;
  const hours = flops / (gpu.peak * s.mfu) / 3600;
  return {
    tokens: tokens,
    tokens_low: drawn.length ? quantile(drawn, 0.05) : null,
    tokens_high: drawn.length ? quantile(drawn, 0.95) : null,
    loss: lossAt(form, law.params, s, tokens),
    floor: lossAt(form, law.params, s, Infinity),
    flops: flops,
    gpu_hours: hours,
    cost_usd: s.price === null || Number.isNaN(s.price) ? null : hours * s.price,
    trial_loss: s.trial > 0 ? lossAt(form, law.params, s, s.trial) : null,
    trial_gain: s.trial > 0 ? gainAt(form, law.params, s, s.trial) : null,
    extrapolates: extrapolates(law, s, tokens),
  };
}

/* Inputs outside the fitted data, by what factor. */
function extrapolates(law, s, tokens) {
  const out = {};
  for (const [name, [low, high]] of Object.entries(law.ranges)) {
    const value = name === "tokens" ? tokens : s[name];
    if ((name === "loss_before" && !law.usesLoss) || !Number.isFinite(value)) continue;
    if (value > high * 1.0005) out[name] = value / high;
    else if (value * 1.0005 < low) out[name] = low / value;
  }
  return out;
}

function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "not known";
  if (!Number.isFinite(value)) return "unbounded";
  for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]])
    if (Math.abs(value) >= 0.9995 * size) return Number((value / size).toPrecision(3)) + unit;
  return String(Number(value.toPrecision(3)));
}

function gpuTime(hours) {
  return hours >= 0.01 ? short(hours) + " GPU-hours" : Number((hours * 3600).toPrecision(2)) + " GPU-seconds";
}

function usd(cost) {
  return cost >= 0.01 || cost === 0 ? short(cost) + " USD" : "under 0.01 USD";
}

function parseCount(text) {
  const found = /^\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmbgt]?)\s*$/i.exec(text);
  if (!found) return NaN;
  return Number(found[1]) * { "": 1, k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12 }[found[2].toLowerCase()];
}

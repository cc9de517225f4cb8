"use strict";
/* One setting in, the answer out: what regrow.planning.plan says, or why it refuses; and how numbers are written. */

const UNSUPPORTED_BEYOND = 1.1;

/* The shape that pruning leaves of a named model: its rate and FLOPs. A shape is [rate asked for, rate reached, FLOPs of
   a training token without attention, the same per token of context]; null where no model is named. */
function shapeOf(data, law, s) {
  const model = data.models.find(m => m.name === s.model);
  if (!model) return null;
  const shapes = model.shapes[law.method];
  if (!shapes) {
    const dense = model.flops[0] + model.flops[1] * data.context;
    return { rate: s.pruning_rate, flops: dense * (1 - s.pruning_rate), how: "exact for the unpruned shape, scaled by the share kept" };
  }
  const far = shape => Math.abs(shape[0] - s.pruning_rate);
  const nearest = law.masked ? shapes[0] : shapes.reduce((a, b) => (far(b) < far(a) ? b : a));
  const missed = !law.masked && far(nearest) > (law.method === "depth" ? model.half_block : data.width_step / 2) * (1 + 1e-6);
  return { rate: nearest[1], flops: nearest[2] + nearest[3] * data.context, missed: missed,
    from: shapes[0][0], to: shapes[shapes.length - 1][0],
    how: `exact for the pruned shape${law.masked ? ", zeros included" : ""}` };
}

/* Everything the page says about one setting; `refused` says why there is no answer. */
function planFor(data, asked) {
  const law = data.laws[asked.law];
  if (law.refused) return { refused: law.refused };
  const shape = shapeOf(data, law, asked);
  if (shape && shape.missed) return { refused: `No shape of ${asked.model} reaches a rate of ${general(asked.pruning_rate)} ` +
    `by ${law.method}: try ${general(shape.from)} to ${general(shape.to)}.` };
  const s = shape ? { ...asked, pruning_rate: shape.rate } : asked;
  const refused = unsupported(law, s);
  if (refused) return { refused: refused };
  const gpu = data.gpus.find(g => g.name === s.gpu), criterion = CRITERIA[s.criterion];
  const perToken = shape ? shape.flops : 6 * s.params_before * (law.masked ? 1 : 1 - s.pruning_rate);
  const curves = curvesOf(law, s);
  let tokens, drawn = [];
  if (s.criterion === "budget") {
    tokens = s.budget_hours * 3600 * gpu.peak * s.mfu / perToken;
    if (tokens < FEWEST) return { refused: "The budget pays for less than one token." };
  } else {
    const why = criterion.refuse ? criterion.refuse(curves.point, s, law) : "";
    if (why) return { refused: why };
    [tokens, ...drawn] = optimalTokens(criterion, curves, s, law);
  }
  const reason = beyondSupport(data, law, s, tokens);
  if (reason) return { refused: reason };
  const known = Number.isFinite(tokens), tail = (1 - data.level) / 2;
  const [lossLow, lossHigh] = known ? lossInterval(law, curves, tokens, data.level, 1) : [null, null];
  const flops = known ? tokens * perToken : null, hours = known ? flops / (gpu.peak * s.mfu) / 3600 : null;
  const gain = d => curves.point.loss(d) - curves.point.loss(2 * d);
  return {
    refused: "",
    tokens: known ? tokens : null,
    tokens_low: s.criterion === "budget" ? tokens : drawn.length ? within(law, quantile(drawn, tail)) : null,
    tokens_high: s.criterion === "budget" ? tokens : drawn.length ? within(law, quantile(drawn, (1 + data.level) / 2)) : null,
    never: drawn.length ? drawn.filter(d => d === Infinity).length / drawn.length : 0,
    because: criterion.because(s, law),
    loss: known ? curves.point.loss(tokens) : null,
    loss_low: lossLow,
    loss_high: lossHigh,
    next_doubling_gain: known ? gain(tokens) : null,
    floor: finite(curves.point.loss(Infinity)),
    flops: flops,
    flops_how: shape ? `${shape.how}, context ${data.context}` : law.masked ? "6 per parameter, zeros included" : "6 per kept parameter",
    gpu_hours: hours,
    cost_usd: s.price === null || hours === null ? null : hours * s.price,
    trial_loss: s.trial > 0 ? curves.point.loss(s.trial) : null,
    trial_gain: s.trial > 0 ? gain(s.trial) : null,
    pruning_rate: s.pruning_rate,
    extrapolates: extrapolates(law, s, known ? tokens : law.ranges.tokens[0]),
    curves: curves,
  };
}

/* Why the law's runs support no number of tokens here (regrow.planning.support); empty where they do. */
function beyondSupport(data, law, s, tokens) {
  const beyond = extrapolates(law, s, Number.isFinite(tokens) ? tokens : law.ranges.tokens[0]);
  for (const { name, spoken, designed, count } of law.columns) {
    if (!designed || !(beyond[name] > data.mostTimesDesigned)) continue;
    const [low, high] = law.ranges[name].map(count ? short : v => String(Number(v.toPrecision(3))));
    return `The ${spoken} is ${Number(beyond[name].toPrecision(3)).toLocaleString("en")} times outside what was fitted ` +
      `(${low} to ${high}), and answers are given up to ${data.mostTimesDesigned} times.`;
  }
  if (tokens < law.firstTokens)
    return `Less than ${short(law.firstTokens)} tokens, the first reading of the fitted runs.`;
  if (Number.isFinite(tokens) && tokens > law.mostTokens)
    return `More than ${short(law.mostTokens)} tokens: that is ${data.mostTimesTokens} times the longest fitted run ` +
      `(${short(law.ranges.tokens[1])}), and the law is not trusted beyond.`;
  return "";
}

/* An end of the interval, null where the runs don't support it. */
function within(law, tokens) {
  return tokens >= law.firstTokens && tokens <= law.mostTokens ? tokens : null;
}

/* Why the law cannot speak of a setting at all: its runs show one value of an input, and the setting leaves it. */
function unsupported(law, s) {
  const beyond = extrapolates(law, s, law.ranges.tokens[0]);
  for (const { name, spoken, count } of law.columns) {
    if (!(name in law.unsupported && beyond[name] > UNSUPPORTED_BEYOND)) continue;
    const [wanted, fitted] = [s[name], law.ranges[name][1]].map(count ? short : general);
    return `The law can't say what happens at a ${spoken} of ${wanted}: ${law.unsupported[name]}. A run at another ` +
      `${spoken} than ${fitted}, best between it and ${wanted}, would support it.`;
  }
  return "";
}

/* The threshold of a criterion that would stop at these tokens, to begin from; null where there is none. */
function thresholdAt(data, s, name, tokens) {
  const law = data.laws[s.law], shape = law.refused ? null : shapeOf(data, law, s);
  if (law.refused || !(tokens >= FEWEST && tokens < MOST)) return null;
  const at = shape ? { ...s, pruning_rate: shape.rate } : s;
  if (name === "budget") {
    const gpu = data.gpus.find(g => g.name === s.gpu);
    const perToken = shape ? shape.flops : 6 * s.params_before * (law.masked ? 1 : 1 - s.pruning_rate);
    return tokens * perToken / (gpu.peak * s.mfu) / 3600;
  }
  const value = CRITERIA[name].at(FORMS[law.form](law.params, at), at, law, tokens);
  return value > 0 && Number.isFinite(value) ? value : null;
}

function finite(value) {
  return Number.isFinite(value) ? value : null;
}

/* A count with a suffix, three digits. */
function short(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "not known";
  if (!Number.isFinite(value)) return "unbounded";
  for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]])
    if (Math.abs(value) >= 0.9995 * size) return Number((value / size).toPrecision(3)) + unit;
  return String(Number(value.toPrecision(3)));
}

/* A number with at most six digits, as Python's format "g" writes it. */
function general(value) {
  const exponent = value === 0 ? 0 : Math.floor(Math.log10(Math.abs(Number(value.toPrecision(6)))));
  if (exponent >= -4 && exponent < 6) return String(Number(value.toPrecision(6)));
  const [digits, power] = value.toExponential(5).split("e");
  return `${Number(digits)}e${power[0]}${power.slice(1).padStart(2, "0")}`;
}

function gpuTime(hours) {
  return hours >= 0.01 ? short(hours) + " GPU-hours" : Number((hours * 3600).toPrecision(2)) + " GPU-seconds";
}

function usd(cost) {
  return cost >= 0.01 || cost === 0 ? short(cost) + " USD" : "under 0.01 USD";
}

/* 8B, 350M, 1e9 as a number; NaN for anything else. */
function parseCount(text) {
  const found = /^\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmbgt]?)\s*$/i.exec(text);
  if (!found) return NaN;
  return Number(found[1]) * { "": 1, k: 1e3, m: 1e6, b: 1e9, g: 1e9, t: 1e12 }[found[2].toLowerCase()];
}

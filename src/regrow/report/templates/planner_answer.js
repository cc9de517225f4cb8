"use strict";
/* One setting in, the answer out: what regrow.planning.plan says, or why it refuses; and how numbers are written. */

const UNSUPPORTED_BEYOND = 1.1;

/* The shape that pruning leaves of a named model: its rate and FLOPs. A shape is [rate asked for, rate reached, FLOPs of
   a training token]; null where no model is named. */
function shapeOf(data, law, s) {
  const model = data.models.find(m => m.name === s.model);
  if (!model) return null;
  const shapes = model.shapes[law.method];
  if (!shapes) {
    const kept = law.masked ? 1 : 1 - s.pruning_rate;
    return { rate: s.pruning_rate, flops: model.flops * kept, how: "exact for the unpruned shape, scaled by the share kept" };
  }
  const far = shape => Math.abs(shape[0] - s.pruning_rate);
  const nearest = law.masked ? shapes[0] : shapes.find(shape => shape[1] === s.pruning_rate) ||
    shapes.reduce((a, b) => (far(b) < far(a) ? b : a));
  const reached = law.masked || nearest[1] === s.pruning_rate;
  const missed = !reached && far(nearest) > (law.method === "depth" ? model.half_block : data.width_step / 2) * (1 + 1e-6);
  return { rate: nearest[1], flops: nearest[2], missed: missed,
    from: shapes[0][0], to: shapes[shapes.length - 1][0],
    how: `exact for the pruned shape${law.masked ? ", zeros included" : ""}` };
}

/* FLOPs of a training token, and how they were counted. */
function flopsOf(data, law, s, shape) {
  const counted = shape ? shape.flops : 6 * s.params_before * (law.masked ? 1 : 1 - s.pruning_rate);
  const how = shape ? `${shape.how}, context ${data.context}` : law.masked ? "6 per parameter, zeros included" : "6 per kept parameter";
  return { perToken: counted + data.teacher, how: data.teacher > 0 ? how + ", and the teacher's forward pass" : how };
}

/* Everything the page says about one setting; `refused` says why there is no answer, `reason` why the runs support no
   number of tokens, as in regrow.planning.plan. */
function planFor(data, asked) {
  const law = data.laws[asked.law];
  if (law.refused) return { refused: law.refused };
  const shape = shapeOf(data, law, asked);
  if (shape && shape.missed) return { refused: `No shape of ${asked.model} reaches a rate of ${general(asked.pruning_rate)} ` +
    `by ${law.method}: try ${general(shape.from)} to ${general(shape.to)}.` };
  const s = shape ? { ...asked, pruning_rate: shape.rate } : asked;
  const refused = unsupported(law, s);
  if (refused) return { refused: refused };
  const gpu = data.gpus.find(g => g.name === s.gpu), criterion = CRITERIA[s.criterion], fixed = s.criterion === "budget";
  const { perToken, how } = flopsOf(data, law, s, shape), curves = curvesOf(law, s);
  let solved, drawn = [];
  if (fixed) {
    solved = s.budget_hours * 3600 * gpu.peak * s.mfu / perToken;
    if (solved < FEWEST) return { refused: "The budget pays for less than one token." };
  } else {
    const why = criterion.refuse ? criterion.refuse(curves.point, s, law) : "";
    if (why) return { refused: why };
    [solved, ...drawn] = optimalTokens(criterion, curves, s, law);
  }
  const far = tooFar(data, law, s, solved), reason = far || outsideRuns(data, law, solved);
  const tokens = finite(reason && !fixed ? Infinity : solved), known = tokens !== null && !reason;
  const tail = (1 - data.level) / 2, ends = drawn.length ? [quantile(drawn, tail), quantile(drawn, (1 + data.level) / 2)] : [];
  const [low, high] = fixed ? [tokens, tokens] : far || !ends.length ? [null, null] : ends.map(end => within(law, end));
  const [lossLow, lossHigh] = known ? lossInterval(law, curves, tokens, data.level, 1) : [null, null];
  const flops = tokens === null ? null : tokens * perToken, hours = flops === null ? null : flops / (gpu.peak * s.mfu) / 3600;
  const gain = d => curves.point.loss(d) - curves.point.loss(2 * d);
  const beyond = extrapolates(law, s, tokens === null ? law.ranges.tokens[0] : tokens);
  const width = fixed ? (law.draws.length ? 1 : null) : widthOf(law, ends);
  const whyNot = reason || (solved === Infinity ? "the criterion is never met" : "");
  const [verdict, why] = verdictOf(data.verdict, law, whyNot, width, beyond);
  return {
    refused: "", reason: reason, tooFar: far !== "", verdict: verdict, verdict_because: why,
    tokens: tokens, tokens_low: low, tokens_high: high,
    never: drawn.length ? drawn.filter(d => d === Infinity).length / drawn.length : 0,
    because: criterion.because(s, law),
    loss: known ? curves.point.loss(tokens) : null,
    loss_low: lossLow,
    loss_high: lossHigh,
    gap: known ? curves.point.loss(tokens) - s.loss_before : null,
    next_doubling_gain: known ? gain(tokens) : null,
    floor: far ? null : finite(curves.point.loss(Infinity)),
    flops: flops,
    flops_how: how,
    gpu_hours: hours,
    cost_usd: s.price === null || hours === null ? null : hours * s.price,
    trial_loss: s.trial > 0 && !far ? curves.point.loss(s.trial) : null,
    trial_gain: s.trial > 0 && !far ? gain(s.trial) : null,
    pruning_rate: s.pruning_rate,
    params_after: s.params_before * (1 - s.pruning_rate),
    extrapolates: beyond,
    curves: curves,
  };
}

/* Why the setting lies too far outside the fitted runs (regrow.planning.support.too_far); empty where it does not. */
function tooFar(data, law, s, tokens) {
  const beyond = extrapolates(law, s, Number.isFinite(tokens) ? tokens : law.ranges.tokens[0]);
  for (const { name, spoken, designed, count } of law.columns) {
    if (!designed || !(beyond[name] > data.mostTimesDesigned)) continue;
    const [low, high] = law.ranges[name].map(count ? short : v => String(Number(v.toPrecision(3))));
    const times = Number.isFinite(beyond[name]) ? factor(beyond[name]) : "without limit";
    return `the ${spoken} is ${times} times outside what was fitted (${low} to ${high}), and answers are given up to ` +
      `${data.mostTimesDesigned} times`;
  }
  return "";
}

/* Why the fitted runs support no number of tokens here (regrow.planning.support.Support); empty where they do. */
function outsideRuns(data, law, tokens) {
  if (tokens < law.firstTokens) return `less than ${short(law.firstTokens)} tokens, the first reading of the fitted runs`;
  if (Number.isFinite(tokens) && tokens > law.mostTokens)
    return `more than ${short(law.mostTokens)} tokens: that is ${data.mostTimesTokens} times the longest fitted run ` +
      `(${short(law.ranges.tokens[1])}), and the law is not trusted beyond`;
  return "";
}

/* Upper over lower end of the interval of D*; what lies below the first reading is all the same. */
function widthOf(law, ends) {
  if (!ends.length) return null;
  const [low, high] = ends;
  return Number.isFinite(low) ? Math.max(high / Math.max(low, law.firstTokens), 1) : Infinity;
}

/* How far an answer can be trusted, and why (regrow.planning.verdict). */
function verdictOf(limits, law, whyNot, width, beyond) {
  if (whyNot) return ["cannot say", whyNot];
  if (width === null) return ["cannot say", "the law has no bootstrap draws, so nothing says how far off it may be"];
  const wide = `the interval of the tokens ${width === Infinity ? "is open at an end" : `spans a factor of ${factor(width)}`}`;
  if (width > limits.roughWidth) return ["cannot say", wide];
  const [name, times] = Object.entries(beyond).reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0]);
  if (times > limits.times)
    return ["rough", `the ${law.columns.find(c => c.name === name).spoken} is ${factor(times)} times outside the fitted range`];
  if (width > limits.width) return ["rough", wide];
  if (law.status !== "ok") return ["rough", `the law's fit is ${law.status}`];
  if (law.heldOut === null) return ["rough", "its error on held-out runs is not known (`regrow validate` tells it)"];
  const off = `${(100 * law.heldOut).toFixed(2)}% of the loss`;
  if (law.heldOut > limits.error) return ["rough", `on held-out runs the law is off by ${off}`];
  return ["trust", `inside the fitted range, and off by ${off} on held-out runs`];
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
    return tokens * flopsOf(data, law, s, shape).perToken / (gpu.peak * s.mfu) / 3600;
  }
  const value = CRITERIA[name].at(FORMS[law.form](parametersAt(law, at).point, at), at, law, tokens);
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

/* A ratio above 1 with a thousands separator, and as many digits as tell it from 1. */
function factor(ratio) {
  return Number(ratio.toPrecision(ratio >= 1.01 ? 3 : 4)).toLocaleString("en");
}

function perplexity(loss) {
  const value = Math.exp(Math.min(loss, 700));
  return value < 1e6 ? String(Number(value.toPrecision(3))) : "over 1e+06";
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

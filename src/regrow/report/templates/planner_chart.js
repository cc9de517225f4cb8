"use strict";
/* The planner's chart: the curve at one setting with its band, the tokens that were fitted, the floor, D* with its
   interval, and the what-if. */

const CHART_POINTS = 48, CHART_NOISE = 8;
const BOX = { width: 440, height: 260, left: 50, right: 426, top: 16, bottom: 220 };

/* Round values inside [low, high], about n of them. */
function niceTicks(low, high, n) {
  const rough = (high - low) / n, power = Math.pow(10, Math.floor(Math.log10(rough)));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(m => m >= rough * (1 - 1e-9));
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(last - first + 1, 0) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/* Tokens worth looking at: D* and the what-if with room on both sides, or the fitted tokens where there is no D*. */
function span(law, s, r) {
  const around = [r.tokens, s.trial > 0 ? s.trial : null].filter(d => d !== null && d > 1);
  if (!around.length) around.push(Math.max(law.ranges.tokens[0], 1), law.ranges.tokens[1]);
  return [Math.max(Math.min(...around) / 100, 1), Math.min(Math.max(...around) * 20, 1e17)];
}

function drawChart(svg, data, s, r) {
  const law = data.laws[s.law], curves = r.curves;
  const { height, left, right, top, bottom } = BOX;
  const [low, high] = span(law, s, r);
  const at = Array.from({ length: CHART_POINTS }, (_, i) => low * Math.pow(high / low, i / (CHART_POINTS - 1)));
  const losses = at.map(curves.point.loss);
  const ends = curves.draws.length ? at.map(d => lossInterval(law, curves, d, data.level, CHART_NOISE)) : [];
  const shown = [...losses, ...(r.floor === null ? [] : [r.floor])].filter(Number.isFinite);
  const least = Math.min(...shown), most = Math.max(...shown), room = (most - least || 1) * 0.06;
  /* a band that is wide against the curve is cut, so that the curve stays readable */
  const band = ends.filter(e => e[0] !== null).flat(), cut = 0.3 * (most - least || 1);
  const floor = Math.max(Math.min(least, ...band), least - cut) - room;
  const roof = Math.min(Math.max(most, ...band), most + cut) + room;
  const x = d => left + Math.log(d / low) / Math.log(high / low) * (right - left);
  const y = l => bottom - (Math.min(Math.max(l, floor), roof) - floor) / (roof - floor) * (bottom - top);
  const xy = (d, l) => `${x(d).toFixed(1)} ${y(l).toFixed(1)}`;
  const parts = [], fitted = law.ranges.tokens.map(d => x(Math.min(Math.max(d, low), high)));
  if (fitted[1] - fitted[0] > 1)
    parts.push(`<rect class="fitted-area" x="${fitted[0].toFixed(1)}" y="${top}" width="${(fitted[1] - fitted[0]).toFixed(1)}" height="${bottom - top}"/>`);
  for (const l of niceTicks(floor, roof, 4))
    parts.push(`<path class="gridline" d="M${left} ${y(l).toFixed(1)}H${right}"/><text x="${left - 6}" y="${(y(l) + 3.5).toFixed(1)}" text-anchor="end">${l}</text>`);
  const decades = Math.log10(high / low), every = Math.ceil(decades / 6);
  for (let p = Math.ceil(Math.log10(low)); p <= Math.floor(Math.log10(high)); p += every)
    parts.push(`<path class="tick" d="M${x(10 ** p).toFixed(1)} ${bottom}v4"/><text x="${x(10 ** p).toFixed(1)}" y="${bottom + 16}" text-anchor="middle">${short(10 ** p)}</text>`);
  parts.push(`<path class="frame" d="M${left} ${bottom}H${right}"/>`);
  parts.push(`<text class="label" x="${(left + right) / 2}" y="${height - 5}" text-anchor="middle">post-training tokens</text>`);
  parts.push(`<text class="label" x="${left - 6}" y="9" text-anchor="end">loss</text>`);
  if (band.length) {
    const good = at.map((d, i) => [d, ...ends[i]]).filter(e => e[1] !== null);
    parts.push(`<path class="band c0" d="M${[...good.map(e => xy(e[0], e[2])), ...good.reverse().map(e => xy(e[0], e[1]))].join("L")}Z"/>`);
  }
  if (r.floor !== null && r.floor >= floor)
    parts.push(`<path class="rule" d="M${left} ${y(r.floor).toFixed(1)}H${right}"/><text class="rule-label" x="${left + 4}" y="${(y(r.floor) - 4).toFixed(1)}">floor</text>`);
  const finiteAt = at.map((d, i) => [d, losses[i]]).filter(p => Number.isFinite(p[1]));
  parts.push(`<path class="line c0" d="M${finiteAt.map(p => xy(...p)).join("L")}"/>`);
  if (r.tokens !== null && (r.tokens_low !== null || r.tokens_high !== null) && s.criterion !== "budget") {
    const [from, to] = [r.tokens_low === null ? low : r.tokens_low, r.tokens_high === null ? high : r.tokens_high].map(d => x(Math.min(Math.max(d, low), high)));
    parts.push(`<path class="interval c1" d="M${from.toFixed(1)} ${bottom}H${to.toFixed(1)}"/>`);
  }
  const mark = (d, l, css, name, shape, below) => {
    if (!(d >= low && d <= high)) return;
    const cx = x(d), cy = y(l), end = cx > (left + right) / 2;
    parts.push(`<path class="drop ${css}" d="M${cx.toFixed(1)} ${bottom}V${cy.toFixed(1)}"/><path class="mark ${css}" d="${shape(cx, cy)}"/>` +
      `<text class="mark-label" x="${(cx + (end ? -2 : 2)).toFixed(1)}" y="${(cy + (below ? 20 : -10)).toFixed(1)}" text-anchor="${end ? "end" : "start"}">${name}</text>`);
  };
  /* of two marks that stand close, one is labelled above and one below */
  const close = r.tokens !== null && s.trial > 0 && Math.abs(x(r.tokens) - x(s.trial)) < 60;
  if (r.trial_loss !== null) mark(s.trial, r.trial_loss, "c3", "what if", (cx, cy) => `M${cx} ${cy - 6}l6 6l-6 6l-6 -6Z`, close);
  if (r.loss !== null) mark(r.tokens, r.loss, "c1", "D*", (cx, cy) => `M${cx - 5} ${cy}a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z`);
  svg.querySelector("g").innerHTML = parts.join("");
  svg.tokensAt = share => low * Math.pow(high / low, Math.min(Math.max((share * BOX.width - left) / (right - left), 0), 1));
}

"use strict";
/* Binds the planner's form to planFor, draws its curve, and keeps the setting in the page's address so that a link
   carries it. */

(function () {
  const data = JSON.parse(document.getElementById("planner-data").textContent);
  const form = document.getElementById("planner-form");
  if (!data || !form) return;
  const field = name => form.elements[name];
  const out = name => form.querySelector(`[data-out="${name}"]`);

  /* Sizes and tokens are typed as 8B or 1e9 and slide on a logarithm. */
  const sliders = {
    params_before: { log: true, low: 1e5, high: 1e12, show: short, read: parseCount },
    trial: { log: true, low: 1e4, high: 1e14, show: short, read: parseCount },
    pruning_rate: { low: 0.01, high: 0.95, show: v => String(Number(v.toPrecision(4))), read: Number },
    loss_before: { low: 0.5, high: 8, show: v => String(Number(v.toPrecision(5))), read: Number },
    min_gain: { log: true, low: 1e-4, high: 0.5, show: v => String(Number(v.toPrecision(3))), read: Number },
    mfu: { low: 0.05, high: 0.9, show: v => String(Number(v.toPrecision(3))), read: Number },
  };
  const place = (s, v) => s.log ? Math.log(v / s.low) / Math.log(s.high / s.low) : (v - s.low) / (s.high - s.low);
  const value = (s, t) => s.log ? s.low * Math.pow(s.high / s.low, t) : s.low + t * (s.high - s.low);
  /* what was given exactly, until its field is edited: a text of three digits must not round the setting */
  const exact = {};

  function set(name, v) {
    exact[name] = v;
    field(name).value = sliders[name].show(v);
    field(name + "_slider").value = String(Math.round(1000 * place(sliders[name], v)));
  }

  function setting() {
    const s = { law: Number(field("law").value), gpu: field("gpu").value };
    for (const name of Object.keys(sliders))
      s[name] = name in exact ? exact[name] : sliders[name].read(field(name).value);
    s.price = field("price").value.trim() === "" ? null : Number(field("price").value);
    return s;
  }

  function wrong(s) {
    if (!(s.params_before >= 1)) return "Model size: write it like 8B, 350M or 1e9.";
    if (!(s.pruning_rate > 0 && s.pruning_rate < 1)) return "Pruning rate: between 0 and 1, both excluded.";
    if (!(s.loss_before > 0)) return "Loss before pruning: nats per token, above 0.";
    if (!(s.min_gain > 0)) return "Minimum gain: nats, above 0.";
    if (!(s.mfu > 0 && s.mfu <= 1)) return "MFU: above 0, at most 1.";
    if (s.price !== null && !(s.price >= 0)) return "Price: USD per GPU-hour, not negative, or empty.";
    return "";
  }

  function say(name, text, number) {
    const element = out(name);
    element.textContent = text;
    element.dataset.value = number === null || number === undefined ? "" : String(number);
  }

  function update() {
    const s = setting(), problem = wrong(s);
    form.querySelector(".problem").textContent = problem;
    form.querySelector(".results").classList.toggle("stale", problem !== "");
    form.querySelector(".loss-field").hidden = !data.laws[s.law].usesLoss;
    if (problem) return;
    const r = planFor(data, s), known = Number.isFinite(r.tokens);
    say("tokens", known ? short(r.tokens) : "no number", r.tokens);
    const interval = r.tokens_low === null ? "no interval" :
      `${short(r.tokens_low)} to ${short(r.tokens_high)}`;
    say("tokens_low", interval, r.tokens_low);
    out("tokens_low").dataset.high = String(r.tokens_high);
    say("loss", known ? r.loss.toFixed(3) : "not known", r.loss);
    say("floor", r.floor.toFixed(3), r.floor);
    say("gpu_hours", known ? gpuTime(r.gpu_hours) : "not known", r.gpu_hours);
    say("cost_usd", r.cost_usd === null ? "no price given" : known ? usd(r.cost_usd) : "not known", r.cost_usd);
    say("trial_loss", r.trial_loss === null ? "" : r.trial_loss.toFixed(3), r.trial_loss);
    say("trial_gain", r.trial_gain === null ? "" : r.trial_gain.toFixed(4), r.trial_gain);
    const spoken = { params_before: "model size", pruning_rate: "pruning rate", tokens: "tokens",
      loss_before: "loss before pruning" };
    const far = Object.entries(r.extrapolates).map(([n, f]) => `${spoken[n]} by ${Number(f.toPrecision(3)).toLocaleString("en")}x`);
    form.querySelector(".beyond").textContent = far.length ? `Beyond the fitted data: ${far.join(", ")}.` : "";
    draw(s, r);
    remember(s);
  }

  function draw(s, r) {
    const law = data.laws[s.law], svg = form.querySelector("svg.live");
    const width = 420, height = 230, left = 52, right = width - 10, top = 10, bottom = height - 38;
    const middle = Number.isFinite(r.tokens) ? r.tokens : 1e9;
    let low = Math.max(middle / 300, 1), high = middle * 30;
    if (s.trial > 0) { low = Math.min(low, s.trial); high = Math.max(high, s.trial); }
    const at = Array.from({ length: 80 }, (_, i) => low * Math.pow(high / low, i / 79));
    const losses = at.map(d => lossAt(law.form, law.params, s, d));
    const bottomLoss = Math.min(r.floor, ...losses), topLoss = Math.max(...losses);
    const pad = 0.06 * (topLoss - bottomLoss || 1);
    const x = d => left + Math.log(d / low) / Math.log(high / low) * (right - left);
    const y = l => bottom - (l - bottomLoss + pad) / (topLoss - bottomLoss + 2 * pad) * (bottom - top);
    const parts = [];
    for (let p = Math.ceil(Math.log10(low)); p <= Math.floor(Math.log10(high)); p++) {
      const d = Math.pow(10, p);
      parts.push(`<path class="tick" d="M${x(d)} ${bottom}v4"/><text x="${x(d)}" y="${bottom + 16}" text-anchor="middle">${short(d)}</text>`);
    }
    for (let i = 0; i <= 4; i++) {
      const l = bottomLoss + i / 4 * (topLoss - bottomLoss);
      parts.push(`<path class="gridline" d="M${left} ${y(l)}H${right}"/><text x="${left - 6}" y="${y(l) + 3.5}" text-anchor="end">${l.toFixed(2)}</text>`);
    }
    parts.push(`<path class="frame" d="M${left} ${bottom}H${right}"/>`);
    parts.push(`<text class="label" x="${(left + right) / 2}" y="${height - 4}" text-anchor="middle">post-training tokens</text>`);
    parts.push(`<path class="rule" d="M${left} ${y(r.floor)}H${right}"/>`);
    parts.push(`<path class="line c0" d="M${at.map((d, i) => x(d).toFixed(1) + " " + y(losses[i]).toFixed(1)).join("L")}"/>`);
    const mark = (d, l, css) => parts.push(`<path class="drop ${css}" d="M${x(d)} ${bottom}V${y(l)}"/><circle class="mark ${css}" cx="${x(d)}" cy="${y(l)}" r="5"/>`);
    if (Number.isFinite(r.tokens) && r.tokens > 1) mark(r.tokens, r.loss, "c1");
    if (r.trial_loss !== null) mark(s.trial, r.trial_loss, "c3");
    svg.innerHTML = parts.join("");
  }

  function remember(s) {
    const query = new URLSearchParams();
    for (const [name, v] of Object.entries(s)) if (v !== null && !Number.isNaN(v)) query.set(name, String(v));
    try { history.replaceState(null, "", "#" + query.toString()); } catch (refused) { /* a page in a sandbox */ }
  }

  function recall() {
    const s = { ...data.start };
    const query = new URLSearchParams(location.hash.slice(1));
    for (const [name, text] of query) {
      if (name === "gpu") s.gpu = data.gpus.some(g => g.name === text) ? text : s.gpu;
      else if (Number.isFinite(Number(text)) && text !== "") s[name] = Number(text);
    }
    if (!data.laws[s.law]) s.law = 0;
    field("law").value = String(s.law);
    field("gpu").value = s.gpu;
    field("price").value = s.price === null || s.price === undefined ? "" : String(s.price);
    for (const name of Object.keys(sliders)) if (s[name] > 0) set(name, s[name]);
    if (!(s.trial > 0)) set("trial", Math.max(data.laws[s.law].ranges.tokens[1], 1));
  }

  form.addEventListener("input", event => {
    const name = event.target.name || "";
    if (name.endsWith("_slider")) {
      const bare = name.replace("_slider", ""), s = sliders[bare];
      const v = s.read(s.show(value(s, Number(event.target.value) / 1000)));
      exact[bare] = v;
      field(bare).value = s.show(v);
    } else if (name in sliders) {
      delete exact[name];
      const v = sliders[name].read(field(name).value);
      if (v > 0) field(name + "_slider").value = String(Math.round(1000 * place(sliders[name], v)));
    }
    update();
  });
  form.addEventListener("submit", event => event.preventDefault());
  data.laws.forEach((law, i) => field("law").add(new Option(law.name, String(i))));
  data.gpus.forEach(gpu => field("gpu").add(new Option(gpu.label, gpu.name)));
  recall();
  update();
  form.hidden = false;
})();

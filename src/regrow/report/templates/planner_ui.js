"use strict";
/* Binds the planner's form to planFor and keeps the setting in the page's address, so that a link carries it. */

(function () {
  const data = JSON.parse(document.getElementById("planner-data").textContent);
  const form = document.getElementById("planner-form");
  if (!data || !form) return;
  data.laws = data.laws.map(law => (law.refused ? law : ready(law)));
  const field = name => form.elements[name];
  const out = name => form.querySelector(`[data-out="${name}"]`);
  const digits = n => v => String(Number(v.toPrecision(n)));
  const optional = read => text => (text.trim() === "" ? null : read(text));

  /* Sizes, tokens and money slide on a logarithm; sizes and tokens are typed as 8B or 1e9. */
  const sliders = {
    params_before: { log: true, low: 1e5, high: 1e12, show: short, read: parseCount,
      wrong: v => !(v >= 1) && "Model size: write it like 8B, 350M or 1e9." },
    pruning_rate: { low: 0.01, high: 0.95, show: digits(4), read: Number,
      wrong: v => !(v > 0 && v < 1) && "Pruning rate: between 0 and 1, both excluded." },
    loss_before: { low: 0.5, high: 8, show: digits(5), read: Number,
      wrong: v => !(v > 0) && "Loss before pruning: nats per token, above 0." },
    min_gain: { log: true, low: 1e-4, high: 0.5, show: digits(3), read: Number,
      wrong: v => !(v > 0) && "Least gain: nats, above 0." },
    max_slope: { log: true, low: 1e-9, high: 10, show: digits(3), read: Number,
      wrong: v => !(v > 0) && "Slope: nats per million tokens, above 0." },
    share: { low: 0.05, high: 0.995, show: digits(3), read: Number,
      wrong: v => !(v > 0 && v < 1) && "Share: a fraction between 0 and 1." },
    target: { low: 0.5, high: 8, show: digits(5), read: Number,
      wrong: v => !(v > 0) && "Target: nats per token, above 0." },
    budget_hours: { log: true, low: 1e-6, high: 1e8, show: digits(3), read: parseCount,
      wrong: v => !(v > 0) && "Budget: GPU-hours, above 0." },
    mfu: { low: 0.05, high: 0.9, show: digits(3), read: Number,
      wrong: v => !(v > 0 && v <= 1) && "MFU: above 0, at most 1." },
    price: { log: true, low: 0.1, high: 50, show: digits(3), read: optional(Number), none: 2,
      wrong: v => v !== null && !(v >= 0 && v < Infinity) && "Price: USD per GPU-hour, not negative, or empty." },
    trial: { log: true, low: 1e3, high: 1e14, show: short, read: parseCount,
      wrong: v => !(v >= 1) && "What if: tokens, written like 2B or 300M." },
  };
  /* What a law reads beyond size, rate, tokens and loss before pruning gets a field of its own, below that loss. The
     loss right after pruning has one already. */
  const last = form.querySelector('[data-field="loss_before"]');
  const others = data.others.filter(other => other.name !== "loss_pruned");
  for (const other of others) {
    const own = last.cloneNode(true), box = own.querySelector("input"), slider = own.querySelector('input[type="range"]');
    own.dataset.field = other.name;
    own.querySelector("label").textContent = other.label;
    own.querySelector("label").htmlFor = box.id = "p-" + other.name;
    [box.name, slider.name] = [other.name, other.name + "_slider"];
    slider.setAttribute("aria-label", other.label + ", slider");
    last.after(own);
    sliders[other.name] = { low: 0, high: other.below === null ? 4 * other.start : other.below,
      show: other.count ? short : digits(5), read: other.count ? parseCount : Number,
      wrong: v => !(v > 0 && (other.below === null || v < other.below)) && `${other.label}: ${other.hint}.` };
  }
  const reads = (s, name) => data.laws[s.law].columns.some(c => c.name === name);
  const options = Object.fromEntries(Object.entries(CRITERIA).map(([name, c]) => [c.option, name]));
  const place = (s, v) => s.log ? Math.log(v / s.low) / Math.log(s.high / s.low) : (v - s.low) / (s.high - s.low);
  const value = (s, t) => s.log ? s.low * Math.pow(s.high / s.low, t) : s.low + t * (s.high - s.low);
  /* what was given exactly, until its field is edited: a text of three digits must not round the setting */
  const exact = {};

  function set(name, v) {
    exact[name] = v;
    field(name).value = v === null ? "" : sliders[name].show(v);
    slide(name, v);
  }

  function slide(name, v) {
    const at = v === null ? sliders[name].none : v, slider = field(name + "_slider");
    if (at > 0) slider.value = String(Math.round(1000 * place(sliders[name], at)));
    slider.setAttribute("aria-valuetext", v === null ? "none" : field(name).value);
  }

  function setting() {
    const s = { law: Number(field("law").value), model: field("model").value, gpu: field("gpu").value,
      criterion: field("criterion").value, loss_pruned: optional(Number)(field("loss_pruned").value) };
    for (const name of Object.keys(sliders))
      s[name] = name in exact ? exact[name] : sliders[name].read(field(name).value);
    return s;
  }

  /* Only what this law and this criterion read is asked for. */
  function asked(name, s) {
    if (name === "loss_before" || others.some(other => other.name === name)) return reads(s, name);
    return !(name in options) || options[name] === s.criterion;
  }

  function wrong(s) {
    for (const name of Object.keys(sliders)) {
      const says = asked(name, s) ? sliders[name].wrong(s[name]) : "";
      if (says) return [name, says];
    }
    if (reads(s, "loss_pruned") && !(s.loss_pruned > 0))
      return ["loss_pruned", "Loss right after pruning: nats per token, above 0."];
    if (s.criterion === "recovery" && s.loss_pruned !== null && !(s.loss_pruned > 0))
      return ["loss_pruned", "Loss right after pruning: nats per token, above 0, or empty."];
    return ["", ""];
  }

  function say(name, text, number) {
    const element = out(name);
    element.textContent = text;
    element.dataset.value = number === null || number === undefined ? "" : String(number);
  }

  const range = (low, high) => low === null && high === null ? "no interval" : low === null ? `up to ${short(high)}` : high === null ? `${short(low)} or more` : `${short(low)} to ${short(high)}`;
  const nats = (v, n) => v === null ? "not known" : v.toFixed(n);

  function update() {
    const s = setting(), [name, typo] = wrong(s), law = data.laws[s.law];
    for (const each of Object.keys(sliders)) {
      form.querySelector(`[data-field="${each}"]`).hidden = !asked(each, s);
      field(each).setAttribute("aria-invalid", String(each === name));
    }
    form.querySelector('[data-field="loss_pruned"]').hidden = s.criterion !== "recovery" && !reads(s, "loss_pruned") && data.laws[s.law].form !== "regrowth";
    field("loss_pruned").setAttribute("aria-invalid", String(name === "loss_pruned"));
    const r = typo ? { refused: typo } : planFor(data, s);
    const problem = form.querySelector(".problem");
    if (problem.textContent !== r.refused) problem.textContent = r.refused;
    form.querySelector(".answer-now").hidden = r.refused !== "";
    form.querySelector(".details").hidden = r.refused !== "";
    form.querySelector(".results").dataset.refused = String(r.refused !== "");
    announce(r, s);
    if (typo) return;
    remember(s);
    if (r.refused) return;
    const known = r.tokens !== null;
    say("tokens", known ? short(r.tokens) : "no number of", r.tokens);
    say("interval", s.criterion === "budget" ? "fixed by the budget" : known || r.tokens_low !== null ?
      `${range(r.tokens_low, r.tokens_high)}, ${Math.round(100 * data.level)}% of the law's draws` : "no interval", r.tokens_low);
    out("interval").dataset.high = r.tokens_high === null ? "" : String(r.tokens_high);
    say("because", known ? `From there ${r.because}.` : `No number of tokens is enough that ${r.because}.`, null);
    say("loss", nats(r.loss, 3), r.loss);
    say("loss_interval", r.loss_low === null ? "not known" : `${r.loss_low.toFixed(3)} to ${r.loss_high.toFixed(3)}`, r.loss_low);
    out("loss_interval").dataset.high = r.loss_high === null ? "" : String(r.loss_high);
    say("next_doubling_gain", known ? r.next_doubling_gain.toFixed(4) + " nats" : "not known", r.next_doubling_gain);
    say("floor", nats(r.floor, 3), r.floor);
    say("flops", known ? r.flops.toExponential(2).replace("e+", "e") + " FLOPs" : "not known", r.flops);
    say("gpu_hours", known ? gpuTime(r.gpu_hours) : "not known", r.gpu_hours);
    say("cost_usd", r.cost_usd !== null ? usd(r.cost_usd) : s.price === null ? "no price given" : "not known", r.cost_usd);
    say("trial_loss", nats(r.trial_loss, 3), r.trial_loss);
    say("trial_gain", nats(r.trial_gain, 4), r.trial_gain);
    out("flops").title = r.flops_how;
    say("flops_how", r.flops_how, null);
    const far = Object.entries(r.extrapolates).map(([n, f]) => `${law.columns.find(c => c.name === n).spoken} by ${Number(f.toPrecision(3)).toLocaleString("en")}x`);
    const beyond = [];
    if (s.model && r.pruning_rate !== s.pruning_rate) beyond.push(`Nearest shape of ${s.model}: rate ${Number(r.pruning_rate.toPrecision(4))}.`);
    if (far.length) beyond.push(`Beyond the fitted data: ${far.join(", ")}.`);
    if (r.never >= 0.01) beyond.push(`In ${Math.round(100 * r.never)}% of the law's draws the criterion is never met.`);
    if (r.tokens === FEWEST) beyond.push("The criterion is met from the first token on: by it, no post-training is needed.");
    form.querySelector(".beyond").textContent = beyond.join(" ");
    drawChart(form.querySelector("svg.live"), data, s, r);
  }

  /* What a screen reader hears: the answer, once the hand rests. */
  let waiting = 0;
  function announce(r, s) {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const text = r.refused ? "" : r.tokens === null ? `No number of tokens is enough that ${r.because}.` :
        `Stop at ${short(r.tokens)} tokens${s.criterion === "budget" ? "" : `, ${range(r.tokens_low, r.tokens_high)}`}. ` +
        `Loss ${r.loss.toFixed(3)}. ${gpuTime(r.gpu_hours)}${r.cost_usd === null ? "" : `, ${usd(r.cost_usd)}`}.`;
      form.querySelector(".spoken").textContent = text;
      form.querySelector("svg.live desc").textContent = text;
    }, 700);
  }

  function remember(s) {
    const query = new URLSearchParams();
    for (const [name, v] of Object.entries(s))
      if (v !== null && v !== "" && !Number.isNaN(v) && (!(name in sliders) || asked(name, s))) query.set(name, String(v));
    try { history.replaceState(null, "", "#" + query.toString()); } catch (refused) { /* a page in a sandbox */ }
  }

  function recall() {
    const s = { ...data.start };
    for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
      if (name === "gpu") s.gpu = data.gpus.some(g => g.name === text) ? text : s.gpu;
      else if (name === "model") s.model = data.models.some(m => m.name === text) ? text : "";
      else if (name === "criterion") s.criterion = text in CRITERIA ? text : s.criterion;
      else if (text !== "" && Number.isFinite(Number(text))) s[name] = Number(text);
      /* an address that gives a setting does not speak of the plan that the page began with */
      if (name === "params_before" && !location.hash.includes("model=")) s.model = "";
      if (name in sliders) s.tokens = name in options ? s.tokens : null;
    }
    if (!data.laws[s.law]) s.law = data.start.law;
    for (const name of ["law", "model", "gpu", "criterion"]) field(name).value = String(s[name]);
    const pruned = s.loss_pruned || (data.others.find(other => other.name === "loss_pruned") || {}).start;
    field("loss_pruned").value = pruned > 0 ? String(pruned) : "";
    for (const other of others) set(other.name, s[other.name] || other.start);
    set("price", s.price > 0 || s.price === 0 ? s.price : null);
    for (const name of ["params_before", "pruning_rate", "loss_before", "mfu"]) set(name, s[name]);
    const ranges = data.laws[s.law].refused ? data.laws[data.start.law].ranges : data.laws[s.law].ranges;
    set("trial", s.trial > 0 ? s.trial : Math.max(ranges.tokens[1], 1));
    begin(s);
  }

  /* Every criterion begins where the first answer stands, so that choosing another one moves nothing by itself. */
  function begin(s) {
    const now = { ...s, loss_pruned: s.loss_pruned > 0 ? s.loss_pruned : null, min_gain: s.min_gain || 0.01, trial: 0 };
    const planned = data.laws[s.law].refused ? null : planFor(data, { ...now, criterion: "gain" }).tokens;
    const tokens = s.tokens || planned || data.laws[data.start.law].ranges.tokens[1];
    const usual = { min_gain: 0.01, max_slope: 1e-3, share: 0.9, target: s.loss_before, budget_hours: 100 };
    for (const [option, criterion] of Object.entries(options)) {
      let v = s[option];
      if (!v && s.tokens && criterion === s.criterion) v = thresholdAt(data, now, criterion, tokens);
      /* three digits say as much as the threshold of an answer that nobody gave */
      if (!v && option !== "min_gain") v = Number(Number(thresholdAt(data, now, criterion, tokens)).toPrecision(3));
      set(option, v || usual[option]);
    }
  }

  function choose(name) {
    const s = setting(), model = data.models.find(m => m.name === s.model);
    if ((name === "model" || name === "law") && model) {
      set("params_before", model.params);
      const law = data.laws[s.law], shapes = law.refused ? null : model.shapes[law.method];
      if (law.masked && shapes) set("pruning_rate", shapes[0][1]);
    }
  }

  form.addEventListener("input", event => {
    const name = event.target.name || "", bare = name.replace("_slider", "");
    if (name.endsWith("_slider")) {
      const s = sliders[bare], v = s.read(s.show(value(s, Number(event.target.value) / 1000)));
      exact[bare] = v;
      field(bare).value = s.show(v);
      event.target.setAttribute("aria-valuetext", s.show(v));
    } else if (name in sliders) {
      delete exact[name];
      const v = sliders[name].read(field(name).value);
      if (v === null || v > 0) slide(name, v);
    }
    if (bare === "params_before") field("model").value = "";
    choose(name);
    update();
  });
  form.addEventListener("submit", event => event.preventDefault());
  data.laws.forEach((law, i) => field("law").add(new Option(law.name, String(i))));
  data.gpus.forEach(gpu => field("gpu").add(new Option(gpu.label, gpu.name)));
  data.models.forEach(model => field("model").add(new Option(`${model.name}, ${short(model.params)}`, model.name)));
  recall();
  choose("model");
  update();
  form.hidden = false;
})();

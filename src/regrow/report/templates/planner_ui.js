"use strict";
/* Binds the planner's form to planFor and keeps the setting in the page's address, so that a link carries it. */

(function () {
  const parsed = JSON.parse(document.getElementById("planner-data").textContent);
  const form = document.getElementById("planner-form");
  if (!parsed || !form) return;
  const data = prepare(parsed);
  const field = name => form.elements[name];
  const out = name => form.querySelector(`[data-out="${name}"]`);
  const digits = n => v => String(Number(v.toPrecision(n)));
  const optional = read => text => (text.trim() === "" ? null : read(text));

  /* Sizes, tokens and money slide on a logarithm; sizes and tokens are typed as 8B or 1e9. A slider with `stops` has
     these places alone: the rates of a named model's shapes. */
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
  const place = (s, v) => s.stops ? placeOfStop(s.stops, v) :
    s.log ? Math.log(v / s.low) / Math.log(s.high / s.low) : (v - s.low) / (s.high - s.low);
  const value = (s, t) => s.stops ? s.stops[Math.round(t * (s.stops.length - 1))] :
    s.log ? s.low * Math.pow(s.high / s.low, t) : s.low + t * (s.high - s.low);
  const steps = s => s.stops ? Math.max(s.stops.length - 1, 1) : 1000;
  const within01 = t => Math.min(Math.max(t, 0), 1);

  function placeOfStop(stops, v) {
    const next = stops.findIndex(stop => stop >= v);
    if (next <= 0 || stops.length < 2) return next < 0 ? 1 : 0;
    return (next - 1 + (v - stops[next - 1]) / (stops[next] - stops[next - 1])) / (stops.length - 1);
  }
  /* what was given exactly, until its field is edited: a text of three digits must not round the setting */
  const exact = {};

  function set(name, v) {
    exact[name] = v;
    field(name).value = v === null ? "" : sliders[name].show(v);
    slide(name, v);
  }

  function slide(name, v) {
    const at = v === null ? sliders[name].none : v, slider = field(name + "_slider");
    slider.max = String(steps(sliders[name]));
    if (at > 0) slider.value = String(Math.round(steps(sliders[name]) * within01(place(sliders[name], at))));
    slider.setAttribute("aria-valuetext", v === null ? "none" : field(name).value);
  }

  function setting() {
    const s = { ...data.carried, law: Number(field("law").value), model: field("model").value, gpu: field("gpu").value,
      criterion: field("criterion").value, loss_pruned: optional(Number)(field("loss_pruned").value) };
    for (const name of Object.keys(sliders))
      s[name] = name in exact ? exact[name] : sliders[name].read(field(name).value);
    return s;
  }

  /* The law's fitted range below each slider and in words; sizes and tokens slide as far as answers are given, the rate
     of a named model as far as its shapes go. */
  const brief = (slider, v) => slider.show(Number(v.toPrecision(3)));
  function bound(s) {
    const law = data.laws[s.law], model = data.models.find(m => m.name === s.model);
    if (law.refused) return;
    const { params_before: sizes, tokens } = law.ranges, shapes = model && model.shapes[law.method];
    Object.assign(sliders.params_before, { low: Math.max(sizes[0] / data.mostTimesDesigned, 1), high: sizes[1] * data.mostTimesDesigned });
    Object.assign(sliders.trial, { low: Math.max(law.firstTokens / 10, 1), high: law.mostTokens * 10 });
    sliders.pruning_rate.stops = shapes ? shapes.map(shape => shape[1]) : null;
    for (const [name, slider] of Object.entries(sliders)) {
      const range = law.ranges[name === "trial" ? "tokens" : name], box = form.querySelector(`[data-field="${name}"]`);
      const bar = box.querySelector(".fitted"), words = box.querySelector(".runs");
      if (!bar) continue;
      bar.hidden = !range;
      const ends = range ? [...new Set(range.map(v => brief(slider, v)))] : [];
      words.textContent = !range ? "" : `runs: ${ends.join(" to ")}` +
        (name === "pruning_rate" && shapes ? `; shapes of ${s.model}: ${brief(slider, shapes[0][1])} to ${brief(slider, shapes[shapes.length - 1][1])}` : "");
      if (range) ["--from", "--to"].forEach((end, i) => bar.style.setProperty(end, String(within01(place(slider, Math.max(range[i], slider.low))))));
      slide(name, s[name] > 0 ? s[name] : null);
    }
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

  /* The interval of D* in words (regrow.planning.support.interval_in_words, but for its probability). */
  const range = (low, high, law) => low === null && high === null ? (law.count ? `anything from under ${short(law.firstTokens)} to over ${short(law.mostTokens)}` : "how sure is not known") : low === null ? `up to ${short(high)}` : high === null ? `${short(low)} or more` : `${short(low)} to ${short(high)}`;
  const nats = (v, n) => v === null ? "not known" : v.toFixed(n);

  function update() {
    const s = setting(), [name, typo] = wrong(s), law = data.laws[s.law];
    for (const each of Object.keys(sliders)) {
      form.querySelector(`[data-field="${each}"]`).hidden = !asked(each, s);
      field(each).setAttribute("aria-invalid", String(each === name));
    }
    form.querySelector('[data-field="loss_pruned"]').hidden = s.criterion !== "recovery" && !reads(s, "loss_pruned") && data.laws[s.law].form !== "regrowth";
    field("loss_pruned").setAttribute("aria-invalid", String(name === "loss_pruned"));
    const r = typo ? { refused: typo } : planFor(data, s), refused = r.refused !== "";
    const problem = form.querySelector(".problem");
    if (problem.textContent !== r.refused) problem.textContent = r.refused;
    form.querySelector(".answer-now").hidden = refused;
    form.querySelector(".details").hidden = refused;
    form.querySelector(".results").dataset.refused = String(refused);
    announce(r, s);
    if (typo) return;
    remember(s);
    if (refused) return;
    answer(s, r);
    costs(s, r);
    doubts(s, r, law);
    form.querySelector(".drawn").hidden = r.tooFar;
    form.querySelector(".of-bar").hidden = r.tokens === null || s.criterion === "budget";
    if (!r.tooFar) drawChart(form.querySelector("svg.live"), data, s, r);
  }

  const percent = Math.round(100 * data.level), capital = text => text.charAt(0).toUpperCase() + text.slice(1);

  function answer(s, r) {
    const sure = r.verdict !== "cannot say", known = r.loss !== null, law = data.laws[s.law];
    const words = range(r.tokens_low, r.tokens_high, law);
    form.querySelector(".stop").hidden = !sure;
    form.querySelector(".answer-now").dataset.verdict = r.verdict;
    say("verdict", r.verdict, null);
    say("verdict_because", capital(r.verdict_because).replace(/`/g, "") + ".", null);
    say("tokens", sure ? short(r.tokens) : "Cannot say yet", r.tokens);
    form.querySelector(".answer-now .big small").hidden = !sure;
    const figure = r.tokens !== null && !sure ? `The law's own figure: ${short(r.tokens)}. ` : "";
    say("interval", s.criterion === "budget" ? "fixed by the budget" : r.tokens !== null || r.tokens_low !== null ?
      figure + capital(words) + (law.count ? `, ${percent}% of the law's draws` : "") : "", r.tokens_low);
    out("interval").dataset.high = r.tokens_high === null ? "" : String(r.tokens_high);
    say("because", r.tokens !== null ? `From there ${r.because}.` : r.reason ? "" : `No number of tokens is enough that ${r.because}.`, null);
    say("loss", nats(r.loss, 3), r.loss);
    say("loss_interval", r.loss_low === null ? "not known" : `${r.loss_low.toFixed(3)} to ${r.loss_high.toFixed(3)}`, r.loss_low);
    out("loss_interval").dataset.high = r.loss_high === null ? "" : String(r.loss_high);
    say("gap", known ? `${r.gap >= 0 ? "+" : ""}${r.gap.toFixed(3)} nats` : "not known", r.gap);
    say("perplexity", known ? `${perplexity(s.loss_before)} to ${perplexity(r.loss)}` : "not known", null);
    say("params_after", short(r.params_after), r.params_after);
    say("next_doubling_gain", known ? r.next_doubling_gain.toFixed(4) + " nats" : "not known", r.next_doubling_gain);
    say("floor", nats(r.floor, 3), r.floor);
  }

  function costs(s, r) {
    const known = r.flops !== null;
    say("flops", known ? r.flops.toExponential(2).replace("e+", "e") + " FLOPs" : "not known", r.flops);
    say("gpu_hours", known ? gpuTime(r.gpu_hours) : "not known", r.gpu_hours);
    say("cost_usd", r.cost_usd !== null ? usd(r.cost_usd) : s.price === null ? "no price given" : "not known", r.cost_usd);
    say("trial_loss", nats(r.trial_loss, 3), r.trial_loss);
    say("trial_gain", nats(r.trial_gain, 4), r.trial_gain);
    out("flops").title = r.flops_how;
    say("flops_how", r.flops_how, null);
  }

  function doubts(s, r, law) {
    const far = Object.entries(r.extrapolates).map(([n, f]) => `${law.columns.find(c => c.name === n).spoken} by ${factor(f)}x`);
    const beyond = [];
    if (s.model && r.pruning_rate !== s.pruning_rate) beyond.push(`Nearest shape of ${s.model}: rate ${Number(r.pruning_rate.toPrecision(4))}.`);
    const carried = Object.entries(data.carried).map(([name, v]) => `${name.replace("_", " ")} ${v < 1 ? general(v) : short(v)}`);
    if (carried.length) beyond.push(`As in the plan above: ${carried.join(", ")}.`);
    if (far.length) beyond.push(`Beyond the fitted data: ${far.join(", ")}.`);
    if (r.never >= 0.01) beyond.push(`In ${Math.round(100 * r.never)}% of the law's draws the criterion is never met.`);
    if (law.unknown.some(size => Math.abs(s.params_before - size) <= law.sameSize * size))
      beyond.push("The fit has seen this very size, and this page does not carry what it knows of it: `regrow plan` gives a closer answer.");
    if (r.tokens === FEWEST) beyond.push("The criterion is met from the first token on: by it, no post-training is needed.");
    form.querySelector(".beyond").textContent = beyond.join(" ");
    say("sure", law.sure.replace(/`/g, ""), null);
  }

  /* What a screen reader hears: the answer, once the hand rests. */
  let waiting = 0;
  function announce(r, s) {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const text = r.refused ? "" : r.verdict === "cannot say" ? `Cannot say yet: ${r.verdict_because}.` :
        `Stop at ${short(r.tokens)} tokens${s.criterion === "budget" ? "" : `, ${range(r.tokens_low, r.tokens_high, data.laws[s.law])}`}. ` +
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
    if (name !== "model" && name !== "law") return;
    const model = data.models.find(m => m.name === field("model").value);
    if (model) set("params_before", model.params);
    bound(setting());
    snap();
  }

  /* The rate of a named model becomes that of the nearest shape that can be left. */
  function snap() {
    const stops = sliders.pruning_rate.stops, rate = setting().pruning_rate;
    if (!stops || !(rate > 0)) return;
    set("pruning_rate", stops.reduce((a, b) => (Math.abs(b - rate) < Math.abs(a - rate) ? b : a)));
  }

  form.addEventListener("input", event => {
    const name = event.target.name || "", bare = name.replace("_slider", "");
    if (name.endsWith("_slider")) {
      const s = sliders[bare], at = value(s, Number(event.target.value) / steps(s)), v = s.stops ? at : s.read(s.show(at));
      exact[bare] = v;
      field(bare).value = s.show(v);
      event.target.setAttribute("aria-valuetext", s.show(v));
    } else if (name in sliders) {
      delete exact[name];
      const v = sliders[name].read(field(name).value);
      if (v === null || v > 0) slide(name, v);
    }
    if (bare === "params_before" && field("model").value) {
      field("model").value = "";
      bound(setting());
    }
    choose(name);
    update();
  });
  form.addEventListener("change", event => {
    if (event.target.name !== "pruning_rate") return;
    snap();
    update();
  });
  /* a click on the chart asks what if; the slider does the same by keyboard */
  form.querySelector("svg.live").addEventListener("click", event => {
    const box = event.currentTarget.getBoundingClientRect();
    set("trial", Number(event.currentTarget.tokensAt((event.clientX - box.left) / box.width).toPrecision(3)));
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

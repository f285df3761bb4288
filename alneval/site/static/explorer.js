/* The page of the explorer: reads its data, hears its controls, writes what evaluator.js computes, draws three curves. */
"use strict";

(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const { text, estimateText } = Evaluator;
  const state = { set: null, threshold: 0, prevalence: null }; // prevalence null: that of the units

  for (const set of data.sets) set.labels = [...set.labels].map(Number);

  function fill(select, names, words = names) {
    const before = select.value;
    select.replaceChildren(...names.map((name, i) => new Option(words[i], name)));
    if (names.includes(before)) select.value = before;
  }
  const unique = (values) => [...new Set(values)];

  function choose() {
    const inStudy = data.sets.filter((set) => set.study === byId("study").value);
    fill(byId("model"), unique(inStudy.map((set) => set.model)));
    const ofModel = inStudy.filter((set) => set.model === byId("model").value);
    fill(byId("split"), ofModel.map((set) => set.split), ofModel.map((set) => set.split_name));
    const set = ofModel.find((each) => each.split === byId("split").value);
    state.set = set;
    state.threshold = set.threshold;
    const ends = set.probability ? [0, 1] : [Math.min(...set.scores), Math.max(...set.scores)];
    for (const id of ["threshold", "threshold-number"]) [byId(id).min, byId(id).max] = ends;
    byId("threshold").step = (ends[1] - ends[0]) / 1000;
    byId("locked").textContent = set.locked ? "Locked threshold" : "Median score";
    update();
  }

  /* alneval gives Wilson's intervals to patients, and resampled ones, made beforehand at every cut, to units of patients */
  function operatingPoint(set, counts, cut) {
    const point = Evaluator.operatingPoint(counts);
    if (!set.limits) return point;
    const ends = set.limits[cut].map((end) => end ?? NaN);
    Object.values(point).forEach((estimate, i) => estimate.splice(1, 2, ends[2 * i], ends[2 * i + 1]));
    return point;
  }

  function update() {
    const { set, threshold, prevalence } = state;
    const counts = Evaluator.counts(set.labels, set.scores, threshold);
    const n = set.labels.length, positives = counts.tp + counts.fn;
    const shown = prevalence ?? positives / n;
    const cut = new Set(set.scores.filter((score) => score < threshold)).size;
    const point = operatingPoint(set, counts, cut);
    if (prevalence !== null) {
      Object.assign(point, set.ratios
        ? Evaluator.resampledPredictiveValues(counts, prevalence, set.ratios[cut])
        : Evaluator.predictiveValues(counts, prevalence));
    }
    for (const name of Object.keys(counts)) byId(name).value = counts[name];
    for (const name of Object.keys(point)) byId(name).value = estimateText(point[name]);
    byId("threshold").value = threshold;
    byId("threshold-number").value = Number(threshold.toPrecision(8));
    byId("prevalence").value = shown;
    byId("prevalence-number").value = Number(shown.toPrecision(3));
    const cuts = set.probability && threshold >= 0 && threshold < 1;
    byId("net-benefit").value = cuts
      ? `${text(Evaluator.netBenefit(counts, threshold, prevalence))}; all called: ${text(Evaluator.treatAll(threshold, shown))}; none: 0`
      : "only of probabilities";
    const units = set.limits ? `${n} units of ${set.patients} patients` : `${n} patients`;
    byId("about").textContent = `${set.model}, ${set.split_name}: ${units}, ${positives} positive` + (set.auc ? `; AUC ${set.auc}.` : ".");
    byId("how").textContent =
      (set.limits ? "Intervals: percentiles over resampled patients. " : "Intervals: Wilson's. ") +
      (prevalence === null
        ? "PPV, NPV and net benefit hold at the prevalence of these patients."
        : `PPV and NPV at a prevalence of ${text(prevalence, 2)} by Bayes' rule` +
          (set.limits ? "." : ", with intervals on the log odds (Mercaldo 2007).")) +
      " Moving the threshold to suit these patients makes their numbers too good: a threshold is chosen on others.";
    drawRoc(set, counts);
    drawCalibration(set, threshold);
    drawDecision(set, counts, cuts, shown);
  }

  /* drawing: plain SVG, one unit square unless told otherwise */
  const SIZE = 300, LEFT = 38, BOTTOM = 34, TOP = 10;
  const box = SIZE - LEFT - 12;

  function plot(id, label, content, { low = 0, high = 1, steps = 4, x, y }) {
    const px = (v) => LEFT + v * box;
    const py = (v) => TOP + (1 - (v - low) / (high - low)) * box;
    const parts = [];
    for (const at of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(`<path class="grid" d="M${px(at)} ${py(low)}V${py(high)}"/><text x="${px(at)}" y="${py(low) + 14}" text-anchor="middle">${at}</text>`);
    }
    for (let i = 0; i <= steps; i++) {
      const level = low + (i / steps) * (high - low);
      parts.push(`<path class="grid" d="M${px(0)} ${py(level)}H${px(1)}"/>`);
      parts.push(`<text x="${LEFT - 5}" y="${py(level) + 4}" text-anchor="end">${Number(level.toFixed(2))}</text>`);
    }
    parts.push(`<text class="title" x="${px(0.5)}" y="${SIZE - 2}" text-anchor="middle">${x}</text>`);
    parts.push(`<text class="title" transform="translate(10 ${py((low + high) / 2)}) rotate(-90)" text-anchor="middle">${y}</text>`);
    const line = (points, kind) =>
      `<path class="${kind}" d="M${points.map(([a, b]) => `${px(a).toFixed(1)} ${py(Math.min(Math.max(b, low), high)).toFixed(1)}`).join("L")}"/>`;
    const dot = ([a, b]) => `<circle class="here" r="5.5" cx="${px(a)}" cy="${py(Math.min(Math.max(b, low), high))}"/>`;
    const cut = (at) => `<path class="cut" d="M${px(at)} ${py(low)}V${py(high)}"/>`;
    byId(id).innerHTML = `<svg viewBox="0 0 ${SIZE} ${SIZE}" role="img" aria-label="${label}">${parts.join("")}${content(line, dot, cut)}</svg>`;
  }

  function drawRoc(set, counts) {
    const here = [counts.fp / (counts.fp + counts.tn), counts.tp / (counts.tp + counts.fn)];
    const words = `At this threshold ${text(here[1])} of the positive and ${text(here[0])} of the negative are called.`;
    const curve = Evaluator.rocCurve(set.labels, set.scores);
    plot("roc", `ROC curve. ${words}`, (line, dot) => line([[0, 0], [1, 1]], "axis") + line(curve, "curve") + dot(here), {
      x: "1 - specificity", y: "sensitivity",
    });
    byId("roc-words").textContent = `ROC. ${words}`;
  }

  function drawCalibration(set, threshold) {
    byId("calibration").parentElement.hidden = byId("decision").parentElement.hidden = !set.probability;
    if (!set.probability) return;
    const fit = set.slope ? ` Slope ${set.slope}, intercept ${set.intercept}.` : "";
    plot("calibration", `Calibration curve.${fit}`,
      (line, _, cut) => line([[0, 0], [1, 1]], "axis") + line(set.curve, "curve") + cut(threshold), { x: "predicted", y: "observed share" });
    byId("calibration-words").textContent = `Calibration (loess), at the prevalence of these patients.${fit} Dashed: the threshold.`;
  }

  function drawDecision(set, counts, cuts, shown) {
    if (!set.probability) return;
    const at = Array.from({ length: 99 }, (_, i) => (i + 1) / 100);
    const model = at.map((t) => [t, Evaluator.netBenefit(Evaluator.counts(set.labels, set.scores, t), t, state.prevalence)]);
    const all = at.map((t) => [t, Evaluator.treatAll(t, shown)]);
    const high = Math.max(0.1, Math.ceil(shown * 10) / 10), low = -high / 4;
    const here = cuts ? [[state.threshold, Evaluator.netBenefit(counts, state.threshold, state.prevalence)]] : [];
    plot("decision", "Decision curve: net benefit of the model, of calling all and of calling none, by threshold.",
      (line, dot) => line([[0, 0], [1, 0]], "axis") + line(all, "rival") + line(model, "curve") + here.map(dot).join(""),
      { low, high, steps: 5, x: "threshold", y: "net benefit" });
    byId("decision-words").textContent = "Decision curve: solid the model, dashed all called, gray none called.";
  }

  function drawLottery() {
    const { pipeline, aucs } = data.lotteries.find((each) => each.pipeline === byId("pipeline").value);
    byId("draw").max = aucs.length;
    const drawn = Number(byId("draw").value) - 1, found = Evaluator.lottery(aucs, drawn);
    byId("drawn").value = text(found.auc);
    byId("drawn-words").textContent =
      `test AUC of ${pipeline} in split ${drawn + 1} of ${found.n}: number ${found.rank} from below. Over all splits the mean is ` +
      `${text(found.mean)}, from ${text(found.lowest)} to ${text(found.highest)}.` + (drawn ? ` Who tried the first ${drawn + 1} and kept the best would report ${text(found.best)}.` : "");
    const low = Math.floor(found.lowest * 20) / 20, high = Math.ceil(found.highest * 20) / 20;
    const px = (value) => 24 + ((value - low) / Math.max(high - low, 0.05)) * 952;
    const py = (i) => 14 + ((i * 37) % 56);
    const dots = aucs.map((value, i) => `<circle class="dot" r="4" cx="${px(value).toFixed(1)}" cy="${py(i)}"/>`).join("");
    const step = high - low > 0.4 ? 0.1 : 0.05, first = Math.ceil(low / step - 1e-9);
    const ticks = Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
    const axis = ticks.map((t) => `<text x="${px(t)}" y="100" text-anchor="middle">${t.toFixed(2)}</text>`).join("");
    byId("strip").innerHTML = `<svg viewBox="0 0 1000 104" role="img" aria-label="Test AUCs of ${found.n} random splits; the one drawn is ${text(found.auc)}">` +
      `<path class="axis" d="M24 84H976"/>${axis}${dots}<circle class="here" r="6.5" cx="${px(found.auc)}" cy="${py(drawn)}"/></svg>`;
  }

  const setThreshold = (value) => { if (Number.isFinite(value)) { state.threshold = value; update(); } };
  const setPrevalence = (value) => { if (value > 0 && value < 1) { state.prevalence = value; update(); } };
  for (const id of ["study", "model", "split"]) byId(id).addEventListener("change", choose);
  byId("threshold").addEventListener("input", (event) => setThreshold(event.target.valueAsNumber));
  byId("threshold-number").addEventListener("change", (event) => setThreshold(event.target.valueAsNumber));
  byId("prevalence").addEventListener("input", (event) => setPrevalence(event.target.valueAsNumber));
  byId("prevalence-number").addEventListener("change", (event) => setPrevalence(event.target.valueAsNumber));
  byId("locked").addEventListener("click", () => setThreshold(state.set.threshold));
  byId("own").addEventListener("click", () => { state.prevalence = null; update(); });

  const studies = unique(data.sets.map((set) => set.study));
  fill(byId("study"), studies, studies.map((study) => data.titles[study] ?? study));
  const [study, model, split] = decodeURIComponent(location.hash.slice(1)).split("/");
  const wanted = data.sets.find((set) => set.study === study && set.model === model && (!split || set.split === split));
  if (wanted) {
    byId("study").value = study;
    fill(byId("model"), [model]);
    fill(byId("split"), [split ?? "test"]);
  }
  choose();
  if (data.lotteries.length) {
    fill(byId("pipeline"), data.lotteries.map((each) => each.pipeline));
    byId("draw").value = 1;
    for (const id of ["pipeline", "draw"]) byId(id).addEventListener("input", drawLottery);
    drawLottery();
  }
})();

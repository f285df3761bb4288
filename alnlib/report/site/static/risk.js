/* The risk page. Risk is arithmetic alone, that of alnlib.kept.equation and fusion; what follows it is the page. */
"use strict";

const Risk = (() => {
  /* Which equation answers for a patient of whom these values are known, as alnlib.kept.fusion: "" where there is one only. */
  function pattern(model, values) {
    if (!model.answers) return "";
    const known = (input) => values[input.key] !== null && values[input.key] !== undefined;
    const has = model.inputs.filter((input) => input.kind === "score" && known(input)).map((input) => input.key);
    if (model.inputs.some((input) => input.kind !== "score" && known(input))) has.push("clinical");
    return model.answers[has.join("+") || model.nothing] ?? model.nothing;
  }

  /* Contributions to the log odds, {key: sum over its terms}, and the probability. */
  function risk(model, values) {
    const name = pattern(model, values), equation = model.equations[name];
    if (!equation) return { pattern: name, parts: {}, logit: logit(model.prevalence), probability: model.prevalence };
    const parts = {};
    let sum = 0;
    for (const term of equation.terms) {
      parts[term.key] = (parts[term.key] ?? 0) + term.coefficient * coded(model, term, values[term.key]);
    }
    for (const part of Object.values(parts)) sum += part;
    sum += equation.intercept;
    return { pattern: name, parts, logit: sum, probability: 1 / (1 + Math.exp(-sum)) };
  }

  function coded(model, term, value) {
    if (value === null || value === undefined) return term.missing_as ?? 0;
    if (term.level !== null) return value === term.level ? 1 : 0;
    const input = model.inputs.find((each) => each.key === term.key);
    return input.kind === "score" ? logit(Math.min(Math.max(value, model.clip), 1 - model.clip)) : value;
  }

  function logit(p) {
    return Math.log(p / (1 - p));
  }

  /* Scales of a nomogram as alnlib.models.nomogram: the widest effect spans 100 points, every other in proportion, each from 0. */
  function scales(model, name) {
    const { terms, intercept } = model.equations[name];
    const keys = [...new Set(terms.map((term) => term.key))];
    const found = keys.map((key) => {
      const input = model.inputs.find((each) => each.key === key);
      const values = input.levels?.length ? input.levels : ticks(input.low, input.high, input.kind === "score");
      const own = terms.filter((term) => term.key === key);
      const effects = values.map((value) => own.reduce((sum, term) => sum + term.coefficient * coded(model, term, value), 0));
      return { key, label: input.label, unit: input.unit ?? "", values, effects, least: Math.min(...effects), most: Math.max(...effects) };
    });
    const perLogit = 100 / Math.max(...found.map((scale) => scale.most - scale.least));
    const baseline = intercept + found.reduce((sum, scale) => sum + scale.least, 0);
    return { scales: found, perLogit, baseline, largest: found.reduce((sum, scale) => sum + scale.most - scale.least, 0) * perLogit };
  }

  function ticks(low, high, probability) {
    if (probability) return [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
    const step = [1, 2, 5, 10, 20, 50, 100, 200].find((each) => (high - low) / each <= 8) ?? (high - low) / 5;
    const found = [];
    for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
    return found.length > 1 ? found : [low, high];
  }

  return { pattern, risk, scales, coded };
})();

if (typeof module !== "undefined") module.exports = Risk;

if (typeof document !== "undefined") {
  const byId = (id) => document.getElementById(id);
  const models = JSON.parse(byId("data").textContent);
  const shown = (value) => Evaluator.text(value, 3);
  const escaped = (words) => String(words).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
  let model, values;

  function choose() {
    model = models[Number(byId("model").value)];
    values = {};
    byId("inputs").replaceChildren(...model.inputs.map(control));
    byId("limits").replaceChildren(...model.limits.map((limit) => Object.assign(document.createElement("li"), { textContent: limit })));
    byId("card").href = model.page;
    update();
  }

  function control(input) {
    const field = document.createElement("fieldset"), label = document.createElement("label");
    label.textContent = input.label + (input.unit ? ` (${input.unit})` : "");
    label.htmlFor = `input-${input.key}`;
    let entry;
    if (input.levels?.length) {
      entry = document.createElement("select");
      entry.append(new Option("not known", ""), ...input.levels.map((level) => new Option(level, level)));
      values[input.key] = input.levels[0];
      entry.value = input.levels[0];
      entry.addEventListener("change", () => { values[input.key] = entry.value || null; update(); });
    } else {
      entry = document.createElement("input");
      Object.assign(entry, { type: "number", min: input.low, max: input.high, step: input.kind === "score" ? 0.01 : "any", placeholder: "not known" });
      values[input.key] = input.kind === "score" ? 0.5 : Math.round((input.low + input.high) / 2);
      entry.value = values[input.key];
      entry.addEventListener("input", () => { values[input.key] = entry.value === "" ? null : entry.valueAsNumber; update(); });
    }
    entry.id = label.htmlFor;
    field.append(label, entry);
    return field;
  }

  function update() {
    const wrong = model.inputs.filter((input) => input.kind === "score" && values[input.key] !== null && !(values[input.key] >= 0 && values[input.key] <= 1));
    const far = model.inputs.filter((input) => input.kind === "continuous" && values[input.key] !== null && (values[input.key] < input.low || values[input.key] > input.high));
    if (wrong.length) {
      byId("risk").value = "–";
      byId("words").textContent = `${wrong[0].label}: give a number from 0 to 1.`;
      return;
    }
    const found = Risk.risk(model, values);
    byId("risk").value = shown(found.probability);
    const call = model.threshold === null ? "" : ` The locked threshold is ${shown(model.threshold)}: such a patient is called ${found.probability >= model.threshold ? "positive" : "negative"}.`;
    const by = model.answers && found.pattern ? ` Answered by the equation for ${found.pattern}.` : "";
    const outside = far.length ? ` ${far.map((input) => input.label).join(", ")} lies outside of the patients of this run (${far.map((input) => `${input.low} to ${input.high}`).join(", ")}): do not trust the answer.` : "";
    byId("words").textContent = `is the probability of ${model.positive} (${model.endpoint}) for a patient with these values.${call}${by}${outside}`;
    byId("one").textContent = model.why_one[found.pattern] ?? "";
    byId("one").hidden = !byId("one").textContent;
    draw(found);
  }

  /* The nomogram with the patient's marks: points above, total points and probability below. */
  function draw(found) {
    if (!model.equations[found.pattern]) {
      byId("nomogram").replaceChildren();
      byId("nomogram-words").textContent = "Nothing is known of this patient, so the answer is the share of positive training patients.";
      return;
    }
    const { scales, perLogit, baseline, largest } = Risk.scales(model, found.pattern);
    const width = 940, left = 290, right = 30, step = 52, height = (scales.length + 3) * step;
    const x = (points, full) => left + (points / full) * (width - left - right);
    const parts = [];
    const line = (row, name, places, full, mark, kind, whole = false) => {
      const y = 30 + row * step, xs = (whole ? [[0], [full]] : places).map(([points]) => x(points, full));
      parts.push(`<text class="title" x="${left - 14}" y="${y + 4}" text-anchor="end">${escaped(name)}</text>`);
      parts.push(`<path class="${kind}" d="M${Math.min(...xs)} ${y}H${Math.max(...xs)}"/>`);
      let last = [-99, -99];
      [...places].sort((a, b) => a[0] - b[0]).forEach(([points, words]) => {
        const at = x(points, full), half = String(words).length * 3.4 + 3;
        const side = at - half >= last[0] ? 0 : at - half >= last[1] ? 1 : -1;
        parts.push(`<path class="axis" d="M${at} ${y - 4}V${y + 4}"/>`);
        if (side < 0) return;
        last[side] = at + half;
        parts.push(`<text x="${at}" y="${side ? y + 18 : y - 9}" text-anchor="middle">${escaped(words)}</text>`);
      });
      if (mark !== null) parts.push(`<circle class="here" r="6" cx="${x(Math.min(Math.max(mark, 0), full), full)}" cy="${y}"/>`);
    };
    line(0, "Points", [0, 20, 40, 60, 80, 100].map((p) => [p, p]), 100, null, "axis");
    let total = 0;
    const told = scales.map((scale, row) => {
      const points = (found.parts[scale.key] - scale.least) * perLogit;
      total += points;
      const places = scale.values.map((value, i) => [(scale.effects[i] - scale.least) * perLogit, value]);
      line(row + 1, scale.label + (scale.unit ? ` (${scale.unit})` : ""), places, 100, points, "curve");
      return `${scale.label} ${Evaluator.text(points, 0)}`;
    });
    const full = Math.max(largest, 1), stepOf = [10, 20, 50, 100].find((each) => full / each <= 9) ?? 100;
    const totals = Array.from({ length: Math.floor(full / stepOf) + 1 }, (_, i) => [i * stepOf, i * stepOf]);
    line(scales.length + 1, "Total points", totals, full, total, "axis");
    const risks = [0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99]
      .map((p) => [(Math.log(p / (1 - p)) - baseline) * perLogit, p]).filter(([points]) => points >= 0 && points <= full);
    line(scales.length + 2, "Probability", risks, full, total, "axis", true);
    byId("nomogram").innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Nomogram: ${escaped(told.join(", "))} points; total ${Evaluator.text(total, 0)}">${parts.join("")}</svg>`;
    byId("nomogram-words").textContent = `Points: ${told.join(", ")}; ${Evaluator.text(total, 0)} in all, a probability of ${shown(found.probability)}.`;
  }

  byId("model").append(...models.map((each, i) => new Option(`${each.study}: ${each.name}`, i)));
  byId("model").addEventListener("change", choose);
  choose();
}

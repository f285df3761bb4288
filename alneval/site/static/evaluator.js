/* The arithmetic of the explorer, and nothing else: the numbers of alneval, in the browser.
   No page is touched here, so that a test can hold every function to its counterpart in Python. */
"use strict";

const Evaluator = (() => {
  const Z = 1.959963984540054; // 97.5 % quantile of the normal distribution

  /* A number as Python writes it: ties, which only fractions of a power of two can be, go to the even digit. */
  function text(value, digits = 3) {
    const doubled = value * 2 ** (digits + 1);
    if (Number.isInteger(doubled) && doubled % 2 !== 0) {
      const below = Math.floor(value * 10 ** digits);
      return ((below % 2 === 0 ? below : below + 1) / 10 ** digits).toFixed(digits);
    }
    return value.toFixed(digits);
  }

  /* alneval.estimate.format_interval */
  function estimateText([value, low, high], digits = 3) {
    if (Number.isNaN(value)) return "not estimable";
    if (Number.isNaN(low) || Number.isNaN(high)) return `${text(value, digits)} (no interval)`;
    return `${text(value, digits)} (${text(low, digits)} to ${text(high, digits)})`;
  }

  /* alneval.intervals.wilson_interval: [share, low, high] */
  function wilson(count, n) {
    if (n === 0) return [NaN, NaN, NaN];
    const share = count / n;
    const center = share + (Z * Z) / (2 * n);
    const reach = Z * Math.sqrt((share * (1 - share)) / n + (Z * Z) / (4 * n * n));
    const total = 1 + (Z * Z) / n;
    return [share, count === 0 ? 0 : (center - reach) / total, count === n ? 1 : (center + reach) / total];
  }

  /* Calls of "score >= threshold": the four counts. labels: 0 or 1. */
  function counts(labels, scores, threshold) {
    const found = { tp: 0, fp: 0, tn: 0, fn: 0 };
    for (let i = 0; i < scores.length; i++) {
      if (scores[i] >= threshold) found[labels[i] ? "tp" : "fp"] += 1;
      else found[labels[i] ? "fn" : "tn"] += 1;
    }
    return found;
  }

  /* alneval.thresholds.operating_point where every unit is its own patient */
  function operatingPoint({ tp, fp, tn, fn }) {
    return {
      sensitivity: wilson(tp, tp + fn),
      specificity: wilson(tn, tn + fp),
      ppv: wilson(tp, tp + fp),
      npv: wilson(tn, tn + fn),
      accuracy: wilson(tp + tn, tp + fp + tn + fn),
    };
  }

  /* alneval.prevalence.predictive_values: PPV and NPV at another prevalence, with intervals on the log odds */
  function predictiveValues({ tp, fp, tn, fn }, prevalence) {
    const positives = tp + fn, negatives = tn + fp;
    const bayes = (hit, rest) => hit / (hit + rest);
    const sensitivity = tp / positives, falseRate = fp / negatives;
    const ppv = bayes(sensitivity * prevalence, falseRate * (1 - prevalence));
    const npv = bayes((1 - falseRate) * (1 - prevalence), (1 - sensitivity) * prevalence);
    const extra = tp === 0 || fn === 0 || fp === 0 || tn === 0 ? 0.5 : 0;
    const nPositive = positives + 2 * extra, nNegative = negatives + 2 * extra;
    const se = (tp + extra) / nPositive, fr = (fp + extra) / nNegative;
    const odds = prevalence / (1 - prevalence);
    const around = (center, error) => [expit(center - Z * error), expit(center + Z * error)];
    const ofPpv = around(
      Math.log((se / fr) * odds),
      Math.sqrt((1 - se) / se / nPositive + (1 - fr) / fr / nNegative),
    );
    const ofNpv = around(
      Math.log((1 - fr) / (1 - se) / odds),
      Math.sqrt(se / (1 - se) / nPositive + fr / (1 - fr) / nNegative),
    );
    const estimate = (value, ends) => (Number.isNaN(value) ? [NaN, NaN, NaN] : [value, ...ends]);
    return { ppv: estimate(ppv, ofPpv), npv: estimate(npv, ofNpv) };
  }

  /* The same where patients have several units: limits from resamples, of which `ratios` holds, for PPV and NPV, how many
     exist and the likelihood ratios of the neighbors of either limit (alneval.site.explorer); null is infinite. */
  function resampledPredictiveValues(counts, prevalence, ratios) {
    const { ppv, npv } = predictiveValues(counts, prevalence);
    const odds = prevalence / (1 - prevalence), tail = (1 - 0.95) / 2;
    const limits = ([n, ...neighbors], against) => {
      const values = neighbors.map((ratio) => 1 / (1 + (ratio ?? Infinity) * against));
      return [tail, 1 - tail].map((share, i) => {
        const place = (n - 1) * share, part = place - Math.floor(place);
        return values[2 * i] + (values[2 * i + 1] - values[2 * i]) * part;
      });
    };
    const estimate = ([value], ends) => (Number.isNaN(value) ? [NaN, NaN, NaN] : [value, ...ends]);
    return { ppv: estimate(ppv, limits(ratios[0], 1 / odds)), npv: estimate(npv, limits(ratios[1], odds)) };
  }

  function expit(x) {
    return 1 / (1 + Math.exp(-x));
  }

  /* alneval.decision_curve.net_benefit at a threshold probability; prevalence null: that of the units */
  function netBenefit({ tp, fp, tn, fn }, threshold, prevalence = null) {
    const odds = threshold / (1 - threshold), n = tp + fp + tn + fn;
    if (prevalence === null) return tp / n - (fp / n) * odds;
    return (prevalence * tp) / (tp + fn) - (((1 - prevalence) * fp) / (fp + tn)) * odds;
  }

  /* alneval.decision_curve.treat_all */
  function treatAll(threshold, prevalence) {
    return prevalence - (1 - prevalence) * (threshold / (1 - threshold));
  }

  /* alneval.curves.roc_curve: [[false positive rate, sensitivity]] from "none called" to "all called" */
  function rocCurve(labels, scores) {
    const order = scores.map((_, i) => i).sort((a, b) => scores[b] - scores[a]);
    const positives = labels.reduce((sum, label) => sum + label, 0), negatives = labels.length - positives;
    const points = [[0, 0]];
    let tp = 0, fp = 0;
    order.forEach((unit, place) => {
      if (labels[unit]) tp += 1;
      else fp += 1;
      if (place + 1 === order.length || scores[order[place + 1]] !== scores[unit]) {
        points.push([fp / negatives, tp / positives]);
      }
    });
    return points;
  }

  /* Of AUCs on several random splits: the one drawn, its rank from below, and what all of them say. */
  function lottery(aucs, drawn) {
    const sorted = [...aucs].sort((a, b) => a - b);
    return {
      auc: aucs[drawn],
      rank: sorted.indexOf(aucs[drawn]) + 1,
      n: aucs.length,
      mean: aucs.reduce((sum, value) => sum + value, 0) / aucs.length,
      lowest: sorted[0],
      highest: sorted[sorted.length - 1],
      best: Math.max(...aucs.slice(0, drawn + 1)),
    };
  }

  return {
    text, estimateText, wilson, counts, operatingPoint, predictiveValues, resampledPredictiveValues, netBenefit, treatAll,
    rocCurve, lottery,
  };
})();

if (typeof module !== "undefined") module.exports = Evaluator;

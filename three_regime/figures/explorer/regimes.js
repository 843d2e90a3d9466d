// The regime of each cell, as three_regime/analysis/regimes.py computes it (`label`). Missing numbers are NaN.
"use strict";

const Regimes = (() => {
  // A study as it stands in the page, with NaN for missing numbers and its measures by name.
  function study(given) {
    const numbers = (values) => values.map((value) => value ?? NaN);
    const measures = given.measures.map((measure) => ({
      ...measure,
      values: numbers(measure.values),
      se: numbers(measure.se),
      seeds: numbers(measure.seeds),
      one_seed: numbers(measure.one_seed),
    }));
    const by = Object.fromEntries(measures.map((measure) => [measure.name, measure]));
    const errors = { dense_error: numbers(given.dense_error), compared_error: numbers(given.compared_error) };
    return { ...given, measures, by, ...errors };
  }

  // Student's t distribution function for a whole number of degrees of freedom (Abramowitz and Stegun, 26.7.3 and
  // 26.7.4): a finite sum in the angle atan(t / √freedom).
  function studentT(t, freedom) {
    const angle = Math.atan(t / Math.sqrt(freedom));
    const sine = Math.sin(angle);
    const cosine = Math.cos(angle);
    let sum = 0;
    if (freedom % 2 === 0) {
      let term = 1;
      for (let k = 2; k <= freedom; k += 2) {
        sum += term;
        term *= (cosine * cosine * (k - 1)) / k;
      }
      return 0.5 + (sine * sum) / 2;
    }
    let term = cosine;
    for (let k = 3; k <= freedom; k += 2) {
      sum += term;
      term *= (cosine * cosine * (k - 1)) / k;
    }
    return 0.5 + (angle + sine * sum) / Math.PI;
  }

  // Probability that the mean lies on its side of the threshold; NaN without a standard error.
  function confidence(measure, place, threshold) {
    const se = measure.se[place];
    const seeds = measure.seeds[place];
    if (!(seeds >= 2) || Number.isNaN(se)) return NaN;
    const distance = Math.abs(measure.values[place] - threshold);
    if (se === 0) return distance === 0 ? 0.5 : 1;
    return studentT(distance / se, seeds - 1);
  }

  // Regime (null: unknown), whether it is decided, its confidence, and the dense seed that dominates the spread.
  function label(study, place, thresholds, rules) {
    const { lmc, cka_softmax: cka } = study.by;
    const connectivity = lmc.values[place];
    const similarity = cka.values[place];
    const poor = connectivity < thresholds.lmc;
    if (study.chance[place]) return { regime: rules.chance, decided: false, confidence: NaN, oneSeed: NaN };
    if (Number.isNaN(connectivity) || (!poor && Number.isNaN(similarity))) {
      return { regime: null, decided: false, confidence: NaN, oneSeed: NaN };
    }
    const regime = poor ? "I" : similarity >= thresholds.cka ? "II-B" : "II-A";
    // Of a cell in Regime I its LMC alone matters.
    const both = Math.min(
      confidence(lmc, place, thresholds.lmc), poor ? 1 : confidence(cka, place, thresholds.cka));
    // Where no cell of the load has a standard error, distance from the threshold decides.
    const far = study.single[place]
      && Math.abs(connectivity - thresholds.lmc) >= rules.lmc_margin
      && (poor || Math.abs(similarity - thresholds.cka) >= rules.cka_margin);
    const decided = Number.isNaN(both) ? far : both >= rules.level;
    const ofLmc = lmc.one_seed[place];
    const oneSeed = Number.isNaN(ofLmc) && !poor ? cka.one_seed[place] : ofLmc;
    return { regime, decided, confidence: both, oneSeed };
  }

  function labels(study, thresholds, rules) {
    return study.chance.map((_, place) => label(study, place, thresholds, rules));
  }

  // How many cells have each regime, are undecided, at chance, or without a regime.
  function count(found, rules) {
    const counts = { undecided: 0, unknown: 0, [rules.chance]: 0 };
    for (const name of rules.regimes) counts[name] = 0;
    for (const { regime, decided } of found) {
      counts[regime ?? "unknown"] += 1;
      if (regime !== null && regime !== rules.chance && !decided) counts.undecided += 1;
    }
    return counts;
  }

  // Edges between cells on different sides of a border, in cell coordinates: runs [x1, y1, x2, y2]. "lmc" parts
  // Regime I from the rest, "cka" II-A from II-B; beside a cell without a regime there is none.
  function borders(found, rows, columns, border) {
    const side = (row, column) => {
      const { regime } = found[row * columns + column];
      if (!["I", "II-A", "II-B"].includes(regime)) return null;
      if (border === "lmc") return regime === "I";
      return regime === "I" ? null : regime === "II-B";
    };
    const differ = (a, b) => a !== null && b !== null && a !== b;
    const runs = [];
    const collect = (length, across, test, edge) => {
      for (let line = 1; line < across; line += 1) {
        let begin = null;
        for (let at = 0; at <= length; at += 1) {
          const here = at < length && test(line, at);
          if (here && begin === null) begin = at;
          if (!here && begin !== null) {
            runs.push(edge(line, begin, at));
            begin = null;
          }
        }
      }
    };
    collect(columns, rows, (row, column) => differ(side(row - 1, column), side(row, column)),
      (row, from, to) => [from, row, to, row]);
    collect(rows, columns, (column, row) => differ(side(row, column - 1), side(row, column)),
      (column, from, to) => [column, from, column, to]);
    return runs;
  }

  return { study, label, labels, count, borders };
})();

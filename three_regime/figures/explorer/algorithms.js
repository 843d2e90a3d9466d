// Temperature tuning and model selection, as three_regime/analysis/algorithms.py does them (`evaluate`, `summary`).
// All work on one column, the cells of one density (or other load) from hot to cold. Missing numbers are NaN.
"use strict";

const Algorithms = (() => {
  const known = (value) => !Number.isNaN(value);

  // A cell at chance counts as poorly connected.
  function lmc(study, place) {
    const value = study.by.lmc.values[place];
    return study.chance[place] && known(value) ? -1 : value;
  }

  // The candidates at one density.
  function column(study, index) {
    const count = study.loads.length;
    const places = study.temperatures.map((_, row) => row * count + index);
    const of = (values) => places.map((place) => values[place]);
    return {
      at: study.loads[index],
      temperatures: study.temperatures,
      lmc: places.map((place) => lmc(study, place)),
      cka: of(study.by.cka_softmax.values),
      denseError: of(study.dense_error),
      testError: of(study.compared_error),
    };
  }

  const choice = (index, path) => ({ index, path, probes: new Set(path).size });

  // Places by increasing value, the colder (later) first among equals, NaN last.
  function coldestFirstBy(values) {
    const order = [...values.keys()];
    const worth = (value) => (known(value) ? value : Infinity);
    return order.sort((a, b) => known(values[b]) - known(values[a]) || worth(values[a]) - worth(values[b]) || b - a);
  }

  // Hotter, a step at a time, out of Regime I; or colder while the next cell stays connected and its CKA rises.
  function algorithm1({ lmc, cka }, threshold, start) {
    const seen = [];
    const look = (index) => {
      const inside = index >= 0 && index < lmc.length && known(lmc[index]);
      if (inside) seen.push(index);
      return inside;
    };
    let here = start;
    if (look(here)) {
      if (lmc[here] < threshold) {
        while (lmc[here] < threshold && look(here - 1)) here -= 1;
      } else {
        while (look(here + 1) && lmc[here + 1] >= threshold && cka[here + 1] > cka[here]) here += 1;
      }
    }
    return choice(here, seen);
  }

  // Of the candidates not in Regime I, the lowest dense error; none connected: the highest LMC.
  function algorithm2({ lmc, denseError }, threshold) {
    const usable = lmc.map((value, index) => known(value) && known(denseError[index]));
    const order = coldestFirstBy(denseError).filter((index) => usable[index]);
    if (!order.length) return null;
    const rank = order.findIndex((index) => lmc[index] >= threshold);
    if (rank >= 0) return choice(order[rank], order.slice(0, rank + 1));
    return choice(coldestFirstBy(lmc.map((value, index) => (usable[index] ? -value : Infinity)))[0], order);
  }

  // Of the candidates not in Regime I, the highest CKA; none connected: the highest LMC.
  function algorithm21({ lmc, cka }, threshold) {
    const usable = lmc.map((value, index) => known(value) && known(cka[index]));
    if (!usable.includes(true)) return null;
    const connected = usable.map((value, index) => value && lmc[index] >= threshold);
    const worth = connected.includes(true)
      ? cka.map((value, index) => (connected[index] ? -value : Infinity))
      : lmc.map((value, index) => (usable[index] ? -value : Infinity));
    return choice(coldestFirstBy(worth)[0], [...usable.keys()].filter((index) => usable[index]));
  }

  function lowest(values, path) {
    return values.some(known) ? choice(coldestFirstBy(values)[0], path) : null;
  }

  function outcome(candidates, chosen) {
    const run = candidates.testError.filter(known);
    const best = run.length ? Math.min(...run) : NaN;
    const error = candidates.testError[chosen.index];
    return {
      at: candidates.at,
      temperature: candidates.temperatures[chosen.index],
      test_error: error,
      oracle_error: best,
      regret: error - best,
      probes: chosen.probes,
      index: chosen.index,
      path: chosen.path,
    };
  }

  // Every method on every density; `start` is the temperature from which Algorithm 1 set out, else null.
  function evaluate(study, threshold) {
    const rows = [];
    study.loads.forEach((_, index) => {
      const candidates = column(study, index);
      const { lmc, denseError, testError } = candidates;
      lmc.forEach((value, start) => {
        if (!known(value)) return;
        const chosen = algorithm1(candidates, threshold, start);
        rows.push({ algorithm: "algorithm 1", start: study.temperatures[start], ...outcome(candidates, chosen) });
      });
      const run = [...testError.keys()].filter((place) => known(testError[place]));
      const others = {
        "algorithm 2": algorithm2(candidates, threshold),
        "algorithm 2.1": algorithm21(candidates, threshold),
        "lowest dense error": lowest(denseError, []),
        oracle: lowest(testError, run),
        "default temperature": study.default_temperature < 0 ? null : choice(study.default_temperature, []),
      };
      for (const [algorithm, chosen] of Object.entries(others)) {
        if (chosen) rows.push({ algorithm, start: null, ...outcome(candidates, chosen) });
      }
    });
    return rows;
  }

  // Mean and worst regret over densities; `start` is a temperature, "all" (Algorithm 1 from each) or null.
  function summary(rows) {
    const groups = new Map();
    const add = (row, start) => {
      const key = `${row.algorithm}|${start}`;
      if (!groups.has(key)) groups.set(key, { algorithm: row.algorithm, start, rows: [] });
      groups.get(key).rows.push(row);
    };
    for (const row of rows.filter((each) => known(each.regret))) {
      add(row, row.start);
      if (row.start !== null) add(row, "all");
    }
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    return [...groups.values()].map((group) => ({
      algorithm: group.algorithm,
      start: group.start,
      mean_regret: mean(group.rows.map((row) => row.regret)),
      worst_regret: Math.max(...group.rows.map((row) => row.regret)),
      mean_probes: mean(group.rows.map((row) => row.probes)),
      rows: group.rows,
    }));
  }

  return { evaluate, summary };
})();

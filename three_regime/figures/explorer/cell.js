// What is known about one cell: charts of its lines, curves and points, its numbers, its provenance.
"use strict";

const Cell = (() => {
  const { chart, element, extent, html, key, known, line, mark, number, scaled, table } = Charts;

  const rowOf = (study, cell) => Math.floor(cell / study.loads.length);
  const columnOf = (study, cell) => cell % study.loads.length;

  const decimalsOf = (measure) => (measure.factor === 100 ? 1 : 3);

  const seedsOf = (study) => [...new Set(study.points.replicas.concat(study.points.pairs).map((row) => row[1]))].sort((a, b) => a - b);

  // Whether dense seeds are too many to have a look each.
  const areMany = (seeds, look) => seeds.length > look.seeds.length;

  // Colour and marker of a dense seed.
  const looksOf = (study, look) => {
    const seeds = seedsOf(study);
    return (seed) => (areMany(seeds, look) ? look.many_seeds : look.seeds[Math.max(0, seeds.indexOf(seed))]);
  };

  // Ticks of an axis of so many pixels on which dense seeds stand side by side, their names not touching.
  function seedTicks(seeds, pixels) {
    const need = 7 * Math.max(...seeds.map((seed) => String(seed).length)) + 6;
    const step = Math.ceil((need * seeds.length) / pixels);
    const at = seeds.map((_, place) => place).filter((place) => place % step === 0);
    return { ticks: at, names: at.map((place) => String(seeds[place])) };
  }

  // Rows of charts: errors on the lines between replicas, retraining curves, every replica and pair as a point.
  function charts(study, cell, thresholds, look) {
    if (!study.points) return [];
    const drawn = [lineCharts(study, cell, look), curveCharts(study, cell, look), pointCharts(study, cell, thresholds, look)];
    return drawn.filter((row) => row.length);
  }

  const ofCell = (rows, cell) => rows.filter((row) => row[0] === cell);

  // Mean within each dense seed, then over dense seeds.
  function seedMeans(rows, values) {
    const bySeed = new Map();
    for (const row of rows) bySeed.set(row[1], [...(bySeed.get(row[1]) ?? []), values(row)]);
    const mean = (lists) => lists[0].map((_, index) => {
      const there = lists.map((list) => list[index]).filter(known);
      return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : null;
    });
    return bySeed.size ? mean([...bySeed.values()].map(mean)) : [];
  }

  function lineCharts(study, cell, look) {
    const rows = ofCell(study.lines.rows, cell);
    if (!rows.length) return [];
    const style = looksOf(study, look);
    return study.lines.labels.map((label, index) => {
      const factor = study.lines.factors[index];
      const values = (row) => row[3 + index].map((value) => scaled(value, factor));
      const mean = seedMeans(rows, values);
      const ends = scaled(mean[0], 0.5) + scaled(mean[mean.length - 1], 0.5);
      return chart({
        title: `Line between replicas: ${label}`,
        x: { domain: [0, 1], label: "position t on the line", ticks: [0, 0.5, 1] },
        y: { domain: extent(rows.flatMap(values), 0.2) },
      }, (x, y, body) => {
        const xs = study.lines.at.map(x);
        for (const row of rows) {
          const drawn = line(xs, values(row).map((value) => (known(value) ? y(value) : null)), { stroke: style(row[1]).colour, class: "thin" });
          drawn.append(element("title", {}, `dense seed ${row[1]}, pair ${row[2]}`));
          body.append(drawn);
        }
        if (known(ends)) body.append(line([x(0), x(1)], [y(ends), y(ends)], { class: "ends" }));
        body.append(line(xs, mean.map((value) => (known(value) ? y(value) : null)), { class: "mean" }));
      });
    });
  }

  function curveCharts(study, cell, look) {
    const rows = ofCell(study.curves.rows, cell);
    if (!rows.length) return [];
    const style = looksOf(study, look);
    const { at } = study.curves;
    return study.curves.labels.map((label, index) => {
      const factor = study.curves.factors[index];
      const values = (row) => row[3 + index].map((value) => scaled(value, factor));
      return chart({
        title: `Retraining: ${label}`,
        x: { domain: [at[0], at[at.length - 1]], label: "epoch" },
        y: { domain: extent(rows.flatMap(values), 0.02) },
      }, (x, y, body) => {
        const xs = at.map(x);
        const drawn = (list) => list.map((value) => (known(value) ? y(value) : null));
        for (const row of rows) {
          const path = line(xs, drawn(values(row)), { stroke: style(row[1]).colour, class: "thin" });
          path.append(element("title", {}, `dense seed ${row[1]}, replica ${row[2]}`));
          body.append(path);
        }
        body.append(line(xs, drawn(seedMeans(rows, values)), { class: "mean" }));
      });
    });
  }

  function pointCharts(study, cell, thresholds, look) {
    const { lmc, cka_softmax: cka, test_error: error } = study.by;
    const wanted = [
      [error, ofCell(study.points.replicas, cell), 3, "replica", null],
      [lmc, ofCell(study.points.pairs, cell), 3, "pair", thresholds.lmc],
      [cka, ofCell(study.points.pairs, cell), 4, "pair", thresholds.cka],
    ];
    const seeds = seedsOf(study);
    const style = looksOf(study, look);
    return wanted.filter(([, rows, index]) => rows.some((row) => known(row[index]))).map(([measure, rows, index, member, threshold]) => {
      const { factor } = measure;
      const values = rows.map((row) => scaled(row[index], factor));
      const [mean, se] = [measure.values[cell], measure.se[cell]].map((value) => scaled(value, factor));
      const all = [...values, mean - (se || 0), mean + (se || 0)];
      // The threshold is shown where it is not so far away that nothing else could be seen.
      const [low, high] = extent(all, factor * 0.002);
      const near = threshold !== null && Math.abs(threshold * factor - mean) < 4 * (high - low);
      return chart({
        title: `${measure.label}, every ${member}`,
        width: 220,
        height: 170,
        x: {
          domain: [-0.5, seeds.length - 0.5], label: "dense seed", ...seedTicks(seeds, 160),
        },
        y: { domain: near ? extent([...all, threshold * factor], factor * 0.002) : [low, high] },
      }, (x, y, body) => {
        const [left, right] = [x(-0.5), x(seeds.length - 0.5)];
        if (known(se)) {
          body.append(element("rect", { x: left, width: right - left, y: y(mean + se), height: Math.max(1, y(mean - se) - y(mean + se)), class: "spread" }));
        }
        body.append(line([left, right], [y(mean), y(mean)], { class: "mean flat" }));
        if (near) body.append(line([left, right], [y(threshold * factor), y(threshold * factor)], { class: "threshold" }));
        rows.forEach((row, at) => {
          const mates = rows.filter((each) => each[1] === row[1]);
          const shift = (mates.indexOf(row) - (mates.length - 1) / 2) * Math.min(0.16, 0.7 / mates.length);
          const said = `dense seed ${row[1]}, ${member} ${row[2]}: ${number(values[at], decimalsOf(measure) + 1)}`;
          if (known(row[index])) body.append(mark(style(row[1]).marker, x(seeds.indexOf(row[1]) + shift), y(values[at]), 3.4, style(row[1]).colour, said));
        });
      });
    });
  }

  // What the charts on the page show.
  function keys(study, look) {
    const seeds = seedsOf(study);
    const seedKey = ({ colour, marker }, words) => key([
      element("line", { x1: 1, x2: 25, y1: 7, y2: 7, stroke: colour, class: "thin" }), mark(marker, 13, 7, 3.4, colour),
    ], words);
    const shown = areMany(seeds, look)
      ? [seedKey(look.many_seeds, "dense seeds")]
      : seeds.map((seed) => seedKey(looksOf(study, look)(seed), `dense seed ${seed}`));
    const stroke = (name) => element("line", { x1: 1, x2: 25, y1: 7, y2: 7, class: name });
    const others = {
      mean: [stroke("mean"), "mean over dense seeds"],
      ends: [stroke("ends"), "mean of the ends"],
      spread: [element("rect", { x: 1, y: 2, width: 24, height: 10, class: "spread" }), "± standard error"],
      threshold: [stroke("threshold"), "threshold"],
    };
    for (const [name, [drawn, words]] of Object.entries(others)) {
      if (document.querySelector(`#cell-charts .${name}`)) shown.push(key(drawn, words));
    }
    const { at, every } = study.curves;
    if (at.length < every) shown.push(html("span", { class: "key" }, `${at.length} of ${every} epochs are drawn`));
    return shown;
  }

  // The values behind the points.
  function numberTables(study, cell) {
    if (!study.points) return [];
    const { test_error: error, lmc, cka_softmax: cka } = study.by;
    const shownAs = (value, measure) => number(scaled(value, measure.factor), decimalsOf(measure) + 1);
    return [
      table(["dense seed", "replica", error.label],
        ofCell(study.points.replicas, cell).map((row) => [String(row[1]), row[2], shownAs(row[3], error)])),
      table(["dense seed", "pair", lmc.label, cka.label],
        ofCell(study.points.pairs, cell).map((row) => [String(row[1]), row[2], shownAs(row[3], lmc), shownAs(row[4], cka)])),
    ];
  }

  function provenanceTable(study, cell) {
    if (!study.provenance) return html("p", {}, "Digitised from the authors’ published figure (reference/figure2).");
    const { results, environments, summary } = study.provenance;
    const [row, column] = [rowOf(study, cell), columnOf(study, cell)];
    const own = results.filter((each) => each[0] === row && (each[1] < 0 || each[1] === column));
    if (own.length) {
      const head = ["stage", "dense seed", "replica or pair", "origin", "device", "threads", "torch", "commit", "seconds", "finished", "fingerprint"];
      return table(head, own.map(([, , stage, seed, member, about, seconds, finished, fingerprint]) => {
        const [origin, device, threads, torch, commit] = environments[about];
        return [stage, String(seed), member, origin, device, threads, torch, commit.slice(0, 8), number(seconds, 1), finished, fingerprint];
      }));
    }
    if (!summary.length) return html("p", {}, "Nothing is recorded for this cell.");
    return table(["of all cells", ""], summary);
  }

  return { charts, columnOf, decimalsOf, keys, numberTables, provenanceTable, rowOf, seedsOf };
})();

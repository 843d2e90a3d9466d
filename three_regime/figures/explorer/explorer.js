// The page: what is chosen (study, colour, thresholds, cell, algorithm), and everything that follows from it.
"use strict";

(() => {
  const { element, html, key, known, number, scaled, shade, table, text, ticks } = Charts;
  const { columnOf, decimalsOf, rowOf, seedsOf } = Cell;
  const { studies: given, rules, look } = JSON.parse(document.getElementById("content").textContent);
  const studies = given.map(Regimes.study);
  const byId = (id) => document.getElementById(id);
  // `alone` is a chosen cell of the published figure that the study does not have; otherwise null.
  const state = { study: null, measure: "lmc", thresholds: null, cell: -1, alone: null, method: "algorithm 1|cold" };

  const published = studies.find((study) => study.name === "published");

  // Studies whose phase diagrams stand side by side: the published figure and what repeats it, or one alone.
  const shown = () => (state.study.compared && published ? [published, state.study] : [state.study]);

  const place = (study, row, column) => row * study.loads.length + column;

  // The cell of `study` at the temperature and load of a cell of another; −1 where it has none.
  function counterpart(other, cell, study) {
    const row = study.temperatures.indexOf(other.temperatures[rowOf(other, cell)]);
    const load = other.loads[columnOf(other, cell)];
    const column = study.loads.findIndex((value) => Math.abs(value - load) < 1e-6);
    return row < 0 || column < 0 ? -1 : place(study, row, column);
  }

  // The chosen cell in the diagram of `study`; −1 where it has none.
  function chosenIn(study) {
    if (study === state.study) return state.alone === null ? state.cell : -1;
    return state.alone ?? counterpart(state.study, state.cell, study);
  }

  // What follows from the thresholds, computed once for each study until they change.
  const memory = { thresholds: null, labels: new Map(), choices: new Map() };

  function remembered(kind, study, compute) {
    if (memory.thresholds !== state.thresholds) {
      Object.assign(memory, { thresholds: state.thresholds, labels: new Map(), choices: new Map() });
    }
    if (!memory[kind].has(study)) memory[kind].set(study, compute());
    return memory[kind].get(study);
  }

  const labelsOf = (study) => remembered("labels", study, () => Regimes.labels(study, state.thresholds, rules));
  const choicesOf = (study) => remembered("choices", study, () => Algorithms.evaluate(study, state.thresholds.lmc));

  const where = (study, cell) =>
    `${study.knob} ${number(study.temperatures[rowOf(study, cell)])}, `
    + `${study.load.noun} ${study.load.texts[columnOf(study, cell)]}${study.load.unit}`;

  const isKnownCell = (study, cell) => study.measures.some((measure) => known(measure.values[cell]));

  const shownValue = (measure, cell) => number(scaled(measure.values[cell], measure.factor), decimalsOf(measure));

  function regimeWords({ regime, decided }) {
    if (regime === rules.chance) return "at chance, no regime";
    if (regime === null) return "no regime";
    return `Regime ${regime}, ${decided ? "decided" : "undecided"}`;
  }

  // Phase diagram ------------------------------------------------------------------------------------------------

  // Ends of the colours, the same for all studies shown; as in the figures they are not so near that noise spans them.
  function colourRange(name) {
    const those = shown().filter((study) => study.by[name]);
    const all = (kind) => those.flatMap((study) =>
      study.by[name][kind].filter((value, cell) => known(value) && !study.chance[cell]));
    const [values, errors] = [all("values"), all("se").sort((a, b) => a - b)];
    if (!values.length) return [0, 1];
    let [low, high] = [Math.min(...values), Math.max(...values)];
    // Without a cell in Regime I the colours of LMC would show noise alone.
    if (name === "lmc") [low, high] = [Math.min(low, state.study.thresholds.lmc), Math.max(high, 0)];
    const { least_range: usual, ends } = those[0].by[name];
    const middle = (errors.length - 1) / 2;
    const median = (errors[Math.floor(middle)] + errors[Math.ceil(middle)]) / 2;
    const least = errors.length ? rules.noise * median : usual;
    return widened(low, high, high - low < 1e-9 ? Math.max(least, 0.01) : least, ends);
  }

  // A range around this one, at least so wide and within the possible values.
  function widened(low, high, least, [bottom, top]) {
    const size = Math.max(high - low, least);
    const start = Math.min(Math.max((low + high - size) / 2, bottom ?? -Infinity), (top ?? Infinity) - size);
    return [Math.max(start, bottom ?? -Infinity), start + size];
  }

  function diagram(study, found, chosen, width, heading) {
    const measure = study.by[state.measure];
    const [rows, columns] = [study.temperatures.length, study.loads.length];
    const frame = { left: 58, right: 6, top: heading ? 76 : 54, bottom: 42 };
    const cellWidth = Math.min(150, (width - frame.left - frame.right) / columns);
    // Few rows are high enough for the name of their axis, few columns wide enough for that of the measure.
    const cellHeight = Math.max(170 / rows, Math.min(68, Math.max(30, cellWidth * 0.62)));
    const [right, bottom] = [frame.left + columns * cellWidth, frame.top + rows * cellHeight];
    const toX = (column) => frame.left + column * cellWidth;
    const toY = (row) => frame.top + row * cellHeight;
    const [low, high] = colourRange(state.measure);
    const ramp = measure?.low_is_good ? look.light_is_low : look.light_is_high;
    const label = measure ? measure.label : `${state.measure}: not measured`;
    const svg = element("svg", {
      width: Math.max(right + frame.right, frame.left + 7 * label.length), height: bottom + frame.bottom, role: "grid", class: "plane",
      "aria-label": `${study.title}: ${label}`, "data-study": study.name,
    });
    if (heading) svg.append(text(frame.left, 15, heading, { class: "heading" }));
    svg.append(...colourBar(label, ramp, low, high, measure?.factor ?? 1, frame.left, right, frame.top - 54));

    const active = chosenIn(study);
    const tabStop = Math.max(0, active);
    for (let row = 0; row < rows; row += 1) {
      const line = element("g", { role: "row" });
      for (let column = 0; column < columns; column += 1) {
        const cell = place(study, row, column);
        const group = element("g", {
          role: "gridcell", class: "cell", tabindex: cell === tabStop ? 0 : -1, "data-cell": cell,
          "aria-selected": String(cell === active),
          "aria-label": `${where(study, cell)}: ${label} ${measure ? shownValue(measure, cell) : "–"}, ${regimeWords(found[cell])}`,
        });
        group.append(...cellParts(study, found[cell], cell, measure, {
          x: toX(column), y: toY(row), width: cellWidth, height: cellHeight,
          colour: measure && known(measure.values[cell]) ? shade(ramp, (measure.values[cell] - low) / (high - low)) : null,
        }));
        group.addEventListener("click", () => choose(study, cell, true));
        group.addEventListener("keydown", (event) => move(event, study, row, column));
        line.append(group);
      }
      svg.append(line);
      svg.append(text(frame.left - 6, toY(row + 0.5) + 4, number(study.temperatures[row]), { "text-anchor": "end" }));
    }
    study.load.texts.forEach((shownLoad, column) => svg.append(
      text(toX(column + 0.5), bottom + 15, shownLoad, { "text-anchor": "middle" })));
    svg.append(element("rect", {
      x: frame.left, y: frame.top, width: right - frame.left, height: bottom - frame.top, class: "frame",
    }));
    svg.append(text((frame.left + right) / 2, bottom + 34, study.load.label, { "text-anchor": "middle" }));
    svg.append(text(0, 0, `cold ← ${study.knob} → hot`, {
      "text-anchor": "middle", transform: `translate(13 ${(frame.top + bottom) / 2}) rotate(-90)`,
    }));
    svg.append(...borderLines(found, rows, columns, toX, toY));
    svg.append(...choiceMarks(study, chosen, toX, toY));
    if (active >= 0) {
      const box = { x: toX(columnOf(study, active)), y: toY(rowOf(study, active)), width: cellWidth, height: cellHeight };
      svg.append(element("rect", { ...box, class: "chosen casing" }), element("rect", { ...box, class: "chosen" }));
    }
    return svg;
  }

  function colourBar(label, ramp, low, high, factor, left, right, top) {
    const id = `ramp-${Math.random().toString(36).slice(2)}`;
    const stops = ramp.map((colour, index) =>
      element("stop", { offset: index / (ramp.length - 1), "stop-color": colour }));
    const parts = [
      element("defs", {}, element("linearGradient", { id }, stops)),
      text(left, top + 11, label, { class: "bar-label" }),
      element("rect", { x: left, y: top + 33, width: right - left, height: 8, fill: `url(#${id})`, class: "frame" }),
    ];
    const { values, decimals } = ticks(low * factor, high * factor, Math.max(2, Math.min(5, (right - left) / 70)));
    for (const value of values) {
      const x = left + ((value / factor - low) / (high - low)) * (right - left);
      parts.push(text(Math.min(Math.max(x, left + 8), right - 8), top + 28, number(value, decimals), { "text-anchor": "middle", class: "small" }));
    }
    return parts;
  }

  // Whether one dense seed dominates the spread of the measure shown, as in the figures.
  const oneSeedSpread = (measure, cell) => known(measure?.one_seed[cell] ?? NaN);

  function cellParts(study, { regime, decided }, cell, measure, box) {
    const { x, y, width, height, colour } = box;
    const missing = !colour;
    const chance = regime === rules.chance;
    const fill = missing ? "url(#not-run)" : chance ? "#b3b3b3" : colour.fill;
    const dark = !missing && !chance && !colour.light;
    const parts = [element("rect", { x, y, width, height, fill, class: "body" })];
    if (missing && !isKnownCell(study, cell)) {
      parts.push(element("title", {}, `${where(study, cell)}: not run`));
      return parts;
    }
    const named = regime === null ? "" : chance ? "chance" : regime;
    const centre = { "text-anchor": "middle", class: dark ? "on-dark" : "on-light" };
    if (width >= 44 && !missing) {
      parts.push(text(x + width / 2, y + height / 2 - 1, shownValue(measure, cell), centre));
      parts.push(text(x + width / 2, y + height / 2 + 12, named, { ...centre, class: `${centre.class} regime` }));
    } else if (width >= 24) {
      parts.push(text(x + width / 2, y + height / 2 + 4, named, { ...centre, class: `${centre.class} regime` }));
    }
    if (decided) {
      const [inset, r] = width >= 70 ? [8, 3.2] : [4.5, 2.2]; // beside the value, not on its sign
      parts.push(element("circle", { cx: x + inset, cy: y + inset, r, class: "decided" }));
    }
    if (oneSeedSpread(measure, cell) && !chance) {
      parts.push(element("path", { d: `M${x + width - 3},${y + 3}v9l-9,-9z`, fill: look.mark, class: "one-seed" }));
    }
    parts.push(element("title", {}, `${where(study, cell)}: ${regimeWords({ regime, decided })}`));
    return parts;
  }

  function borderLines(found, rows, columns, toX, toY) {
    const drawn = ["lmc", "cka"].flatMap((border) =>
      Regimes.borders(found, rows, columns, border).map(([x1, y1, x2, y2]) => ({
        border, ends: { x1: toX(x1), y1: toY(y1), x2: toX(x2), y2: toY(y2) },
      })));
    return [
      ...drawn.map(({ ends }) => element("line", { ...ends, class: "border casing" })),
      ...drawn.map(({ border, ends }) => element("line", { ...ends, class: `border ${border}` })),
    ];
  }

  const diamond = (x, y, size, name) =>
    element("path", { d: `M${x},${y - size}l${size},${size}l${-size},${size}l${-size},${-size}z`, class: name });

  // What the chosen method settled on (filled) and what else it probed (open), at the foot of the cells.
  function choiceMarks(study, rowsOfMethod, toX, toY) {
    return rowsOfMethod.flatMap((row) => {
      const column = study.loads.indexOf(row.at);
      const at = (index) => [toX(column + 1) - 9, toY(index + 1) - 9];
      const candidates = study.temperatures.filter((_, index) => known(study.by.lmc.values[place(study, index, column)]));
      // Of a method that looks at every cell they would say nothing.
      const looked = [...new Set(row.path)];
      const probed = looked.length < candidates.length ? looked.filter((index) => index !== row.index) : [];
      return [
        ...probed.map((index) => diamond(...at(index), 4, "probed")),
        diamond(...at(row.index), 6.5, "choice"),
      ];
    });
  }

  function move(event, study, row, column) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const ends = { Home: [row, 0], End: [row, study.loads.length - 1] }[event.key];
    if (!step && !ends) return;
    event.preventDefault();
    const [toRow, toColumn] = ends ?? [row + step[0], column + step[1]];
    if (toRow < 0 || toColumn < 0 || toRow >= study.temperatures.length || toColumn >= study.loads.length) return;
    choose(study, place(study, toRow, toColumn), true);
  }

  // A cell of either diagram; that of the other study follows where it has one.
  function choose(study, cell, focus) {
    const own = study === state.study ? cell : counterpart(study, cell, state.study);
    state.alone = own < 0 ? cell : null;
    if (own >= 0) state.cell = own;
    drawDiagrams();
    drawCell();
    if (focus) document.querySelector(`svg[data-study="${CSS.escape(study.name)}"] [data-cell="${cell}"]`)?.focus();
  }

  // The width that the diagrams were drawn for.
  let drawnFor = 0;

  function drawDiagrams() {
    const several = shown().length > 1;
    const room = byId("diagrams").clientWidth || 600;
    drawnFor = room;
    const width = several && room > 700 ? Math.floor((room - 24) / 2) : room;
    byId("diagrams").replaceChildren(...shown().map((study) => {
      const heading = several ? (study === published ? "published" : "obtained") : "";
      return diagram(study, labelsOf(study), rowsOfMethod(study), width, heading);
    }));
    // What is put there is read out.
    const counts = shown().map((study) => countLine(study, several));
    const said = counts.map((line) => line.outerHTML).join("");
    if (byId("counts").innerHTML !== said) byId("counts").replaceChildren(...counts);
    drawLegend();
  }

  function countLine(study, several) {
    const counts = Regimes.count(labelsOf(study), rules);
    const said = rules.regimes.map((name) => `Regime ${name}: ${counts[name]}`);
    said.push(`undecided: ${counts.undecided}`);
    if (counts[rules.chance]) said.push(`at chance: ${counts[rules.chance]}`);
    if (counts.unknown) said.push(`without a regime: ${counts.unknown}`);
    const name = several ? `${study === published ? "published" : "obtained"} — ` : "";
    return html("span", { class: "count", "data-study": study.name }, name + said.join(" · "));
  }

  function drawLegend() {
    const all = shown().map((study) => [study, labelsOf(study)]);
    const some = (test) => all.some(([study, found]) => found.some((label, cell) => test(label, study, cell)));
    const border = (name) => all.some(([study, found]) =>
      Regimes.borders(found, study.temperatures.length, study.loads.length, name).length > 0);
    const rule = (name, words) => (border(name)
      ? key(element("line", { x1: 1, x2: 25, y1: 7, y2: 7, class: `border ${name}` }), words)
      : html("span", { class: "key" }, `no ${words}`));
    const keys = [
      rule("lmc", `border of Regime I (LMC = ${number(state.thresholds.lmc)})`),
      rule("cka", `border II-A / II-B (CKA = ${number(state.thresholds.cka)})`),
    ];
    if (some((label) => label.decided)) {
      const sure = some((label) => label.decided && known(label.confidence));
      keys.push(key(element("circle", { cx: 13, cy: 7, r: 3.2, class: "decided" }),
        sure ? "regime decided" : "far from thresholds (no standard error)"));
    }
    if (some((label, study, cell) => oneSeedSpread(study.by[state.measure], cell) && label.regime !== rules.chance)) {
      keys.push(key(element("path", { d: "M18,2v9l-9,-9z", fill: look.mark, class: "one-seed" }), "spread dominated by one seed"));
    }
    if (some((label) => label.regime === rules.chance)) {
      keys.push(key(element("rect", { x: 6, y: 1, width: 14, height: 12, fill: "#b3b3b3" }), "at chance"));
    }
    if (some((label, study, cell) => !known(study.by[state.measure]?.values[cell]))) {
      keys.push(key(element("rect", { x: 6, y: 1, width: 14, height: 12, fill: "url(#not-run)" }), "not run"));
    }
    keys.push(key(diamond(13, 7, 6.5, "choice"), `chosen by ${methodWords(state.method, shown().length > 1 ? null : state.study)}`));
    if (document.querySelector("#diagrams .probed")) {
      keys.push(key(diamond(13, 7, 4, "probed"), "probed"));
    }
    const inherited = state.study.thresholds.inherited;
    if (inherited) keys.push(html("span", { class: "key" }, `thresholds set for ${inherited}, not for this data set`));
    byId("legend").replaceChildren(...keys);
  }

  // One cell -------------------------------------------------------------------------------------------------------

  function drawCell() {
    const { study } = state;
    const cell = chosenIn(study);
    const [source, at] = cell < 0 ? [published, state.alone] : [study, cell];
    const sentence = regimeSentence(labelsOf(source)[at]);
    byId("cell-title").textContent = `Cell: ${where(source, at)}`;
    byId("cell-regime").textContent = cell < 0 ? `Not obtained. Published: ${sentence}` : sentence;
    byId("cell-measures").replaceChildren(measureTable(cell));
    const drawn = Cell.charts(study, cell, state.thresholds, look);
    byId("cell-charts").replaceChildren(...drawn.map((row) => html("div", { class: "charts" }, row)));
    byId("cell-key").replaceChildren(...(drawn.length ? Cell.keys(study, look) : []));
    byId("cell-numbers").hidden = !drawn.length;
    byId("cell-numbers").lastElementChild.replaceChildren(...Cell.numberTables(study, cell));
    byId("cell-provenance").lastElementChild.replaceChildren(Cell.provenanceTable(source, at));
  }

  function regimeSentence(found) {
    if (found.regime === rules.chance) return "At chance: networks that answer no better than chance have no regime.";
    if (found.regime === null) return "No regime: LMC, or the CKA of a connected cell, was not measured.";
    const sure = Number.isNaN(found.confidence)
      ? `${found.decided ? "decided" : "undecided"} by its distance from the threshold (no standard error)`
      : `${found.decided ? "decided" : "undecided"} (confidence ${number(found.confidence, 2)})`;
    const one = known(found.oneSeed) ? `; dense seed ${number(found.oneSeed)} dominates the spread` : "";
    const meaning = { I: "poorly connected", "II-A": "connected, outputs dissimilar", "II-B": "connected, outputs similar" };
    return `Regime ${found.regime}: ${meaning[found.regime]}; ${sure}${one}.`;
  }

  function measureTable(cell) {
    const others = shown().filter((study) => study !== state.study);
    const head = ["", "mean", "standard error", "dense seeds", ...others.map(() => "published (bounds of digitising)")];
    const rows = state.study.measures.filter((measure) => known(measure.values[cell]) || others.length).map((measure) => [
      measure.label,
      number(scaled(measure.values[cell], measure.factor), decimalsOf(measure) + 1),
      number(scaled(measure.se[cell], measure.factor), decimalsOf(measure) + 1),
      number(measure.seeds[cell]),
      ...others.map((study) => boundedValue(study, measure.name)),
    ]);
    if (!others.length && state.study === published) {
      head.splice(1, 3, "published", "bounds of digitising");
      rows.forEach((row, index) => row.splice(2, 2, bounds(published.measures[index], cell)));
    }
    return table(head, rows);
  }

  function boundedValue(study, name) {
    const cell = chosenIn(study);
    const measure = study.by[name];
    if (cell < 0 || !measure || !known(measure.values[cell])) return "–";
    const value = number(measure.values[cell] * measure.factor, decimalsOf(measure) + 1);
    return measure.bounds ? `${value} (${bounds(measure, cell)})` : value;
  }

  const bounds = (measure, cell) => (measure.bounds ?? []).map((values) =>
    number(scaled(values[cell], measure.factor), decimalsOf(measure) + 1)).join(" to ");

  // Algorithms -----------------------------------------------------------------------------------------------------

  const ALGORITHM_1 = "algorithm 1";

  // With the temperature of its start, which depends on the study.
  function methodWords(method, study) {
    const [algorithm, start] = method.split("|");
    const name = algorithm[0].toUpperCase() + algorithm.slice(1);
    if (start === "all") return `${name}, mean over every start`;
    if (start === "") return name;
    const at = study ? ` (${number(startOf(study, start))})` : "";
    return `${name} from the ${{ cold: "coldest", hot: "hottest" }[start]}${at}`;
  }

  function startOf(study, start) {
    if (start === "cold") return study.temperatures[study.temperatures.length - 1];
    if (start === "hot") return study.temperatures[0];
    return start === "" ? null : start;
  }

  function rowsOfMethod(study, method = state.method) {
    const [algorithm, start] = method.split("|");
    return choicesOf(study).filter(
      (row) => row.algorithm === algorithm && row.start === startOf(study, start));
  }

  const METHODS = [
    `${ALGORITHM_1}|cold`, `${ALGORITHM_1}|hot`, `${ALGORITHM_1}|all`, "algorithm 2|", "algorithm 2.1|",
    "default temperature|", "lowest dense error|", "oracle|",
  ];

  function drawChoices() {
    const tables = shown().map((study) => choiceTable(study, shown().length > 1));
    byId("choices-table").replaceChildren(...tables);
    const proxy = shown().some((study) => study.dense_error_is_proxy)
      ? " The published figure holds no dense error: the test error at 80 % density stands in for it, so that regret there is in-sample." : "";
    byId("choices-note").textContent = `At each ${state.study.load.noun} the chosen ${state.study.knob} and, in brackets, its regret: how much higher its `
      + `${state.study.by.test_error.label.replace(/\s*\(.*\)$/, "")} is than that of the best (${state.study.regret_unit}). A probe is two retrainings and the line between them.${proxy}`;
  }

  function choiceTable(study, several) {
    const found = choicesOf(study);
    const summaries = Algorithms.summary(found);
    const regret = (value) => number(value * 100, 1);
    const rows = METHODS.map((method) => {
      const [algorithm, start] = method.split("|");
      const total = summaries.find((each) => each.algorithm === algorithm && each.start === startOf(study, start));
      const own = found.filter((row) => row.algorithm === algorithm && row.start === startOf(study, start));
      const cells = study.loads.map((load) => {
        const row = own.find((each) => each.at === load);
        return row ? `${number(row.temperature)} (${regret(row.regret)})` : "";
      });
      const totals = total && [regret(total.mean_regret), regret(total.worst_regret), number(total.mean_probes, 1)];
      return total ? [methodCell(method, study, several), ...totals, ...cells] : null;
    }).filter(Boolean);
    const head = [
      several ? (study === published ? "published" : "obtained") : "method", "mean regret", "worst", "probes",
      ...study.load.texts.map((shownLoad) => `${shownLoad}${study.load.unit}`),
    ];
    return table(head, rows, { "data-study": study.name });
  }

  function methodCell(method, study, several) {
    const words = methodWords(method, study);
    if (method.endsWith("|all") || (several && study === published)) return words;
    const input = html("input", { type: "radio", name: "method", value: method });
    input.checked = method === state.method;
    input.addEventListener("change", () => {
      state.method = method;
      drawDiagrams();
    });
    return html("label", {}, [input, words]);
  }

  // Controls -------------------------------------------------------------------------------------------------------

  function drawControls() {
    const { study } = state;
    const choices = study.measures.filter((measure) => measure.coloured);
    byId("measures").replaceChildren(byId("measures").firstElementChild, ...choices.map((measure) => {
      const input = html("input", { type: "radio", name: "measure", value: measure.name });
      input.checked = measure.name === state.measure;
      input.addEventListener("change", () => {
        state.measure = measure.name;
        drawDiagrams();
      });
      return html("label", {}, [input, measure.label.replace(/\s*\(.*\)$/, "")]);
    }));
    const counts = seedsAndReplicas(study);
    byId("facts").replaceChildren(...Object.entries({ ...study.facts, ...counts }).map(
      ([name, value]) => html("span", {}, [html("b", {}, name), ` ${value}`])));
    fitSlider("lmc", -0.001);
    fitSlider("cka", 0.999);
    showThresholds();
  }

  function seedsAndReplicas(study) {
    if (!study.points) return { origin: "published" };
    if ("density" in study.facts) return {};  // a grid over another load: its studies state them
    const replicas = new Set(study.points.replicas.map((row) => row[2])).size;
    return { "dense seeds": seedsOf(study).join(", ") || "none", replicas: `${replicas} a cell` };
  }

  // The slider reaches from below every value and threshold to `last`.
  function fitSlider(name, last) {
    const values = shown().flatMap((study) => study.by[name === "lmc" ? "lmc" : "cka_softmax"].values).filter(known);
    const own = shown().map((study) => study.thresholds[name]);
    const least = Math.min(...own, ...values) - 0.01;
    const slider = byId(`${name}-threshold`);
    slider.min = Math.max(name === "lmc" ? -1 : 0.001, Math.floor(least * 1000) / 1000);
    slider.max = last;
  }

  function showThresholds() {
    for (const name of ["lmc", "cka"]) {
      byId(`${name}-threshold`).value = state.thresholds[name];
      byId(`${name}-value`).textContent = number(state.thresholds[name]);
    }
    const own = state.study.thresholds;
    byId("reset").disabled = own.lmc === state.thresholds.lmc && own.cka === state.thresholds.cka;
  }

  function thresholdsChanged() {
    showThresholds();
    drawDiagrams();
    drawCell();
    drawChoices();
  }

  // Of more loads than these the table of choices needs the whole width.
  const WIDE = 6;

  // The first cell that was run, near the middle of the plane.
  function firstCell(study) {
    const cells = study.chance.map((_, cell) => cell).filter((cell) => isKnownCell(study, cell));
    return cells.includes(state.cell) ? state.cell : cells[Math.floor(cells.length / 2)] ?? 0;
  }

  function open(study) {
    state.study = study;
    state.thresholds = { lmc: study.thresholds.lmc, cka: study.thresholds.cka };
    state.cell = firstCell(study);
    state.alone = null;
    if (!study.by[state.measure]) state.measure = "lmc";
    const { classList } = document.querySelector("main");
    classList.toggle("compared", shown().length > 1);
    classList.toggle("wide", study.loads.length > WIDE);
    drawControls();
    thresholdsChanged();
  }

  function start() {
    if (!studies.length) {
      byId("facts").textContent = "No study has been run yet.";
      document.querySelector("main").hidden = true;
      return;
    }
    const select = byId("study");
    select.append(...studies.map((study, index) => html("option", { value: index }, study.title)));
    select.addEventListener("change", () => open(studies[Number(select.value)]));
    for (const name of ["lmc", "cka"]) {
      byId(`${name}-threshold`).addEventListener("input", (event) => {
        state.thresholds = { ...state.thresholds, [name]: Number(event.target.value) };
        thresholdsChanged();
      });
    }
    byId("reset").addEventListener("click", () => {
      state.thresholds = { lmc: state.study.thresholds.lmc, cka: state.study.thresholds.cka };
      thresholdsChanged();
    });
    open(studies[0]);
    new ResizeObserver(() => {
      if (byId("diagrams").clientWidth !== drawnFor) drawDiagrams();
    }).observe(byId("diagrams"));
  }

  start();
})();

// Small drawings in SVG: elements, axes, lines, points, and the plane of temperature and load.
"use strict";

const Charts = (() => {
  const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

  function element(name, attributes = {}, children = []) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...[children].flat());
    return made;
  }

  function html(name, attributes = {}, children = []) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...[children].flat());
    return made;
  }

  function table(head, rows, options = {}) {
    const cells = (row, name) => row.map((value, index) =>
      html(index || name === "th" ? name : "th", index ? {} : { scope: name === "th" ? "col" : "row" }, value));
    return html("table", options, [
      html("thead", {}, html("tr", {}, cells(head, "th"))),
      html("tbody", {}, rows.map((row) => html("tr", {}, cells(row, "td")))),
    ]);
  }

  // An entry of a legend: what is drawn, and what it means.
  const key = (drawn, words) => html("span", { class: "key" }, [
    element("svg", { width: 26, height: 14, "aria-hidden": "true" }, drawn), words]);

  const text = (x, y, words, attributes = {}) => element("text", { x, y, ...attributes }, words);

  // With a typographic minus sign; a missing number is a dash.
  function number(value, decimals) {
    if (!known(value)) return "–";
    const rounded = decimals === undefined ? String(Number(value.toPrecision(6))) : value.toFixed(decimals);
    return (Number(rounded) === 0 ? rounded.replace("-", "") : rounded).replace("-", "−");
  }

  // In the unit of its label; a missing number stays missing, where JavaScript would make it 0.
  const scaled = (value, factor) => (known(value) ? value * factor : NaN);

  // About `count` round values between two ends, two at least.
  function ticks(low, high, count = 4) {
    const raw = (high - low) / count;
    const power = 10 ** Math.floor(Math.log10(raw));
    const first = [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999) ?? 10;
    const steps = [10, 5, 2, 1, 0.5, 0.2, 0.1].filter((factor) => factor <= first).map((factor) => factor * power);
    const found = steps.map((step) => ({ values: multiples(step, low, high), decimals: decimalsOfStep(step) }));
    return found.find(({ values }) => values.length > 1) ?? found[0];
  }

  const decimalsOfStep = (step) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9));

  function multiples(step, low, high) {
    const values = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) values.push(k * step);
    return values;
  }

  function extent(values, least = 0) {
    const found = values.filter(known);
    if (!found.length) return [0, 1];
    let [low, high] = [Math.min(...found), Math.max(...found)];
    if (high - low < least) [low, high] = [(low + high - least) / 2, (low + high + least) / 2];
    const margin = 0.06 * (high - low || Math.abs(high) || 1);
    return [low - margin, high + margin];
  }

  const MARKS = {
    o: (x, y, r) => element("circle", { cx: x, cy: y, r }),
    s: (x, y, r) => element("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
    "^": (x, y, r) => element("path", { d: `M${x},${y - 1.2 * r}l${1.15 * r},${2 * r}h${-2.3 * r}z` }),
    D: (x, y, r) => element("path", { d: `M${x},${y - 1.35 * r}l${1.35 * r},${1.35 * r}l${-1.35 * r},${1.35 * r}l${-1.35 * r},${-1.35 * r}z` }),
    v: (x, y, r) => element("path", { d: `M${x},${y + 1.2 * r}l${1.15 * r},${-2 * r}h${-2.3 * r}z` }),
    P: (x, y, r) => element("path", { d: `M${x - r},${y}h${2 * r}M${x},${y - r}v${2 * r}`, class: "open" }),
    X: (x, y, r) => element("path", { d: `M${x - r},${y - r}l${2 * r},${2 * r}m${-2 * r},0l${2 * r},${-2 * r}`, class: "open" }),
  };

  // A mark of the figures; with a text that shows when one points at it.
  function mark(kind, x, y, radius, colour, said = "") {
    const made = (MARKS[kind] ?? MARKS.o)(x, y, radius);
    made.setAttribute(made.classList.contains("open") ? "stroke" : "fill", colour);
    if (said) made.append(element("title", {}, said));
    return made;
  }

  // A framed chart: `draw(x, y, body)` gets both scales. Axes are { domain, label, ticks, name }.
  function chart({ title, x, y, width = 300, height = 180 }, draw) {
    const frame = { left: 46, right: 8, top: 8, bottom: 36 };
    const right = width - frame.right;
    const bottom = height - frame.bottom;
    const scale = ([low, high], from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
    const toX = scale(x.domain, frame.left, right);
    const toY = scale(y.domain, bottom, frame.top);
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title, class: "chart" });
    const rising = ticks(...y.domain, 4);
    for (const value of rising.values) {
      svg.append(element("line", { x1: frame.left, x2: right, y1: toY(value), y2: toY(value), class: "grid" }));
      svg.append(text(frame.left - 5, toY(value) + 3.5, number(value, rising.decimals), { "text-anchor": "end" }));
    }
    const across = x.ticks ?? ticks(...x.domain, 4).values;
    for (const [place, value] of across.entries()) {
      svg.append(text(toX(value), bottom + 14, x.names ? x.names[place] : number(value), { "text-anchor": "middle" }));
    }
    svg.append(element("path", { d: `M${frame.left},${frame.top}V${bottom}H${right}`, class: "axis" }));
    svg.append(text((frame.left + right) / 2, height - 6, x.label, { "text-anchor": "middle" }));
    const body = element("g");
    draw(toX, toY, body);
    svg.append(body);
    return html("figure", { class: width < 300 ? "small" : "" }, [html("figcaption", {}, title), svg]);
  }

  // A line through the points that are there.
  function line(xs, ys, attributes) {
    const points = xs.map((x, place) => [x, ys[place]]).filter(([, y]) => known(y));
    return element("path", { d: points.map(([x, y], place) => `${place ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join(""), fill: "none", ...attributes });
  }

  // Colour at `share` (0 to 1) of a ramp of hexadecimal colours, and whether black is legible on it rather than white.
  function shade(ramp, share) {
    const at = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
    const low = Math.min(Math.floor(at), ramp.length - 2);
    const part = (colour, k) => parseInt(colour.slice(1 + 2 * k, 3 + 2 * k), 16);
    const rgb = [0, 1, 2].map((k) => Math.round(part(ramp[low], k) + (at - low) * (part(ramp[low + 1], k) - part(ramp[low], k))));
    const light = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] > 117;
    return { fill: `rgb(${rgb.join(",")})`, light };
  }

  return { chart, element, extent, html, key, known, line, mark, number, scaled, shade, table, text, ticks };
})();

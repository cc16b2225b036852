"use strict";
// Draws what the page holds in #data into the elements that name their key.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const COLOURS = ["#1f6feb", "#d1495b", "#2a9d8f", "#e09f3e", "#7b4fb5", "#5c7a29", "#c2569b", "#3d8ec4", "#8d6b4f", "#6b7280"];
const given = new Map(); // of each name, in all charts of the page
function colour(name) {
  if (!given.has(name)) {
    given.set(name, COLOURS[given.size] || `hsl(${Math.round(given.size * 137.5) % 360} 55% 45%)`);
  }
  return given.get(name);
}
const WIDTH = 420, HEIGHT = 240, LEFT = 52, BOTTOM = 28, TOP = 8, RIGHT = 8;

function element(name, attributes = {}, parent = null, space = null) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

const tip = element("div", { class: "tip", hidden: "" }, document.body);
function show(event, text, thumb = null) {
  tip.replaceChildren();
  if (thumb) tip.append(thumb);
  tip.append(document.createTextNode(text));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.min(event.clientX + 12, innerWidth - box.width - 4) + "px";
  tip.style.top = Math.min(event.clientY + 12, innerHeight - box.height - 4) + "px";
}
function hide() { tip.hidden = true; }

// A number in words, with as many digits as tell it from one a step away.
function short(value, step = Math.abs(value) / 100) {
  const size = Math.abs(value);
  const digits = size && step ? Math.max(1, Math.min(15, Math.ceil(Math.log10(size / step) - 1e-9) + 1)) : 1;
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(digits - 1);
  return String(+value.toPrecision(digits));
}

function ticks(low, high) {
  const step = 10 ** Math.floor(Math.log10((high - low) / 3));
  const width = [1, 2, 5, 10].map(k => k * step).find(w => (high - low) / w <= 5);
  const found = [], first = Math.ceil(low / width);
  // Counted, since beside large values a small width would not move a sum.
  for (let i = 0; i <= 5 && (first + i) * width <= high + width * 1e-9; i++) found.push((first + i) * width);
  return found;
}

// A chart of series {name, points: [[x, y], …]}; the same name has the same colour.
// A third number of a point is half the length of its bar; `log` spaces x by powers of ten.
function chart(parent, { title, x, series, dots, log }) {
  const figure = element("figure", {}, parent);
  const caption = element("figcaption", {}, figure);
  caption.textContent = title;
  const at = log ? Math.log10 : v => v;
  const points = series.flatMap(one => one.points);
  let [x0, x1] = [Math.min(...points.map(p => at(p[0]))), Math.max(...points.map(p => at(p[0])))];
  let [y0, y1] = [Math.min(...points.map(p => p[1] - (p[2] || 0))), Math.max(...points.map(p => p[1] + (p[2] || 0)))];
  if (x0 === x1) { x0 -= Math.abs(x0) / 10 || 1; x1 += Math.abs(x1) / 10 || 1; }
  if (y0 === y1) { y0 -= Math.abs(y0) / 10 || 1; y1 += Math.abs(y1) / 10 || 1; }
  const [dx, dy] = [dots || log ? (x1 - x0) / 20 : 0, (y1 - y0) / 20];
  [x0, x1, y0, y1] = [x0 - dx, x1 + dx, y0 - dy, y1 + dy];
  const px = v => LEFT + (at(v) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
  const py = v => HEIGHT - BOTTOM - (v - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);
  const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title }, figure, SVG);
  const up = ticks(y0, y1);
  const across = log ? [...new Set(points.map(p => p[0]))] : ticks(x0, x1);
  for (const value of up) {
    element("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) }, svg, SVG);
    element("text", { x: LEFT - 6, y: py(value) + 4, "text-anchor": "end" }, svg, SVG).textContent = short(value, up[1] - up[0]);
  }
  for (const value of across) {
    const told = log ? String(value) : short(value, across[1] - across[0]);
    element("text", { x: px(value), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, svg, SVG).textContent = told;
  }
  element("text", { x: WIDTH - RIGHT, y: HEIGHT - 1, "text-anchor": "end" }, svg, SVG).textContent = x;
  const names = [...new Set(series.map(one => one.name))];
  for (const one of series) {
    const own = colour(one.name);
    const said = one.seed === undefined ? one.name : `${one.name}, seed ${one.seed}`;
    if (!dots) {
      const path = one.points.map((p, i) => `${i ? "L" : "M"}${px(p[0]).toFixed(1)} ${py(p[1]).toFixed(1)}`).join("");
      const line = element("path", { d: path, fill: "none", stroke: own, "stroke-width": 1.5, opacity: 0.8 }, svg, SVG);
      line.addEventListener("mousemove", event => {
        const box = svg.getBoundingClientRect();
        const here = x0 + ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (x1 - x0);
        const near = one.points.reduce((a, b) => Math.abs(at(b[0]) - here) < Math.abs(at(a[0]) - here) ? b : a);
        show(event, `${said}: ${short(near[1])} at ${short(near[0])}`);
      });
      line.addEventListener("mouseleave", hide);
      for (const [across, value, half] of one.points.filter(p => p[2])) {
        const ends = { x1: px(across), x2: px(across), y1: py(value - half), y2: py(value + half) };
        element("line", { ...ends, stroke: own, "stroke-width": 1.5, opacity: 0.8 }, svg, SVG);
      }
    } else {
      for (const p of one.points) {
        const dot = element("circle", { cx: px(p[0]), cy: py(p[1]), r: 4, fill: own, opacity: 0.75 }, svg, SVG);
        dot.addEventListener("mousemove", event => show(event, `${said}: ${short(p[1])} at ${short(p[0])}`));
        dot.addEventListener("mouseleave", hide);
      }
    }
  }
  if (names.length > 1) {
    const legend = element("div", { class: "legend" }, figure);
    names.forEach(name => entry(legend, name));
  }
}

function entry(legend, name) {
  const item = element("span", {}, legend);
  element("i", { style: `background:${colour(name)}` }, item);
  item.append(name);
}

// Points of a map with the picture of each: from a sheet of thumbnails in rows, as many columns as rows.
function map(parent, { x, y, label, side, sheet }) {
  const size = 640, edge = 10;
  const svg = element("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "map" }, parent, SVG);
  const names = [...new Set(label)].sort();
  const columns = Math.ceil(Math.sqrt(x.length));
  const thumb = element("b");
  const zoom = Math.max(1, Math.round(96 / side));
  Object.assign(thumb.style, {
    width: side * zoom + "px", height: side * zoom + "px", backgroundImage: `url(${sheet})`,
    backgroundSize: `${columns * side * zoom}px auto`,
  });
  x.forEach((_, i) => {
    const dot = element("circle", {
      cx: edge + x[i] * (size - 2 * edge), cy: edge + (1 - y[i]) * (size - 2 * edge), r: 5, fill: colour(label[i]), opacity: 0.75,
    }, svg, SVG);
    const look = event => {
      thumb.style.backgroundPosition = `${-(i % columns) * side * zoom}px ${-Math.floor(i / columns) * side * zoom}px`;
      show(event, label[i], thumb);
    };
    dot.addEventListener("pointerenter", look);
    dot.addEventListener("pointerdown", look);
    dot.addEventListener("pointerleave", hide);
  });
  const legend = element("div", { class: "legend" }, parent);
  names.forEach(name => entry(legend, name));
}

// Curves of many runs, one metric at a time, against what one chooses.
function compare(parent, metrics) {
  const metric = element("select", { "aria-label": "metric" }, parent);
  for (const name of Object.keys(metrics)) metric.append(new Option(name));
  const axis = element("select", { "aria-label": "against" }, parent);
  for (const [name, key] of [["steps", ""], ["epochs", "epochs"], ["images seen", "images"], ["seconds", "seconds"]]) {
    axis.append(new Option(name, key));
  }
  const canvas = element("div", {}, parent);
  const draw = () => {
    canvas.replaceChildren();
    const told = one => !axis.value || one.per_step[axis.value] !== null;  // a run that goes on has no seconds yet
    const series = metrics[metric.value].filter(told).map(one => {
      const scale = axis.value ? one.per_step[axis.value] : 1;
      return { name: one.name, seed: one.seed, points: one.points.map(p => [p[0] * scale, p[1]]) };
    });
    chart(canvas, { title: metric.value, x: axis.selectedOptions[0].text, series });
  };
  metric.addEventListener("change", draw);
  axis.addEventListener("change", draw);
  draw();
}

function value(row, column) {
  const cell = row.cells[column];
  const told = cell.querySelector("[data-sort]");
  const number = parseFloat(told ? told.dataset.sort : cell.textContent);
  return Number.isNaN(number) ? cell.textContent : number;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => head.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const compareRows = (a, b) => {
      const [one, two] = [value(a, column), value(b, column)];
      if (typeof one === typeof two) return one < two ? -1 : one > two ? 1 : 0;
      return typeof one === "number" ? 1 : -1;
    };
    body.append(...[...body.rows].sort((a, b) => (down ? -1 : 1) * compareRows(a, b)));
  }));
}
for (const input of document.querySelectorAll(".find")) {
  input.addEventListener("input", () => {
    for (const row of input.parentElement.querySelectorAll("tbody tr")) {
      row.hidden = !row.textContent.toLowerCase().includes(input.value.toLowerCase());
    }
  });
}
for (const place of document.querySelectorAll("[data-key]")) {
  const content = data[place.dataset.key];
  if (place.className === "charts") content.forEach(one => chart(place, one));
  else if (place.className === "map") map(place, content);
  else compare(place, content);
}

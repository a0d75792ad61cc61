"use strict";
// The report's page: sorting, plots and the slider, from what the page carries in #data.
{
const data = JSON.parse(document.getElementById("data").textContent);
document.documentElement.classList.add("js");
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const chosen = {table: 0, region: "", metric: "", cost: "", order: "", base: "", left: "", right: "", zoom: "fit", current: 0, picture: 0};
const off = new Set(); // methods that the image plot does not show
let printed = true;

// ---- small makers

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
function draw(parent, tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}
function field(label, options, value, change) {
  const select = make("select", {}, ...options.map(([key, text]) => make("option", {value: key, textContent: text})));
  select.value = value;
  select.addEventListener("change", () => change(select.value));
  return make("label", {className: "field"}, label, select);
}
function choice(name, label, options, value, change) {
  const set = make("fieldset", {className: "choice"}, make("legend", {className: "hide", textContent: label}));
  for (const [key, text] of options) {
    const input = make("input", {type: "radio", name, value: key, checked: key === value});
    input.addEventListener("change", () => change(key));
    set.append(make("label", {}, input, text));
  }
  return set;
}
const number = value => value === "inf" ? Infinity : value;
function format(metric, value) {
  if (value === undefined || value === null) return "–";
  if (!isFinite(value)) return "∞";
  const {digits, factor} = data.metrics[metric];
  const shown = value * factor;
  const places = digits ?? (shown > 0 ? Math.max(0, 2 - Math.floor(Math.log10(shown))) : 0);
  return shown.toFixed(places).replace("-", "−");
}
const signed = (metric, value) => (value > 0 ? "+" : "") + format(metric, value);
const named = metric => {
  const {label, unit} = data.metrics[metric];
  return unit ? `${label} (${unit})` : label;
};
const better = metric => data.metrics[metric].high ? "higher is better" : "lower is better";
const table = () => data.tables[chosen.table];
const column = () => `${chosen.region} ${chosen.metric}`;
const scoresOf = method => (table().scores[column()]?.[method] ?? []).map(number);
const finite = values => values.filter(value => value !== null && isFinite(value));
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;

// ---- how methods are told apart: by colour and by shape

const SHAPES = {
  circle: r => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`,
  square: r => `M${-.88 * r} ${-.88 * r}h${1.76 * r}v${1.76 * r}h${-1.76 * r}z`,
  diamond: r => `M0 ${-1.25 * r}L${1.25 * r} 0L0 ${1.25 * r}L${-1.25 * r} 0z`,
  triangle: r => `M0 ${-1.15 * r}L${1.1 * r} ${.85 * r}H${-1.1 * r}z`,
  down: r => `M0 ${1.15 * r}L${1.1 * r} ${-.85 * r}H${-1.1 * r}z`,
};
const shapes = Object.values(SHAPES);
function look(method) {
  const at = data.methods.indexOf(method);
  if (at < 0) return {colour: "var(--soft)", shape: SHAPES.circle};
  return {colour: `var(--s${at % 8})`, shape: shapes[(at + Math.floor(at / 8)) % shapes.length]};
}
function mark(method) {
  const {colour, shape} = look(method);
  const svg = draw(document.createDocumentFragment(), "svg", {viewBox: "-7 -7 14 14", class: "mark", "aria-hidden": "true"});
  draw(svg, "path", {d: shape(5), fill: colour});
  return svg;
}

// ---- sorting

function sortable(table) {
  const body = $("tbody", table);
  const original = [...body.rows];
  const heads = $$("thead tr:last-child > *", table);
  heads.forEach((head, at) => $("button", head)?.addEventListener("click", () => {
    // First the best on top, or A to Z; then the other way round; then as it was.
    const first = head.dataset.better === "high" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const next = {[first]: second, [second]: ""}[head.getAttribute("aria-sort")] ?? first;
    for (const other of heads) other.removeAttribute("aria-sort");
    if (!next) return body.append(...original);
    head.setAttribute("aria-sort", next);
    const key = row => {
      const cell = row.cells[at];
      if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
      return cell.textContent === "–" ? null : cell.textContent;
    };
    const way = next === "ascending" ? 1 : -1;
    body.append(...original.map(row => [key(row), row]).sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what lacks stays below
      if (typeof a === "number" && typeof b === "number") return way * (a < b ? -1 : a > b ? 1 : 0);
      return way * String(a).localeCompare(String(b), "en", {numeric: true});
    }).map(([, row]) => row));
  }));
}

// ---- axes

function ticks(low, high, most) {
  const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) found.push(n * step);
  return {step, found};
}
function logTicks(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const n of [1, 2, 5]) found.push(n * 10 ** power);
  const inside = found.filter(value => value >= low && value <= high);
  return inside.length > 7 ? inside.filter(value => /^1|^0\.0*1$/.test(plain(value))) : inside;
}
const plain = value => Number(value.toPrecision(6)).toString();
function frame(box, height, label) {
  const width = Math.max(280, box.clientWidth - parseFloat(getComputedStyle(box).paddingLeft) * 2);
  const svg = draw(document.createDocumentFragment(), "svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
  return {svg, width, height, left: 52, right: 16, top: 28, bottom: 44};
}
function vertical(plot, values, metric) {
  let low = Math.min(...values), high = Math.max(...values);
  const room = (high - low || Math.abs(high) || 1) * .08;
  low -= room; high += room;
  const {step, found} = ticks(low, high, 5);
  const y = value => plot.height - plot.bottom - (value - low) / (high - low) * (plot.height - plot.top - plot.bottom);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  for (const value of found) {
    draw(plot.svg, "line", {class: "grid", x1: plot.left, x2: plot.width - plot.right, y1: y(value), y2: y(value)});
    draw(plot.svg, "text", {x: plot.left - 8, y: y(value) + 4, "text-anchor": "end"}, value.toFixed(digits).replace("-", "−"));
  }
  draw(plot.svg, "text", {x: 4, y: 14}, metric);
  return y;
}

// ---- quality against cost

function drawCost() {
  const section = $("#cost");
  const {costs, points} = table();
  section.hidden = !costs.length;
  if (section.hidden) return;
  if (!costs.includes(chosen.cost)) chosen.cost = costs[0];
  $(".tools", section).replaceChildren(choice("cost", "Cost", costs.map(name => [name, data.metrics[name].label]), chosen.cost,
    value => { chosen.cost = value; plotCost(); }));
  plotCost();
}
function plotCost() {
  const section = $("#cost"), box = $(".chart", section);
  const metric = chosen.metric, cost = chosen.cost;
  const shown = table().points
    .map(point => ({...point, x: number(point.values[cost]), y: number(point.values[column()])}))
    .filter(point => point.x > 0 && isFinite(point.y) && (printed || !point.source));
  const title = `${named(metric)}, ${better(metric)}`;
  const note = $("p", section);
  if (!shown.length) {
    box.replaceChildren(make("p", {className: "soft", textContent: "No method has both numbers."}));
    note.textContent = "";
    return;
  }
  const plot = frame(box, clamp(box.clientWidth * .5, 260, 430), `${title}, against ${named(cost)}; the same numbers are in the table above`);
  const {svg, width, height, left, right, bottom, top} = plot;
  const y = vertical(plot, shown.map(point => point.y), title);
  const {factor} = data.metrics[cost];
  const lows = shown.map(point => point.x * factor);
  let low = Math.min(...lows) / 1.5, high = Math.max(...lows) * 1.5;
  const span = Math.log(high / low);
  const x = value => left + 12 + Math.log(value * factor / low) / span * (width - left - right - 24);
  for (const value of logTicks(low, high)) {
    draw(svg, "line", {class: "grid", x1: x(value / factor), x2: x(value / factor), y1: top, y2: height - bottom});
    draw(svg, "text", {x: x(value / factor), y: height - bottom + 18, "text-anchor": "middle"}, plain(value));
  }
  draw(svg, "text", {x: width - right, y: height - 6, "text-anchor": "end"}, `${named(cost)}, logarithmic, lower is better`);

  // The methods that no other measured one beats in both.
  const high_ = data.metrics[metric].high ? 1 : -1;
  const measured = shown.filter(point => !point.source).sort((a, b) => a.x - b.x || high_ * (b.y - a.y));
  let best = -Infinity;
  const front = measured.filter(point => high_ * point.y > best && (best = high_ * point.y, true));
  if (front.length > 1)
    draw(svg, "path", {class: "front", d: "M" + front.map(point => `${x(point.x)} ${y(point.y)}`).join("L")});

  const taken = shown.map(point => [x(point.x) - 7, y(point.y) - 7, x(point.x) + 7, y(point.y) + 7]);
  for (const point of [...shown].sort((a, b) => (a.source ? 1 : 0) - (b.source ? 1 : 0))) {
    const {colour, shape} = look(point.method);
    const px = x(point.x), py = y(point.y);
    const dot = draw(svg, "path", {d: shape(5.5), transform: `translate(${px} ${py})`, fill: point.source ? "var(--card)" : colour,
      stroke: point.source ? "var(--soft)" : "var(--card)", "stroke-width": 1.5, class: "dot"});
    draw(dot, "title", {}, `${point.method}${point.source ? ` (${point.source})` : ""}: ${format(metric, point.y)}, ${format(cost, point.x)} ${data.metrics[cost].unit}`);
    const long = point.method.length * 7.3 + 2;
    const places = [[10, 4, "start"], [-10, 4, "end"], [0, -11, "middle"], [0, 20, "middle"], [9, -8, "start"], [9, 17, "start"], [-9, -8, "end"], [-9, 17, "end"]];
    for (const [dx, dy, anchor] of places) {
      const from = px + dx - {start: 0, middle: long / 2, end: long}[anchor];
      const area = [from, py + dy - 11, from + long, py + dy + 3];
      if (area[0] < left || area[2] > width - 2 || area[1] < top - 12 || area[3] > height - bottom) continue;
      if (taken.some(other => area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3])) continue;
      taken.push(area);
      draw(svg, "text", {x: px + dx, y: py + dy, "text-anchor": anchor, class: point.source ? "name printed" : "name"}, point.method);
      break;
    }
  }
  box.replaceChildren(svg);
  note.textContent = (front.length > 1 ? "The dotted line joins the methods that no other measured one beats in both. " : "")
    + (shown.some(point => point.source) ? "Hollow marks are printed in papers; costs there are of their own machines." : "");
}

// ---- image by image

function ordered() {
  const cases = table().cases.map((name, at) => at);
  const values = chosen.order ? scoresOf(chosen.order) : [];
  const lack = value => value === null || value === undefined;
  return chosen.order ? cases.sort((a, b) => lack(values[a]) - lack(values[b]) || values[a] - values[b] || a - b) : cases;
}
function drawCases() {
  const section = $("#cases");
  const {methods} = table();
  for (const name of ["order", "base"]) if (!methods.includes(chosen[name])) chosen[name] = "";
  const list = methods.map(name => [name, name]);
  $(".tools", section).replaceChildren(
    field("Order", [["", "of names"], ...methods.map(name => [name, `by ${name}`])], chosen.order, value => { chosen.order = value; plotCases(); }),
    field("Difference from", [["", "nothing: the score itself"], ...list], chosen.base, value => { chosen.base = value; plotCases(); }));
  $(".legend", section).replaceChildren(...methods.map(method => {
    const button = make("button", {}, mark(method), method);
    button.setAttribute("aria-pressed", !off.has(method));
    button.addEventListener("click", () => {
      if (!off.delete(method)) off.add(method);
      button.setAttribute("aria-pressed", !off.has(method));
      plotCases();
    });
    return make("li", {}, button);
  }));
  const details = $("details", section);
  $(".scroll", details).replaceChildren();
  if (details.open) tabulateCases();
  plotCases();
}
function plotCases() {
  const section = $("#cases"), box = $(".plot", section);
  const {cases, methods} = table(), metric = chosen.metric;
  const order = ordered();
  const base = chosen.base ? scoresOf(chosen.base) : null;
  const title = base ? `${named(metric)}, less that of ${chosen.base}` : `${named(metric)}, ${better(metric)}`;
  const plot = frame(box, clamp(box.clientWidth * .45, 240, 380), `${title}, image by image; arrow keys move through the images`);
  const {svg, width, height, left, right, top, bottom} = plot;
  const inner = width - left - right, slot = inner / order.length;
  const group = Math.ceil(2 / slot); // more images than can be told apart: the means of neighbours
  const x = at => left + (at + .5) * slot;
  const series = methods.filter(method => !off.has(method)).map(method => {
    const scores = scoresOf(method);
    const values = order.map(at => {
      const value = base ? scores[at] - base[at] : scores[at];
      return scores[at] === null || base?.[at] === null || !isFinite(value) ? null : value;
    });
    const points = [];
    for (let at = 0; at < values.length; at += group) {
      const part = values.slice(at, at + group), there = finite(part);
      points.push({x: x(at + (part.length - 1) / 2), value: there.length ? mean(there) : null});
    }
    return {method, points, ...look(method)};
  });
  const all = finite(series.flatMap(line => line.points.map(point => point.value)));
  if (!all.length) {
    box.replaceChildren(make("p", {className: "soft", textContent: "There is nothing to draw."}));
    tell(order[0]);
    return;
  }
  svg.setAttribute("tabindex", 0);
  const y = vertical(plot, all, title);
  const guide = draw(svg, "line", {class: "guide", y1: top, y2: height - bottom});
  const few = order.length <= 80;
  for (const {points, colour, shape} of series) {
    let path = "", pen = "M";
    for (const point of points) {
      if (point.value === null) { pen = "M"; continue; }
      path += `${pen}${point.x.toFixed(1)} ${y(point.value).toFixed(1)}`;
      pen = "L";
    }
    draw(svg, "path", {d: path, fill: "none", stroke: colour, "stroke-width": few ? 1.25 : 1, "stroke-opacity": few ? .45 : .85, "stroke-linejoin": "round"});
    if (few) for (const point of points) if (point.value !== null)
      draw(svg, "path", {d: shape(order.length <= 30 ? 4.5 : 3), transform: `translate(${point.x.toFixed(1)} ${y(point.value).toFixed(1)})`, fill: colour, class: "dot"});
  }
  // The names where there is room for them, else numbers; the line below the plot has the name.
  if (Math.max(...cases.map(name => name.length)) * 6.6 + 8 < slot)
    order.forEach((at, place) => draw(svg, "text", {x: x(place), y: height - bottom + 18, "text-anchor": "middle"}, cases[at]));
  else for (const value of ticks(1, order.length, 8).found.filter(n => Number.isInteger(n) && n > 0))
    draw(svg, "text", {x: x(value - 1), y: height - bottom + 18, "text-anchor": "middle"}, value);
  draw(svg, "text", {x: width - right, y: height - 6, "text-anchor": "end"}, `${order.length} images${chosen.order ? `, by ${chosen.order}` : ""}${group > 1 ? `; means of ${group} at a time` : ""}`);

  const point = place => {
    place = clamp(place, 0, order.length - 1);
    chosen.current = order[place];
    guide.setAttribute("x1", x(place));
    guide.setAttribute("x2", x(place));
    tell(order[place]);
  };
  const follow = event => {
    const area = svg.getBoundingClientRect();
    point(Math.floor(((event.clientX - area.left) / area.width * width - left) / slot));
  };
  svg.addEventListener("pointermove", follow);
  svg.addEventListener("pointerdown", follow);
  svg.addEventListener("keydown", event => {
    const now = order.indexOf(chosen.current);
    const place = {ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: order.length - 1}[event.key];
    if (place === undefined) return;
    event.preventDefault();
    point(place);
  });
  box.replaceChildren(svg);
  point(Math.max(0, order.indexOf(chosen.current)));
}
function tell(at) {
  const {cases, methods} = table(), metric = chosen.metric;
  const values = methods.map(method => [method, scoresOf(method)[at]]).filter(([, value]) => value !== null && value !== undefined);
  values.sort((a, b) => data.metrics[metric].high ? b[1] - a[1] : a[1] - b[1]);
  $("#cases .readout").replaceChildren(make("b", {textContent: cases[at]}), shower(cases[at], "Look at it") ?? "",
    make("ul", {}, ...values.map(([method, value]) => make("li", {}, mark(method), `${method} ${format(metric, value)}`))));
}
const MOST_ROWS = 500;
function tabulateCases() {
  const {cases, methods} = table(), metric = chosen.metric;
  const head = document.createElement("tr");
  const column_ = (name, kind, better) => {
    const cell = make("th", {scope: "col", className: kind}, make("button", {textContent: name}));
    if (better) cell.dataset.better = better;
    head.append(cell);
  };
  column_("Image", "text");
  for (const method of methods) column_(method, "", data.metrics[metric].high ? "high" : "low");
  const scores = methods.map(scoresOf);
  const rows = ordered().slice(0, MOST_ROWS).map(at => make("tr", {},
    make("th", {scope: "row", className: "text", textContent: cases[at]}),
    ...scores.map(values => {
      const cell = make("td", {textContent: format(metric, values[at])});
      if (values[at] !== null) cell.dataset.value = values[at];
      return cell;
    })));
  const made = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  $("#cases details .scroll").replaceChildren(made, cases.length > MOST_ROWS
    ? make("p", {className: "soft", textContent: `The first ${MOST_ROWS} of ${cases.length}; cases.csv has them all.`}) : "");
  sortable(made);
}
$("#cases details").addEventListener("toggle", event => { if (event.target.open) tabulateCases(); });

// ---- before and after

const pictures = () => data.pictures.filter(picture => picture.part === table().part && picture.scale === table().scale);
function shower(name, text, right) {
  const at = pictures().findIndex(picture => picture.case === name);
  if (at < 0) return null;
  const button = make("button", {className: "link", textContent: text, title: `Show ${name} in the slider`});
  button.addEventListener("click", () => {
    chosen.picture = at;
    if (right) chosen.right = right;
    drawLook();
    $("#look").scrollIntoView();
    $("#look .handle").focus({preventScroll: true});
  });
  return button;
}
const viewer = $("#look .viewer"), pane = $(".pane", viewer), stage = $(".stage", viewer), handle = $(".handle", viewer);
let split = 50;
function drawLook() {
  const section = $("#look"), list = pictures();
  section.hidden = !list.length;
  if (section.hidden) return;
  chosen.picture = clamp(chosen.picture, 0, list.length - 1);
  const picture = list[chosen.picture], names = Object.keys(picture.images);
  const methods = names.filter(name => name !== data.truth);
  if (!names.includes(chosen.left)) chosen.left = methods[0];
  if (!names.includes(chosen.right)) chosen.right = bestOf(methods.filter(name => name !== chosen.left)) ?? data.truth;
  const step = by => {
    const button = make("button", {textContent: by < 0 ? "‹" : "›", ariaLabel: by < 0 ? "Image before" : "Next image"});
    button.addEventListener("click", () => { chosen.picture = (chosen.picture + by + list.length) % list.length; drawLook(); $$("#look .tools > button")[by < 0 ? 0 : 1].focus(); });
    return button;
  };
  const options = names.map(name => [name, name]);
  const set = name => value => { chosen[name] = value; place(); };
  $(".tools", section).replaceChildren(
    field("Image", list.map((one, at) => [String(at), one.case]), String(chosen.picture), value => { chosen.picture = Number(value); drawLook(); }),
    ...(list.length > 1 ? [step(-1), step(1)] : []),
    field("Left", options, chosen.left, set("left")), field("Right", options, chosen.right, set("right")),
    choice("zoom", "Zoom", [["fit", "Fit"], ["1", "1×"], ["2", "2×"], ["4", "4×"]], chosen.zoom, value => { chosen.zoom = value; place(); }));
  const at = table().cases.indexOf(picture.case);
  $(".shots", section).replaceChildren(...names.map(name => {
    const value = name === data.truth ? null : scoresOf(name)[at];
    const button = make("button", {className: "shot", title: "Click: to the right of the border; with Shift: to the left"},
      make("img", {src: picture.images[name], alt: ""}), make("span", {textContent: name}),
      make("span", {className: "value", textContent: name === data.truth ? "the truth" : `${format(chosen.metric, value)} ${data.metrics[chosen.metric].unit}`}));
    button.dataset.name = name;
    button.addEventListener("click", event => { chosen[event.shiftKey ? "left" : "right"] = name; drawLook(); $(`#look .shot[data-name="${CSS.escape(name)}"]`).focus({preventScroll: true}); });
    return button;
  }));
  place();
}
function bestOf(methods) {
  const values = new Map(table().points.filter(point => !point.source).map(point => [point.method, number(point.values[column()])]));
  const way = data.metrics[chosen.metric]?.high ? -1 : 1;
  return methods.filter(name => values.has(name)).sort((a, b) => way * (values.get(a) - values.get(b)))[0];
}
function place() {
  const picture = pictures()[chosen.picture];
  for (const side of ["left", "right"]) {
    const image = $(`img.${side}`, stage);
    if (image.getAttribute("src") !== picture.images[chosen[side]]) image.src = picture.images[chosen[side]];
    image.alt = `${picture.case}: ${chosen[side]}`;
    $(`.tag.${side}`, viewer).textContent = chosen[side];
  }
  for (const shot of $$("#look .shot")) shot.setAttribute("aria-pressed", shot.dataset.name === chosen.right);
  const room = viewer.parentElement.clientWidth, tall = Math.max(256, .8 * innerHeight);
  const scale = chosen.zoom === "fit" ? Math.min(room / picture.width, tall / picture.height, 3) : Number(chosen.zoom);
  const across = (pane.scrollLeft + pane.clientWidth / 2) / stage.clientWidth || .5;
  const down = (pane.scrollTop + pane.clientHeight / 2) / stage.clientHeight || .5;
  pane.classList.toggle("zoomed", chosen.zoom !== "fit");
  stage.style.width = picture.width * scale + "px";
  stage.style.height = picture.height * scale + "px";
  pane.scrollLeft = across * stage.clientWidth - pane.clientWidth / 2;
  pane.scrollTop = down * stage.clientHeight - pane.clientHeight / 2;
  slide(split);
}
function slide(next) {
  split = clamp(next, 0, 100);
  handle.style.left = split + "%";
  handle.setAttribute("aria-valuenow", Math.round(split));
  handle.setAttribute("aria-valuetext", `${Math.round(split)} % ${chosen.left}, the rest ${chosen.right}`);
  const border = pane.scrollLeft + split / 100 * viewer.clientWidth;
  $("img.right", stage).style.clipPath = `inset(0 0 0 ${border}px)`;
}
pane.addEventListener("scroll", () => slide(split));
let sliding = false;
const slideTo = event => {
  const box = viewer.getBoundingClientRect();
  slide(100 * (event.clientX - box.left) / box.width);
};
viewer.addEventListener("pointerdown", event => {
  const zoomedTouch = event.pointerType !== "mouse" && pane.classList.contains("zoomed"); // a finger moves the picture
  if (event.button !== 0 || (event.target !== handle && zoomedTouch)) return;
  const box = pane.getBoundingClientRect(); // the scroll bars work as usual
  if (event.target !== handle && (event.clientX - box.left > pane.clientWidth || event.clientY - box.top > pane.clientHeight)) return;
  sliding = true;
  viewer.setPointerCapture(event.pointerId);
  handle.focus({preventScroll: true});
  event.preventDefault();
  slideTo(event);
});
viewer.addEventListener("pointermove", event => { if (sliding) slideTo(event); });
for (const end of ["pointerup", "pointercancel"]) viewer.addEventListener(end, () => { sliding = false; });
handle.addEventListener("keydown", event => {
  const step = event.shiftKey ? 10 : 2;
  const next = {ArrowLeft: split - step, ArrowRight: split + step, Home: 0, End: 100}[event.key];
  if (next === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  slide(next);
});

// ---- the worst of each method

function drawWorst() {
  const {methods, cases} = table(), metric = chosen.metric, way = data.metrics[metric].high ? 1 : -1;
  const cards = methods.map(method => {
    const scores = scoresOf(method);
    const there = cases.map((name, at) => at).filter(at => scores[at] !== null && scores[at] !== undefined);
    const average = mean(finite(scores));
    there.sort((a, b) => way * (scores[a] - scores[b]) || a - b);
    const items = there.slice(0, data.worst).map(at => make("li", {},
      shower(cases[at], cases[at], method) ?? make("span", {textContent: cases[at], title: cases[at]}),
      make("span", {textContent: format(metric, scores[at])}),
      make("span", {textContent: isFinite(scores[at]) ? signed(metric, scores[at] - average) : "", title: "less the method's mean"})));
    return items.length ? make("div", {className: "card"}, make("h3", {}, mark(method), method), make("ol", {}, ...items)) : "";
  });
  $("#worst-title").textContent = `The worst ${data.worst} of each method: ${data.regions[chosen.region]} ${data.metrics[metric].label}`;
  $("#worst .cards").replaceChildren(...cards);
}

// ---- what is chosen

function drawBar() {
  const {columns} = table();
  const regions = [...new Set(columns.map(([region]) => region))];
  if (!regions.includes(chosen.region)) chosen.region = regions[0] ?? "";
  const metrics = columns.filter(([region]) => region === chosen.region).map(([, metric]) => metric);
  if (!metrics.includes(chosen.metric)) chosen.metric = metrics[0] ?? "";
  const set = name => value => { chosen[name] = name === "table" ? Number(value) : value; drawAll(name); };
  const parts = [];
  if (data.tables.length > 1)
    parts.push(field("Table", data.tables.map((one, at) => [String(at), one.name]), String(chosen.table), set("table")));
  if (regions.length > 1)
    parts.push(choice("region", "Region", regions.map(name => [name, data.regions[name]]), chosen.region, set("region")));
  parts.push(choice("metric", "Metric", metrics.map(name => [name, data.metrics[name].label]), chosen.metric, set("metric")));
  if (data.tables.some(one => one.points.some(point => point.source))) {
    const box = make("input", {type: "checkbox", id: "printed", checked: printed});
    box.addEventListener("change", () => { printed = box.checked; showPrinted(); plotCost(); });
    parts.push(make("label", {className: "field"}, box, "Printed in papers"));
  }
  $("#bar").replaceChildren(...parts);
}
function showPrinted() {
  for (const row of $$("tr.paper")) row.hidden = !printed;
}
function drawAll(from) {
  for (const one of $$(".results")) one.hidden = Number(one.dataset.table) !== chosen.table;
  drawBar();
  const nothing = !chosen.metric; // a table of costs alone has nothing to plot
  for (const name of ["cost", "cases", "worst"]) $(`#${name}`).hidden = nothing;
  if (!nothing) { drawCost(); drawCases(); drawWorst(); }
  drawLook();
  // The control that was used is a new one now: it keeps the focus.
  if (from === "table") $("#bar select").focus({preventScroll: true});
  else if (from) $(`#bar input[name="${from}"]:checked`)?.focus({preventScroll: true});
}
for (const one of $$("table.sortable")) sortable(one);
drawAll();
let width = 0;
new ResizeObserver(() => {
  if (Math.abs(document.body.clientWidth - width) < 1) return;
  width = document.body.clientWidth;
  if (chosen.metric) { if (!$("#cost").hidden) plotCost(); plotCases(); }
  if (!$("#look").hidden) place();
}).observe(document.body);
}

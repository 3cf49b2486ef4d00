// Accuracy against one cost.
const MARGIN = { top: 14, right: 18, bottom: 44, left: 58 };

function niceStep(span, parts) {
  const raw = span / parts, power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((step) => step >= raw);
}

function linearTicks(low, high, parts) {
  const step = niceStep(high - low || 1, parts), ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step + 0);
  return ticks;
}

// 1, 2, 5 steps of every power of ten inside, or every power of two; thinned to what the width holds.
function logTicks(low, high, base, most) {
  const ticks = [];
  for (let e = Math.floor(Math.log(low) / Math.log(base)); base ** e <= high; e++) {
    for (const m of base === 2 ? [1] : [1, 2, 5]) {
      const tick = m * base ** e;
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  const every = Math.ceil(ticks.length / most);
  return ticks.filter((_, i) => i % every === 0);
}

// A scale from values to pixels. Wide ranges are logarithmic, others start at 0.
function costScale(values, width, unit, room) {
  const low = Math.min(...values), high = Math.max(...values);
  const most = Math.max(2, Math.floor(width / 62));
  if (high / low >= 20) {
    const [from, to] = [low / 1.25, high * 1.25];
    const map = (v) => room + (Math.log(v / from) / Math.log(to / from)) * width;
    return { map, log: true, ticks: logTicks(from, to, unit === "B" ? 2 : 10, most) };
  }
  const to = high * 1.06 || 1;
  const step = unit === "B" ? binaryStep(to, most) : niceStep(to, most);
  const ticks = [];
  for (let tick = 0; tick <= to; tick += step) ticks.push(tick);
  return { map: (v) => room + (v / to) * width, log: false, ticks };
}

function binaryStep(span, parts) {
  let step = 1;
  while (span / step > parts) step *= 2;
  return step;
}

// Networks that no other one of those shown beats on this cost, cheapest first.
function frontOf(points) {
  const sorted = [...points].sort((a, b) => a.cost - b.cost || b.accuracy - a.accuracy);
  const front = [];
  for (const point of sorted) {
    if (!front.length || point.accuracy > front[front.length - 1].accuracy) front.push(point);
  }
  return front;
}

function drawMark(svg, x, y, kind, size = 5) {
  if (kind === "anchor") {
    return add(svg, "rect", { class: "mark anchor", x: x - size, y: y - size, width: 2 * size, height: 2 * size, rx: 1.5 });
  }
  return add(svg, "circle", { class: `mark ${kind}`, cx: x, cy: y, r: kind === "dropped" ? size - 1.2 : size });
}

// chart: { host, label, unit, format, cost(network, index), limit() }
function drawScatter(chart) {
  const { host } = chart;
  clear(host);
  const width = Math.max(280, Math.min(host.clientWidth || 480, 1100)), height = Math.round(Math.min(380, Math.max(250, width * 0.62)));
  const svg = add(host, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Accuracy against ${chart.label}` });
  const points = networks.map((network, index) => ({ network, cost: chart.cost(network, index), accuracy: accuracy(network) }))
    .filter((p) => p.accuracy !== null && p.cost > 0);
  if (!points.length) {
    add(svg, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no accuracy is known for these images");
    return;
  }
  const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
  const x = costScale(points.map((p) => p.cost), inner.width, chart.unit, MARGIN.left);
  const all = points.map((p) => p.accuracy * 100), spread = Math.max(...all) - Math.min(...all) || 1;
  const low = Math.max(0, Math.min(...all) - spread * 0.1), high = Math.min(100, Math.max(...all) + spread * 0.12);
  const y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * inner.height;
  drawAxes(svg, chart, x, y, [low, high], { ...inner, bottom: height - MARGIN.bottom });
  const front = frontOf(points);
  const steps = front.map((p, i) => `${i ? `H${x.map(p.cost)}V` : `M${x.map(p.cost)},`}${y(p.accuracy * 100)}`).join("");
  add(svg, "path", { class: "front", d: `${steps}H${MARGIN.left + inner.width}` });
  const order = { dropped: 0, kept: 1, anchor: 2 };
  points.sort((a, b) => order[kindOf(a.network)] - order[kindOf(b.network)]);
  const halo = add(svg, "circle", { class: "halo", r: 10, cx: -99, cy: -99 });
  const places = points.map((p) => ({ ...p, px: x.map(p.cost), py: y(p.accuracy * 100) }));
  for (const p of places) {
    if (boardsOf(p.network).length) add(svg, "circle", { class: "ring", cx: p.px, cy: p.py, r: 9 });
    drawMark(svg, p.px, p.py, kindOf(p.network));
  }
  labelAnchors(svg, places, width);
  pointing(svg, places, halo, [width, height]);
}

function drawAxes(svg, chart, x, y, [low, high], inner) {
  const right = MARGIN.left + inner.width;
  for (const tick of linearTicks(low, high, 5)) {
    add(svg, "line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) });
    add(svg, "text", { x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, `${+tick.toFixed(2)}`);
  }
  for (const tick of x.ticks) {
    add(svg, "line", { class: "grid", x1: x.map(tick), x2: x.map(tick), y1: MARGIN.top, y2: inner.bottom });
    add(svg, "text", { x: x.map(tick), y: inner.bottom + 17, "text-anchor": "middle" }, tick ? chart.format(tick) : "0");
  }
  add(svg, "line", { class: "axis", x1: MARGIN.left, x2: right, y1: inner.bottom, y2: inner.bottom });
  const scale = x.log ? `${chart.label}, log scale` : chart.label;
  add(svg, "text", { x: right, y: inner.bottom + 36, "text-anchor": "end" }, scale);
  const name = `top-1 accuracy, ${NUMBERS[state.number]} (%)`;
  add(svg, "text", { transform: `translate(13 ${MARGIN.top}) rotate(-90)`, "text-anchor": "end" }, name);
  const limit = chart.limit ? chart.limit() : null;
  if (limit && x.map(limit) > MARGIN.left && x.map(limit) < right) {
    add(svg, "line", { class: "limit", x1: x.map(limit), x2: x.map(limit), y1: MARGIN.top, y2: inner.bottom });
    const flip = x.map(limit) > MARGIN.left + inner.width * 0.6;
    add(svg, "text", { class: "name", x: x.map(limit) + (flip ? -6 : 6), y: inner.bottom - 7, "text-anchor": flip ? "end" : "start" }, `usable ${chart.format(limit)}`);
  }
}

// Names of the anchors beside their marks, on the side with more room and off each other.
function labelAnchors(svg, places, width) {
  const taken = [];
  for (const p of places.filter((p) => kindOf(p.network) === "anchor")) {
    const wide = p.network.path.length * 6.6 + 12;
    const spots = [[p.px - 11, p.py + 4, "end"], [p.px + 11, p.py + 4, "start"], [p.px, p.py - 13, "middle"], [p.px, p.py + 22, "middle"]];
    const score = ([sx, sy, anchor]) => {
      const left = anchor === "end" ? sx - wide : anchor === "start" ? sx : sx - wide / 2;
      const hits = (q) => q.px > left - 8 && q.px < left + wide + 8 && Math.abs(q.py - sy + 4) < 12;
      const over = taken.filter((t) => t.left < left + wide && left < t.right && Math.abs(t.y - sy) < 14).length;
      const out = left < MARGIN.left || left + wide > width ? 4 : 0;
      return { left, cost: places.filter((q) => q !== p && hits(q)).length + 3 * over + out };
    };
    const best = spots.map((spot) => ({ spot, ...score(spot) })).sort((a, b) => a.cost - b.cost)[0];
    taken.push({ left: best.left, right: best.left + wide, y: best.spot[1] });
    add(svg, "text", { class: "name", x: best.spot[0], y: best.spot[1], "text-anchor": best.spot[2] }, p.network.path);
  }
}

// The nearest network to the pointer or finger is looked at.
function pointing(svg, places, halo, [width, height]) {
  const surface = add(svg, "rect", { class: "hit", x: 0, y: 0, width, height });
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const [px, py] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const away = (p) => Math.hypot(p.px - px, p.py - py);
    const best = places.reduce((a, b) => (away(b) <= away(a) ? b : a));
    return away(best) < 40 ? best : null;
  };
  const look = (event) => {
    const found = nearest(event);
    if (found && found.network.id !== state.selected) select(found.network.id);
  };
  surface.addEventListener("pointermove", look);
  surface.addEventListener("pointerdown", look);
  const show = (id) => {
    const p = places.find((q) => q.network.id === id);
    halo.setAttribute("cx", p ? p.px : -99);
    halo.setAttribute("cy", p ? p.py : -99);
  };
  show(state.selected);
  svg.lookAt = show;
}

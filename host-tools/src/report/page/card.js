// The network that is looked at.
function drawCard(id) {
  const card = byId("card");
  const network = networks.find((n) => n.id === id);
  clear(card);
  if (!network) {
    add(card, "span", { class: "soft" }, "Point at a network in a plot or a table to see its path and its figures.");
    return;
  }
  const title = add(card, "div", { class: "title" });
  add(title, "b", {}, network.path);
  add(title, "span", { class: "soft" }, verdict(network));
  const list = add(card, "dl");
  const figure = (name, value) => {
    const item = add(list, "div");
    add(item, "dt", {}, name);
    add(item, "dd", {}, value);
  };
  for (const kind of ["evaluation", "ranking"]) {
    if (!network[kind]) continue;
    const [int8, float] = network[kind];
    figure(`int8, ${kind}`, percent(int8));
    if (float) figure(`float, ${kind}`, percent(float));
  }
  figure("MACs", count(network.macs));
  figure("arena", `${count(network.arena_bytes)} B`);
  figure("parameters", count(network.params));
  const index = networks.indexOf(network);
  for (const board of data.boards) figure(board.name, time(board.latency_us[index]));
  const noise = network.noise || [];
  const pictures = add(card, "div", { class: noise.length ? "pictures" : "pictures single" });
  drawPath(add(pictures, "div"), network, { all: true, stages: true, scale: 1.2 });
  if (noise.length) drawNoise(add(pictures, "div"), noise);
}

function verdict(network) {
  const runs = boardsOf(network).map((board) => board.name);
  const parts = [isKept(network) ? `plan ${network.plan} of the bundle` : "not in the bundle"];
  if (runs.length) parts.push(`runs on ${runs.join(", ")}`);
  const rival = networks.find((n) => n.id === network.beaten_by);
  if (rival) parts.push(`beaten by ${rival.path}`);
  return parts.join(" · ");
}

// Signal-to-noise ratio of every step of the int8 plan against the float network.
function drawNoise(host, noise) {
  const width = 320, height = 84, left = 34, bottom = 18, top = 16;
  const known = noise.map((n) => n.snr_db).filter((db) => db !== null);
  const high = Math.max(10, ...known), low = Math.min(0, ...known);
  const svg = add(host, "svg", { viewBox: `0 0 ${width} ${height}`, width, role: "img", "aria-label": "Signal-to-noise ratio of every step" });
  add(svg, "text", { x: 0, y: 10, "font-size": 10.5 }, "signal-to-noise ratio of each step (dB)");
  const y = (db) => top + (1 - (db - low) / (high - low)) * (height - bottom - top);
  for (const tick of linearTicks(low, high, 2)) {
    add(svg, "line", { class: "grid", x1: left, x2: width, y1: y(tick), y2: y(tick) });
    add(svg, "text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end", "font-size": 10.5 }, `${tick}`);
  }
  const each = (width - left) / noise.length;
  for (const [i, step] of noise.entries()) {
    const value = step.snr_db === null ? high : step.snr_db;
    const bar = add(svg, "rect", { x: left + i * each, y: y(Math.max(value, 0)), width: Math.max(1, each - 2), height: Math.abs(y(0) - y(value)), fill: "var(--kept)", opacity: step.snr_db === null ? 0.25 : 0.8, rx: 1 });
    add(bar, "title", {}, `${step.name}: ${step.snr_db === null ? "exact" : `${step.snr_db.toFixed(1)} dB`}`);
  }
  add(svg, "text", { x: left, y: height - 4, "font-size": 10.5 }, "first step");
  add(svg, "text", { x: width, y: height - 4, "text-anchor": "end", "font-size": 10.5 }, "last");
}

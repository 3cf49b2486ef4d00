// Adaptation traces: what an inference was allowed, expected and seen to take, and the plan that ran.
function drawTrace(host, trace) {
  const chart = add(host, "figure", { class: "chart" });
  chart.style.marginTop = "14px";
  const head = add(chart, "div", { class: "head" });
  add(head, "h3", {}, trace.name);
  const share = trace.inferences ? trace.missed / trace.inferences : 0;
  add(head, "span", { class: "soft" }, `${count(trace.inferences)} inferences · ${count(trace.missed)} deadlines missed (${percent(share, 1)}) · ${count(trace.switches)} changes of plan`);
  const place = add(chart, "div");
  const draw = () => traceChart(place, trace);
  draw();
  return { host: place, draw };
}

function traceChart(host, trace) {
  clear(host);
  const lines = trace.lines;
  if (!lines.length) return;
  const width = Math.max(300, Math.min(host.clientWidth || 900, 1100)), main = 220, lane = 22;
  const plans = [...new Set(lines.map((l) => l.plan))].sort((a, b) => b - a);
  const bottom = MARGIN.top + main, laneTop = bottom + 26, height = laneTop + plans.length * lane + 40;
  const svg = add(host, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": `Trace ${trace.name}` });
  const [first, last] = [lines[0].inference, lines[lines.length - 1].inference];
  const right = width - MARGIN.right;
  const x = (n) => MARGIN.left + ((n - first) / (last - first || 1)) * (right - MARGIN.left);
  const values = lines.flatMap((l) => [l.observed_us, l.predicted_us, l.deadline_us]).filter((v) => v > 0);
  const high = Math.max(...values) * 1.06;
  const [factor, unit] = high >= 2e6 ? [1e6, "s"] : high >= 2e3 ? [1e3, "ms"] : [1, "µs"];
  const y = (us) => MARGIN.top + (1 - us / high) * main;
  for (const tick of linearTicks(0, high / factor, 4)) {
    add(svg, "line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(tick * factor), y2: y(tick * factor) });
    add(svg, "text", { x: MARGIN.left - 8, y: y(tick * factor) + 4, "text-anchor": "end" }, `${+tick.toPrecision(4)}`);
  }
  add(svg, "text", { transform: `translate(13 ${MARGIN.top}) rotate(-90)`, "text-anchor": "end" }, `time of one inference (${unit})`);
  const path = (get, stepped) => {
    let text = "", open = false, before = 0;
    for (const line of lines) {
      const value = get(line);
      if (value === null || value === undefined) { open = false; continue; }
      const at = `${x(line.inference).toFixed(1)}`, up = y(value).toFixed(1);
      text += open ? (stepped && before !== up ? `H${at}V${up}` : `L${at},${up}`) : `M${at},${up}`;
      open = true;
      before = up;
    }
    return text;
  };
  add(svg, "path", { class: "trace-line predicted", d: path((l) => l.predicted_us, false) });
  add(svg, "path", { class: "trace-line observed", d: path((l) => l.observed_us, false) });
  add(svg, "path", { class: "trace-line deadline", d: path((l) => l.deadline_us, true) });
  for (const line of lines.filter((l) => l.missed)) {
    const [cx, cy] = [x(line.inference), y(line.observed_us)];
    add(svg, "path", { class: "miss", d: `M${cx - 3.5},${cy - 3.5}l7,7m0,-7l-7,7` });
  }
  planLane(svg, lines, plans, x, { laneTop, lane, right });
  const end = laneTop + plans.length * lane;
  for (const tick of linearTicks(first, last, Math.max(2, Math.floor(width / 110)))) {
    if (!Number.isInteger(tick)) continue;
    add(svg, "text", { x: x(tick), y: end + 16, "text-anchor": "middle" }, count(tick));
  }
  add(svg, "text", { x: right, y: end + 34, "text-anchor": "end" }, "inference");
}

// One row per plan, the most accurate on top; the line shows which one ran.
function planLane(svg, lines, plans, x, { laneTop, lane, right }) {
  add(svg, "text", { x: MARGIN.left, y: laneTop - 6 }, "plan that ran");
  const middle = (plan) => laneTop + (plans.indexOf(plan) + 0.5) * lane;
  for (const plan of plans) {
    add(svg, "line", { class: "grid", x1: MARGIN.left, x2: right, y1: middle(plan), y2: middle(plan) });
    add(svg, "text", { x: MARGIN.left - 8, y: middle(plan) + 4, "text-anchor": "end" }, `${plan}`);
  }
  let text = "";
  lines.forEach((line, i) => {
    const at = x(line.inference).toFixed(1);
    if (!i) text += `M${at},${middle(line.plan)}`;
    else if (line.plan !== lines[i - 1].plan) text += `H${at}V${middle(line.plan)}`;
  });
  add(svg, "path", { class: "plan-step", d: `${text}H${x(lines[lines.length - 1].inference)}` });
}

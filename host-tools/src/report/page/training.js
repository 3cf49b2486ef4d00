// The training run: accuracy of every network before, during and after, and how often each was drawn.
function trainingCharts(host, training) {
  if (!training.validations.length) return;
  const last = training.validations[training.validations.length - 1], first = training.validations[0];
  const text = add(host, "p", { class: "soft" });
  text.textContent = `Float accuracy on ${count(training.images)} held-out images after every epoch. Solid squares: anchors. Hollow: before training, where stitches are least squares.`;
  const grid = add(host, "div", { class: "charts" });
  const charts = [
    ["Over the epochs", (place) => epochChart(place, training)],
    ["Before and after", (place) => changeChart(place, training, first.accuracy, last.accuracy)],
    ["Draws", (place) => drawChart(place, training)],
  ];
  for (const [title, draw] of charts) {
    const figure = add(grid, "figure", { class: "chart" });
    add(add(figure, "div", { class: "head" }), "h3", {}, title);
    const place = add(figure, "div");
    const again = () => draw(place);
    again();
    redraws.push(again);
  }
}

// An empty plot with a scale for accuracies in percent; returns its parts.
function trainingFrame(host, label, values) {
  clear(host);
  const width = Math.max(280, Math.min(host.clientWidth || 480, 1100)), height = 260;
  const svg = add(host, "svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
  const low = Math.min(...values), high = Math.max(...values), spread = high - low || 1;
  const [from, to] = [low - spread * 0.06, high + spread * 0.06];
  const bottom = height - MARGIN.bottom, right = width - MARGIN.right;
  const y = (value) => MARGIN.top + (1 - (value - from) / (to - from)) * (bottom - MARGIN.top);
  for (const tick of linearTicks(from, to, 5)) {
    add(svg, "line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(tick), y2: y(tick) });
    add(svg, "text", { x: MARGIN.left - 8, y: y(tick) + 4, "text-anchor": "end" }, `${+tick.toPrecision(4)}`);
  }
  add(svg, "line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom });
  add(svg, "text", { x: right, y: bottom + 36, "text-anchor": "end" }, label);
  return { svg, y, bottom, right, width };
}

function epochChart(host, training) {
  const all = training.validations, values = all.flatMap((v) => v.accuracy.map((a) => a * 100));
  const { svg, y, bottom, right } = trainingFrame(host, "epoch", values);
  add(svg, "text", { transform: `translate(13 ${MARGIN.top}) rotate(-90)`, "text-anchor": "end" }, "accuracy (%)");
  const end = all[all.length - 1].epoch || 1;
  const x = (epoch) => MARGIN.left + (epoch / end) * (right - MARGIN.left);
  for (const tick of linearTicks(0, end, 6)) {
    if (Number.isInteger(tick)) add(svg, "text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, `${tick}`);
  }
  training.networks.forEach((network, i) => {
    const d = all.map((v, n) => `${n ? "L" : "M"}${x(v.epoch).toFixed(1)},${y(v.accuracy[i] * 100).toFixed(1)}`).join("");
    const line = add(svg, "path", { class: network.is_anchor ? "run anchor" : "run", d });
    add(line, "title", {}, network.path);
  });
}

function changeChart(host, training, before, after) {
  const values = [...before, ...after].map((a) => a * 100);
  const { svg, y, bottom, right } = trainingFrame(host, "multiply-accumulates, log scale", values);
  const macs = training.networks.map((network) => network.macs), low = Math.min(...macs) / 1.15, high = Math.max(...macs) * 1.15;
  const x = (value) => MARGIN.left + (Math.log(value / low) / Math.log(high / low)) * (right - MARGIN.left);
  for (const tick of logTicks(low, high, 10, 6)) {
    add(svg, "text", { x: x(tick), y: bottom + 17, "text-anchor": "middle" }, decimal(tick));
  }
  training.networks.forEach((network, i) => {
    const at = x(network.macs), kind = network.is_anchor ? "anchor" : "stitch";
    const [from, to] = [y(before[i] * 100), y(after[i] * 100)];
    add(svg, "line", { class: "change", x1: at, x2: at, y1: from, y2: to });
    drawMark(svg, at, from, `${kind} dropped`, 4);
    const mark = drawMark(svg, at, to, kind, 4);
    add(mark, "title", {}, `${network.path}: ${percent(before[i])} before, ${percent(after[i])} after`);
  });
}

function drawChart(host, training) {
  const { svg, y, bottom, right } = trainingFrame(host, "network, by id", [0, ...training.draws]);
  add(svg, "text", { transform: `translate(13 ${MARGIN.top}) rotate(-90)`, "text-anchor": "end" }, "draws");
  const step = (right - MARGIN.left) / training.networks.length;
  training.networks.forEach((network, i) => {
    const bar = add(svg, "rect", {
      class: network.is_anchor ? "draws anchor" : "draws", x: MARGIN.left + i * step + step * 0.15, y: y(training.draws[i]),
      width: step * 0.7, height: Math.max(0, Math.min(bottom, y(0)) - y(training.draws[i])),
    });
    add(bar, "title", {}, `${network.path}: ${count(training.draws[i])}`);
  });
}

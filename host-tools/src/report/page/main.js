// The page, from top to bottom.
const redraws = [];

function choice(host, label, options, current, set) {
  const group = add(host, "span", { class: "choice", role: "group", "aria-label": label });
  const buttons = options.map(([value, text]) => {
    const button = add(group, "button", { type: "button" }, text);
    button.addEventListener("click", () => { set(value); mark(value); redrawCharts(); });
    return [value, button];
  });
  const mark = (now) => buttons.forEach(([value, button]) => button.setAttribute("aria-pressed", String(value === now)));
  mark(current);
}

function header() {
  byId("title").textContent = data.name;
  const kept = networks.filter(isKept).length, anchors = networks.filter(isAnchor).length;
  const [h, w, c] = data.input;
  const parts = [
    `${count(networks.length)} networks for ${h}×${w}×${c} inputs: ${anchors} anchors and ${networks.length - anchors} stitches.`,
    `${kept} of them are in a bundle of ${binary(data.bundle_bytes)} (${count(data.bundle_bytes)} bytes).`,
  ];
  byId("summary").textContent = parts.join(" ");
}

function legend() {
  const entry = (text, draw) => {
    const item = add(byId("legend"), "li");
    draw(add(item, "svg", { viewBox: "0 0 18 16", "aria-hidden": "true" }));
    add(item, "span", {}, text);
  };
  const present = new Set(networks.map(kindOf));
  const texts = { anchor: "anchor", "anchor dropped": "anchor outside of the bundle", stitch: "stitch", "stitch dropped": "stitch outside of the bundle" };
  for (const [kind, text] of Object.entries(texts)) {
    if (present.has(kind)) entry(text, (svg) => drawMark(svg, 9, 8, kind, 4.5));
  }
  if (data.boards.some((b) => b.pick !== null)) entry("runs on a board", (svg) => add(svg, "circle", { class: "ring", cx: 9, cy: 8, r: 6 }));
  entry("best for its cost", (svg) => add(svg, "path", { class: "front", d: "M1,13H7V7H13V3H17" }));
  const choices = byId("choices");
  const images = ["ranking", "evaluation"].filter((kind) => networks.some((n) => n[kind]));
  if (images.length > 1) choice(choices, "images", images.map((kind) => [kind, imagesText(kind)]), state.images, (v) => { state.images = v; });
  choice(choices, "numbers", [[0, "int8"], [1, "float"]], state.number, (v) => { state.number = v; });
}

const charts = [];
function scatter(title, chart, extra) {
  const figure = add(byId("charts"), "figure", { class: "chart" });
  const head = add(figure, "div", { class: "head" });
  add(head, "h3", {}, title);
  if (extra) extra(head);
  charts.push({ ...chart, host: add(figure, "div") });
}

function boardChoice(head) {
  if (data.boards.length < 2) return;
  const list = add(head, "select", { "aria-label": "board" });
  data.boards.forEach((board, i) => add(list, "option", { value: i }, board.name));
  list.addEventListener("change", () => { state.board = Number(list.value); redrawCharts(); });
}

function scatters() {
  scatter("Accuracy and work", { label: "multiply-accumulates per inference", unit: "", format: decimal, cost: (n) => n.macs });
  scatter("Accuracy and memory", { label: "arena (bytes)", unit: "B", format: binary, cost: (n) => n.arena_bytes });
  if (!data.boards.length) return;
  const title = data.boards.length > 1 ? "Accuracy and latency" : `Accuracy and latency on ${data.boards[0].name}`;
  scatter(title, {
    label: "predicted time of one inference", unit: "us", format: time,
    cost: (_, index) => data.boards[state.board].latency_us[index], limit: () => data.boards[state.board].usable_us,
  }, boardChoice);
}

const redrawCharts = () => charts.forEach(drawScatter);

function pathPictures() {
  if (!data.anchors.length || !networks.some((n) => n.route.length)) return;
  const host = byId("paths");
  add(host, "h2", {}, "Paths through the anchors");
  add(host, "p", { class: "soft" }, "One row per anchor, one box per block; filled boxes run. The arrow is the stitching layer between two anchors.");
  const grid = add(host, "div", { class: "paths" });
  const shown = networks.filter(isKept).concat(networks.filter((n) => !isKept(n)));
  for (const network of shown.slice(0, 60)) {
    const figure = add(grid, "figure");
    figure.dataset.id = network.id;
    add(figure, "h3", {}, network.path);
    drawPath(add(figure, "div"), network);
    const caption = add(figure, "figcaption");
    const value = (network.evaluation || network.ranking || [null])[0];
    add(caption, "span", {}, isKept(network) ? `plan ${network.plan}` : "not kept");
    add(caption, "span", {}, `${value === null ? "" : `${percent(value)} · `}${decimal(network.macs)} MACs · ${binary(network.arena_bytes)}`);
    figure.addEventListener("pointerenter", () => select(network.id));
    figure.addEventListener("click", () => select(network.id));
  }
  if (shown.length > 60) add(host, "p", { class: "soft" }, `${shown.length - 60} more are in the table.`);
}

function footer() {
  const parts = [];
  if (data.ranking_images) parts.push(`All networks were ranked on ${imagesText("ranking")}, taken from the training set. One is beaten by another that is at least as accurate there with no more work and no more memory.`);
  if (data.evaluation_images) parts.push(`Those in the bundle were then measured on ${imagesText("evaluation")}.`);
  parts.push("A multiply-accumulate is one weight times one activation. The arena is all the memory an inference uses besides the stack.");
  if (data.boards.length) parts.push("Latencies are predictions of the boards' models.");
  byId("footer").textContent = parts.join(" ");
}

header();
legend();
scatters();
if (data.training) {
  add(byId("training"), "h2", {}, "Training");
  trainingCharts(byId("training"), data.training);
}
if (data.boards.length) {
  add(byId("boards"), "h2", {}, "Boards");
  add(byId("boards"), "p", { class: "soft" }, "Every board runs the most accurate network of the bundle inside its limits.");
  boardTable(byId("boards"));
}
pathPictures();
add(byId("tables"), "h2", {}, "All networks");
networkTable(byId("tables"));
if (data.traces.length) {
  add(byId("traces"), "h2", {}, "Adaptation");
  const text = add(byId("traces"), "p", { class: "soft" });
  text.textContent = "Solid: time observed. Dashed: time predicted for the plan. Orange: deadline; crosses are missed deadlines.";
  data.traces.forEach((trace) => redraws.push(drawTrace(byId("traces"), trace).draw));
}
footer();
redrawCharts();
drawCard(null);
listeners.push(drawCard, markRows, (id) => document.querySelectorAll("#charts svg").forEach((svg) => svg.lookAt && svg.lookAt(id)));
let waiting = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => { redrawCharts(); redraws.forEach((draw) => draw()); });
});

// Elements, numbers, and the state that all parts share.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

function add(parent, tag, attributes = {}, text) {
  const element = parent instanceof SVGElement || tag === "svg"
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const clear = (element) => element.replaceChildren();
const count = (n) => Math.round(n).toLocaleString("en-US");
const percent = (share, digits = 2) => `${(share * 100).toFixed(digits)} %`;

// 12,501,632 -> "12.5 M"; digits are those that tell neighbours apart.
function decimal(value) {
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (value >= size) return `${+(value / size).toPrecision(3)} ${unit}`;
  }
  return `${+value.toPrecision(3)}`;
}

const binary = (bytes) => bytes >= 1048576 ? `${+(bytes / 1048576).toPrecision(3)} MiB`
  : bytes >= 1024 ? `${+(bytes / 1024).toPrecision(3)} KiB` : `${bytes} B`;

function time(us) {
  if (us >= 1e6) return `${+(us / 1e6).toPrecision(3)} s`;
  return us >= 1e3 ? `${+(us / 1e3).toPrecision(3)} ms` : `${+us.toPrecision(3)} µs`;
}

const networks = data.networks;
const isAnchor = (network) => network.route.length > 0
  ? network.route.every((b) => b.anchor === network.route[0].anchor) : !network.path.includes(" > ");
const isKept = (network) => network.plan !== null;
const kindOf = (network) => isAnchor(network) ? "anchor" : isKept(network) ? "kept" : "dropped";
const anchorColour = (index) => `var(--anchor-${index % 6})`;
const boardsOf = (network) => data.boards.filter((board) => board.pick === network.id);

// Which accuracy is shown, and which network is looked at.
const state = {
  images: networks.some((n) => n.evaluation) && !networks.some((n) => n.ranking) ? "evaluation" : "ranking",
  number: 0,
  board: 0,
  selected: null,
};
const NUMBERS = ["int8", "float"];
const accuracy = (network) => network[state.images] ? network[state.images][state.number] : null;
const imagesText = (kind) => {
  const n = data[`${kind}_images`];
  return n ? `${count(n)} ${kind} images` : `${kind} images`;
};

// Told when a network is pointed at or chosen; every part marks it in its own way.
const listeners = [];
function select(id) {
  state.selected = id;
  for (const listen of listeners) listen(id);
}

// A network's way through the anchors: one row per anchor, one box per block, boxes of one stage under each other.
const UNIT = { width: 26, height: 15, gap: 3, row: 27 };

// Columns by stage, as wide as the longest anchor needs, then one for the classifiers. Without stages blocks spread evenly.
function columns() {
  const groups = data.stages.length ? data.stages.map((name) => ({ name })) : [{ name: "" }];
  if (data.stages.length) groups.push({ name: "head" });
  const inGroup = (anchor, g) => anchor.blocks.map((stage, block) => ({ stage, block }))
    .filter(({ stage }) => !data.stages.length || (stage === null ? groups.length - 1 : stage) === g).map(({ block }) => block);
  let left = 0;
  for (const [g, group] of groups.entries()) {
    group.blocks = data.anchors.map((anchor) => inGroup(anchor, g));
    group.units = Math.max(1, ...group.blocks.map((blocks) => blocks.length));
    group.left = left;
    left += group.units * UNIT.width + (g < groups.length - 1 ? 8 : 0);
  }
  return { groups: groups.filter((g) => g.blocks.some((b) => b.length)), width: left };
}

const LAYOUT = columns();

// Left and right edge of a block's box.
function edges(anchor, block) {
  for (const group of LAYOUT.groups) {
    const at = group.blocks[anchor].indexOf(block);
    if (at < 0) continue;
    const each = (group.units * UNIT.width) / group.blocks[anchor].length;
    return [group.left + at * each, group.left + (at + 1) * each - UNIT.gap];
  }
  return [0, 0];
}

function drawPath(host, network, options = {}) {
  clear(host);
  if (!network.route.length || !data.anchors.length) return;
  const used = new Set(network.route.map((b) => b.anchor));
  const rows = data.anchors.map((_, i) => i).filter((i) => options.all || used.has(i));
  const label = Math.max(...rows.map((i) => data.anchors[i].name.length)) * 6.7 + 12;
  const head = data.stages.length && options.stages ? 17 : 0;
  const width = label + LAYOUT.width + 6, height = head + rows.length * UNIT.row + 2;
  const svg = add(host, "svg", { viewBox: `0 0 ${width} ${height}`, width: Math.round(width * (options.scale || 1)), role: "img", "aria-label": `Path ${network.path}` });
  if (head) {
    for (const group of LAYOUT.groups) {
      const middle = label + group.left + (group.units * UNIT.width - UNIT.gap) / 2;
      if (group.units * UNIT.width >= group.name.length * 6) add(svg, "text", { x: middle, y: 11, "text-anchor": "middle", "font-size": 10.5 }, group.name);
    }
  }
  const top = (row) => head + row * UNIT.row + (UNIT.row - UNIT.height) / 2;
  const runs = new Set(network.route.map((b) => `${b.anchor} ${b.block}`));
  for (const [row, anchor] of rows.entries()) {
    add(svg, "text", { x: label - 10, y: top(row) + 12, "text-anchor": "end" }, data.anchors[anchor].name);
    for (const block of data.anchors[anchor].blocks.keys()) {
      const [left, right] = edges(anchor, block);
      const on = runs.has(`${anchor} ${block}`);
      const box = add(svg, "rect", { class: on ? "block" : "block idle", x: label + left, y: top(row), width: right - left, height: UNIT.height });
      if (on) box.style.fill = anchorColour(anchor);
    }
  }
  for (const [i, block] of network.route.entries()) {
    const next = network.route[i + 1];
    if (!next || next.anchor === block.anchor) continue;
    const from = [label + edges(block.anchor, block.block)[1] - 1, top(rows.indexOf(block.anchor)) + UNIT.height];
    const to = [label + edges(next.anchor, next.block)[0] + 4, top(rows.indexOf(next.anchor))];
    const bend = (to[1] - from[1]) * 0.75;
    add(svg, "path", { class: "cross", d: `M${from}C${from[0]},${from[1] + bend} ${to[0]},${to[1] - bend} ${to[0]},${to[1] - 4}` });
    add(svg, "path", { class: "tip", d: `M${to[0] - 3.5},${to[1] - 5.5}h7l-3.5,5.5z` });
  }
}

// Tables that sort by a click on a heading.

// columns: { name, of(row) -> value, text(value, row), left }
function drawTable(host, columns, rows, options = {}) {
  const table = add(add(host, "div", { class: "scroll" }), "table");
  const head = add(add(table, "thead"), "tr");
  const body = add(table, "tbody");
  let sorted = { column: options.sort || 0, down: false };
  const cells = columns.map((column, index) => {
    const cell = add(head, "th", { class: column.left ? "left" : "", scope: "col" });
    const button = add(cell, "button", { type: "button", title: `sort by ${column.name}` }, column.name);
    button.addEventListener("click", () => {
      sorted = { column: index, down: sorted.column === index ? !sorted.down : Boolean(column.best) };
      fill();
    });
    return cell;
  });
  function fill() {
    const { of } = columns[sorted.column];
    const missing = (v) => v === null || v === undefined;
    const order = (a, b) => {
      const [x, y] = [of(a), of(b)];
      if (missing(x) || missing(y)) return missing(x) - missing(y);
      const by = typeof x === "string" ? x.localeCompare(y) : x - y;
      return sorted.down ? -by : by;
    };
    cells.forEach((cell, i) => i === sorted.column
      ? cell.setAttribute("aria-sort", sorted.down ? "descending" : "ascending") : cell.removeAttribute("aria-sort"));
    clear(body);
    for (const row of [...rows].sort(order)) {
      const line = add(body, "tr", { class: options.kind ? options.kind(row) : "" });
      if (options.id) {
        line.dataset.id = options.id(row);
        line.addEventListener("pointerenter", () => select(options.id(row)));
        line.addEventListener("click", () => select(options.id(row)));
      }
      for (const column of columns) {
        const value = column.of(row);
        const text = missing(value) ? "–" : column.text ? column.text(value, row) : value;
        add(line, "td", { class: column.left ? `left ${column.name}` : "" }, text);
      }
    }
    if (options.after) options.after();
  }
  fill();
  return table;
}

function networkTable(host) {
  const indexOf = (network) => networks.indexOf(network);
  const share = (kind, number) => (n) => (n[kind] && n[kind][number] ? n[kind][number] : null);
  const has = (kind) => networks.some((n) => n[kind]);
  const kinds = ["evaluation", "ranking"].filter(has);
  const columns = [
    { name: "id", of: (n) => n.id },
    { name: "plan", of: (n) => n.plan },
    { name: "path", of: (n) => n.path, left: true },
    ...kinds.flatMap((kind) => NUMBERS.map((number, i) => ({ name: `${number}, ${kind}`, of: share(kind, i), text: (v) => percent(v), best: true }))),
    { name: "MACs", of: (n) => n.macs, text: count },
    { name: "parameters", of: (n) => n.params, text: count },
    { name: "arena B", of: (n) => n.arena_bytes, text: count },
    ...data.boards.map((board) => ({ name: `${board.name}, ms`, of: (n) => board.latency_us[indexOf(n)], text: (us) => (us / 1000).toLocaleString("en-US", { maximumSignificantDigits: 4 }) })),
  ];
  drawTable(host, columns, networks, {
    sort: columns.findIndex((c) => c.name === "MACs"),
    id: (n) => n.id,
    kind: (n) => (isAnchor(n) ? "anchor" : kindOf(n)) + (isKept(n) ? "" : " dropped"),
    after: () => markRows(state.selected),
  });
}

function markRows(id) {
  for (const row of document.querySelectorAll("tr[data-id], .paths figure")) row.classList.toggle("on", row.dataset.id === String(id));
}

function boardTable(host) {
  const picked = (board) => networks.find((n) => n.id === board.pick);
  const of = (get) => (board) => { const n = picked(board); return n ? get(n, board) : null; };
  drawTable(host, [
    { name: "board", of: (b) => b.name, left: true },
    { name: "memory B", of: (b) => b.ram_bytes, text: count },
    { name: "deadline ms", of: (b) => b.deadline_us, text: (us) => `${us / 1000}` },
    { name: "plan", of: of((n) => n.plan) },
    { name: "runs", of: (b) => (picked(b) ? picked(b).path : "nothing fits"), left: true },
    { name: "accuracy", of: of((n) => (n.evaluation || n.ranking || [null])[0]), text: (v) => percent(v), best: true },
    { name: "predicted ms", of: of((n, b) => b.latency_us[networks.indexOf(n)]), text: (us) => (us / 1000).toLocaleString("en-US", { maximumSignificantDigits: 4 }) },
    { name: "arena B", of: of((n) => n.arena_bytes), text: count },
  ], data.boards, { id: (b) => b.pick });
}

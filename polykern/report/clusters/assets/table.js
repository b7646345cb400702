"use strict";
/* The table of all clusters: sorted, searched, and drawn only where it is in view. */
(() => {
  const pk = window.polykern, { h, data } = pk;
  const ROW = 32; // px, as in the style sheet
  const text = Boolean(data.words), word = { tokens: "token", classes: "class" }[data.words];
  const COLUMNS = [
    { id: "c", head: "cluster", title: "Clusters are numbered by size", up: true },
    { id: "size", head: "rows", title: "Rows in the cluster", bar: true },
    ...(text ? [{ id: "names", head: data.words, title: `The most frequent ${data.words}`, plain: true }] : []),
    ...(text ? [{ id: "share", head: `top ${word}`, title: `Share of the most frequent ${word}`, part: true, bar: true }] : []),
    ...(text ? [{ id: "entropy", head: "entropy", title: `Entropy of the ${data.words} in the cluster, bits`, up: true }] : []),
    { id: "persistence", head: "persistence", title: "How long the cluster lasts while the distance shrinks, relative to the longest it could" },
    { id: "mean", head: "mean dist.", title: "Mean distance of its rows from the medoid", up: true },
    { id: "max", head: "max dist.", title: "Largest distance of its rows from the medoid", up: true },
  ];

  /* The table over {columns, names}; every row a link to its cluster. */
  function table(columns, names) {
    const n = data.clusters, state = { by: "c", up: true, find: "" };
    const values = { ...columns, c: Uint32Array.from({ length: n }, (_, i) => i) };
    const lower = names.map((list) => list.join("\n").toLowerCase());
    const most = { size: values.size?.reduce((a, b) => Math.max(a, b), 1), share: 1 };
    let order = values.c;
    const body = h("div.rows", { role: "rowgroup" }), space = h("div.space", { role: "presentation" });
    const scroller = h("div.scroller", { tabindex: 0, role: "presentation" });
    const heads = COLUMNS.map((column) => h("button", { type: "button", title: column.title, onclick: () => sort(column) }, column.head));
    const head = h("div.row.head", { role: "row", "aria-rowindex": 1 }, heads.map((b, k) => h(`span.${COLUMNS[k].id}`, { role: "columnheader" }, b)));
    const grid = h("div.grid", { role: "table", "aria-label": "Clusters", "aria-rowcount": n + 1, "data-columns": text ? "words" : "plain" }, head, scroller);
    const count = h("span.quiet", { role: "status" });
    const field = h("input", { type: "search", id: "filter", placeholder: text ? `number or ${word}` : "number", "aria-label": text ? `Filter the table by number or ${word}` : "Filter the table by number", spellcheck: "false" });
    field.addEventListener("input", () => { state.find = field.value; choose(); });
    scroller.append(space, body);
    scroller.addEventListener("scroll", () => requestAnimationFrame(draw));

    function choose() {
      const find = state.find.trim().toLowerCase();
      const number = /^\d+$/.test(find) ? Number(find) : -1;
      let some = values.c;
      if (find) some = some.filter((c) => c === number || lower[c]?.includes(find));
      if (state.by !== "c" && state.by !== "names") {
        const v = values[state.by], sign = state.up ? 1 : -1;
        some = some.slice().sort((a, b) => sign * (v[a] - v[b]) || a - b);
      } else if (state.by === "names") {
        const sign = state.up ? 1 : -1;
        some = some.slice().sort((a, b) => sign * (lower[a] < lower[b] ? -1 : lower[a] > lower[b] ? 1 : 0) || a - b);
      } else if (!state.up) some = some.slice().reverse();
      order = some;
      heads.forEach((b, k) => {
        const on = COLUMNS[k].id === state.by;
        b.parentElement.setAttribute("aria-sort", on ? (state.up ? "ascending" : "descending") : "none");
      });
      grid.setAttribute("aria-rowcount", order.length + 1);
      count.textContent = order.length === n ? `${pk.number(n)} clusters` : `${pk.number(order.length)} of ${pk.number(n)} clusters`;
      space.style.height = `${order.length * ROW}px`;
      scroller.style.height = `${Math.min(15, Math.max(2, order.length)) * ROW}px`;
      scroller.scrollTop = 0;
      draw();
    }

    function sort(column) {
      state.up = state.by === column.id ? !state.up : Boolean(column.up || column.plain);
      state.by = column.id;
      choose();
    }

    function draw() {
      const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - 4);
      const last = Math.min(order.length, first + Math.ceil((scroller.clientHeight || 400) / ROW) + 9);
      body.style.transform = `translateY(${first * ROW}px)`;
      body.replaceChildren(...Array.from(order.subarray(first, last), (c, k) => row(c, first + k)));
    }

    function row(c, place) {
      return h("div.row", { role: "row", "aria-rowindex": place + 2, onclick: (event) => { if (event.target.tagName !== "A") location.hash = `#c=${c}`; } },
        COLUMNS.map((column) => h(`span.${column.id}`, { role: "cell" }, cell(column, c))));
    }

    function cell(column, c) {
      if (column.id === "c") return pk.link(c);
      if (column.plain) return (names[c] ?? []).map((t) => pk.token(t));
      const value = values[column.id][c];
      const said = column.part ? pk.percent(value) : pk.number(value, 4);
      return column.bar ? [h("b", {}, said), pk.bar(value / most[column.id])] : said;
    }

    choose();
    const card = h("section.card.clusters", { "aria-label": "All clusters" }, h("header", {}, h("h2", {}, "Clusters"), count, h("span.tools", {}, field)), grid);
    card.ready = Promise.resolve();
    card.redraw = draw;
    new ResizeObserver(draw).observe(scroller);
    return card;
  }

  Object.assign(pk, { table });
})();

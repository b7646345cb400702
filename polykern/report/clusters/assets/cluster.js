"use strict";
/* One cluster: its numbers, its examples, what tells it, what is near it. */
(() => {
  const pk = window.polykern, { h, data, number } = pk;
  const GROUPS = {
    all: ["All rows", "nearest to the medoid first"],
    nearest: ["Nearest to the medoid", "the most typical rows; alone they flatter a cluster"],
    random: ["Random rows", "drawn from all, by distance"],
    boundary: ["At the boundary", "the rows that belong to it least"],
    outlying: ["Farthest out", "largest outlier scores"],
  };
  const place = (e) => [`row ${number(e.row)}`, e.doc === undefined ? null : `document ${number(e.doc)}`, e.pos === undefined ? null : `position ${number(e.pos)}`].filter(Boolean).join(", ");
  const measured = (e) => h("span.d", { title: `${place(e)}; probability ${number(e.p)}, outlier score ${number(e.o)}` }, e.d === null ? number(e.o, 2) : number(e.d, 4));

  /* Long runs of blanks are there, but take little room on a line. */
  const gaps = (text) => text.split(/( {3,})/u).map((part, k) => (k % 2 ? h("span.gap", {}, part) : part));

  /* The blanks around a token stay outside of its mark, unless it is nothing else. */
  function line(e, badge) {
    const own = e.tokens[e.at], [, ahead, middle, behind] = /^(\s*)(.*?)(\s*)$/su.exec(own);
    const before = e.tokens.slice(0, e.at).join("") + (middle ? ahead : ""), after = (middle ? behind : "") + e.tokens.slice(e.at + 1).join("");
    const found = h("li.example", { title: place(e) }, badge ?? measured(e), h("p", {}, h("span.before", {}, h("span", {}, gaps(before))),
      h("span.rest", {}, h("mark", {}, middle || own.replaceAll(" ", "\u2423") || "(empty)"), h("span.after", {}, gaps(after)))));
    found.addEventListener("click", () => { if (!getSelection().toString()) found.classList.toggle("open"); });
    return found;
  }

  /* The patch with its eight neighbours, as large as a whole photo is otherwise. */
  function lens(e, [tall, wide]) {
    const row = Math.floor(e.pos / wide), column = e.pos % wide, clamp = (v, most) => Math.max(0, Math.min(most, v));
    const top = clamp(row - 1, tall - 3), left = clamp(column - 1, wide - 3);
    return h("div.lens", { "aria-hidden": "true", style: { "background-size": `${100 * wide / 3}% ${100 * tall / 3}%`, "background-position": `${100 * left / (wide - 3)}% ${100 * top / (tall - 3)}%` } },
      h("i.patch", { style: { left: `${100 * (column - left) / 3}%`, top: `${100 * (row - top) / 3}%`, width: `${100 / 3}%`, height: `${100 / 3}%` } }));
  }
  const close = data.grid !== null && Math.min(...data.grid) > 3;

  function photo(e, badge) {
    const frame = h("div.frame"), name = `photo ${number(e.doc)}`, large = close ? lens(e, data.grid) : null;
    let where = "";
    if (data.grid) {
      const [tall, wide] = data.grid, row = Math.floor(e.pos / wide), column = e.pos % wide;
      where = `, patch in row ${row} column ${column} of ${tall} x ${wide}`;
      frame.append(h("i.patch", { style: { left: `${100 * column / wide}%`, top: `${100 * row / tall}%`, width: `${100 / wide}%`, height: `${100 / tall}%` } }));
    }
    pk.load(`photos/${Math.floor(e.doc / 1000)}/${e.doc}`).then((address) => {
      const image = h("img", { alt: `${name}${where}`, draggable: "false" });
      image.src = address;
      image.addEventListener("load", () => {
        for (const shown of [image, large]) shown?.classList.toggle("coarse", image.naturalWidth <= 64);
        if (large) large.style.aspectRatio = String(image.naturalWidth * data.grid[0] / (image.naturalHeight * data.grid[1]));
      });
      if (large) large.style.backgroundImage = `url("${address}")`;
      frame.prepend(image);
    }, () => { frame.classList.add("missing"); frame.prepend(h("span", {}, "no picture")); });
    return h("li.photo", { title: `${place(e)}${e.label === undefined ? "" : `, ${e.label}`}` }, h(close ? "figure.close" : "figure", {}, frame, large, h("figcaption", {}, h("span", {}, e.label ?? name), badge ?? measured(e))));
  }

  const plain = (e, badge) => h("li.example", {}, badge ?? measured(e), h("p", {}, place(e)));
  const one = { text: line, image: photo }[data.kind] ?? plain;

  /* The medoid stands first among the nearest. */
  function ordered(record, name, list) {
    const medoid = ["all", "nearest"].includes(name) ? record.medoid : undefined;
    const others = medoid ? list.filter((e) => e.row !== medoid.row).slice(0, Math.max(list.length - 1, 0)) : list;
    return [medoid ? one(medoid, h("span.badge", { title: place(medoid) }, "medoid")) : null, others.map((e) => one(e))];
  }

  function groups(record) {
    return Object.entries(record.groups).filter(([, list]) => list.length).map(([name, list], k) => h(`section.card.examples.${data.kind ?? "plain"}`, { "aria-label": GROUPS[name][0], id: `group-${name}` },
      h("header", {}, h("h2", {}, GROUPS[name][0]), h("span.quiet", {}, `${GROUPS[name][1]}; the number is ${record.c < 0 ? "the outlier score" : `the distance, ${pk.unit()}`}`),
        (data.kind === "text" || close) && !k ? h("span.tools", {}, wrapper()) : null),
      h("ol", { role: "list" }, ordered(record, name, list))));
  }

  const wrapper = () => h("button.wrap", { type: "button", "aria-pressed": String(document.body.classList.contains("wrapped")), onclick: wrap, title: close ? "The patches close up, or whole photos (w)" : "Whole contexts, or a line each (w)" }, close ? "Close up" : "Wrap");

  function wrap() {
    const on = document.body.classList.toggle("wrapped");
    for (const b of document.querySelectorAll("button.wrap")) b.setAttribute("aria-pressed", on);
  }

  function tokens(record) {
    if (!record.tokens?.length) return null;
    const [, , most] = record.tokens[0];
    const items = record.tokens.map(([, text, count]) => h("li", {}, h("a", { href: pk.asks(text), "aria-label": `${pk.shown(text)}, ${number(count)} rows` }, pk.token(text)), pk.bar(count / most), h("span.n", {}, number(count))));
    const rest = record.distinct - record.tokens.length;
    return h("section.card.tokens", { "aria-label": data.words }, h("header", {}, h("h2.named", {}, data.words),
      h("span.quiet", {}, `${number(record.distinct)} different, entropy ${number(record.entropy)} bits`)), h("ul", { role: "list" }, items), rest > 0 ? h("p.quiet", {}, `and ${number(rest)} more`) : null);
  }

  function near(record, names, sizes) {
    if (!record.near?.length) return null;
    const most = record.near.at(-1)[1] || 1;
    const rows = record.near.map(([c, d]) => h("tr", {}, h("td", {}, pk.link(c)), h("td.names", {}, (names[c] ?? []).map((t) => pk.token(t))), h("td.n.quiet", {}, `${number(sizes[c])} rows`), h("td.n", {}, number(d, 4), pk.bar(d / most))));
    return h("section.card.near", { "aria-label": "Nearest clusters" }, h("header", {}, h("h2", {}, "Nearest clusters"), h("span.quiet", {}, `by the distance of medoids, ${pk.unit()}`)),
      h("div.wide", {}, h("table", {}, h("tbody", {}, rows))));
  }

  function tiles(record) {
    const tile = (value, name, more) => h("div.tile", {}, h("b", {}, value), h("span", {}, name), more ? h("small", {}, more) : null);
    const share = `${pk.percent(record.size / data.rows)} of all`;
    if (record.c < 0) return h("section.tiles", {}, tile(number(record.size), "rows", share));
    const [first] = record.near;
    return h("section.tiles", { "aria-label": "In numbers" }, tile(number(record.size), "rows", share), tile(number(record.persistence), "persistence"),
      tile(number(record.mean, 4), "mean distance", `${pk.unit()}, to the medoid`), tile(number(record.max, 4), "largest distance", `${pk.unit()}, to the medoid`),
      first ? h("div.tile", {}, h("b", {}, number(first[1], 4)), h("span", {}, "to ", pk.link(first[0], `cluster ${number(first[0])}`)), h("small", {}, `${pk.unit()}, the nearest`)) : null);
  }

  /* A feature in the form that Neuronpedia reads: its texts with one activation each. */
  function neuronpedia(record) {
    const texts = Object.values(record.groups).flat().filter((e) => e.tokens).map((e) => ({ tokens: e.tokens, values: e.tokens.map((_, k) => (k === e.at ? e.p : 0)), maxValue: e.p, maxValueTokenIndex: e.at, dataIndex: e.doc ?? null }));
    return { modelId: data.title, layer: data.fields.map((f) => f.name).join(" "), index: String(record.c), activations: texts };
  }

  function actions(record) {
    const text = () => JSON.stringify(record, null, 1), said = h("span.quiet", { role: "status" });
    const name = record.c < 0 ? "noise" : `cluster-${record.c}`;
    const copy = async () => {
      try { await navigator.clipboard.writeText(text()); said.textContent = "copied"; } catch { pk.save(`${name}.json`, text()); said.textContent = "saved instead"; }
    };
    return h("span.tools", {}, said, h("button", { type: "button", id: "copy", onclick: copy }, "Copy JSON"), h("button", { type: "button", id: "save", onclick: () => pk.save(`${name}.json`, text()) }, "Save JSON"),
      data.kind === "text" ? h("button", { type: "button", id: "neuronpedia", title: "The examples as a feature for Neuronpedia", onclick: () => pk.save(`${name}.neuronpedia.json`, JSON.stringify(neuronpedia(record))) }, "Neuronpedia") : null);
  }

  async function cluster(c) {
    const [record, names, columns] = await Promise.all([pk.record(c), pk.load("names"), pk.load("index")]);
    const step = (to, text, label) => h("a.step", { href: to >= 0 && to < data.clusters ? `#c=${to}` : undefined, "aria-label": label, "aria-disabled": String(to < 0 || to >= data.clusters), title: label }, text);
    const head = c < 0 ? h("h1", { tabindex: -1 }, "Noise") : h("h1", { tabindex: -1 }, `Cluster ${number(c)}`, h("small", {}, ` of ${number(data.clusters)}`));
    const bar = h("div.bar-top", {}, c < 0 ? null : h("span.steps", {}, step(c - 1, "‹", "Previous cluster (←)"), step(c + 1, "›", "Next cluster (→)")), head, actions(record));
    const tree = c < 0 ? null : pk.treeCard(c), bits = record.bits ? h("div.two", {}, pk.telling(record), h("div.stack", {}, pk.layers(record), near(record, names, columns.size))) : null;
    return { title: c < 0 ? "Noise" : `Cluster ${c}`, cards: [bar, tiles(record), tokens(record), ...groups(record), bits, tree], ready: tree?.ready, redraw: () => tree?.redraw() };
  }

  Object.assign(pk, { cluster, wrap });
})();

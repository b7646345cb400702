"use strict";
/* The overview: what was clustered, the sizes, the scores, the tree, the table. */
(() => {
  const pk = window.polykern, { h, s, data, number } = pk;
  const tile = (value, name, more, kind = "") => h(`div.tile${kind}`, {}, h("b", {}, value), h("span", {}, name), more ? h("small", {}, more) : null);

  function tiles() {
    const share = data.rows ? data.noise / data.rows : 0, tree = data.tree ?? {};
    const noise = h("div.tile", {}, h("b", {}, pk.percent(share)), h("span", {}, pk.link(-1, "noise")), pk.bar(share, "span.bar.wide"), h("small", {}, `${number(data.noise)} rows in no cluster`));
    return h("section.tiles", { "aria-label": "In numbers" },
      tile(number(data.clusters), "clusters", data.median === null ? "" : `median ${number(data.median)} rows`), noise,
      tile(number(data.rows), "rows", data.distinct ? `${number(data.distinct)} distinct` : ""),
      tile(number(data.bits), "bits a code", `${number(data.fields.length)} layer${data.fields.length === 1 ? "" : "s"}`),
      tile(data.metric, "metric", `spanning tree weighs ${number(tree.weight ?? null, 6)}`),
      tile(`${number(data.seconds, 3)} s`, "to cluster", tree.rounds ? `${number(tree.rounds)} rounds, ${number(tree.passes ?? null, 3)} passes` : ""));
  }

  /* How many clusters have which size; the bars are equal steps of the ratio of sizes. */
  function sizes() {
    return h("section.card.sizes", { "aria-label": "Sizes" }, h("header", {}, h("h2", {}, "Sizes")), data.sizes.length ? pk.fluid(histogram) : h("p.quiet", {}, "There are no clusters."));
  }

  function histogram(W) {
    const H = 236, left = 44, bottom = 34, top = 8, bins = data.sizes;
    const most = Math.max(1, ...bins.map((b) => b[2])), wide = (W - left - 8) / Math.max(1, bins.length);
    const y = (v) => top + (H - top - bottom) * (1 - v / most);
    const picture = s("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "img", class: "chart", "aria-label": `Sizes of the clusters: ${bins.filter((b) => b[2]).map(([a, b, k]) => `${k} of ${a} to ${b - 1} rows`).join(", ")}` });
    for (const v of pk.ticks(0, most, 3).filter(Number.isInteger)) {
      picture.append(s("line", { x1: left, x2: W - 8, y1: y(v), y2: y(v), class: "rule" }), s("text", { x: left - 6, y: y(v) + 4, class: "end" }, number(v)));
    }
    const every = Math.ceil(bins.length * 46 / (W - left));
    bins.forEach(([from, to, count], k) => {
      const x = left + k * wide, range = to - from === 1 ? `${number(from)} rows` : `${number(from)} to ${number(to - 1)} rows`;
      picture.append(s("rect", { x: x + 1, y: y(count), width: Math.max(1, wide - 2), height: y(0) - y(count), class: "column" }, s("title", {}, `${number(count)} clusters of ${range}`)));
      if (k % every === 0) picture.append(s("text", { x: x + 2, y: H - bottom + 16, class: "start" }, number(from)));
    });
    picture.append(s("text", { x: W - 8, y: H - 3, class: "end" }, "rows of a cluster, steps of equal ratio"));
    return picture;
  }

  function measure(one, W) {
    const x = (v) => 8 + (W - 16) * (v - one.low) / (one.high - one.low || 1), H = 22 + 16 * one.baselines.length;
    const [from, to] = one.interval ?? [one.value, one.value], said = one.baselines.map((b) => `${b.name} ${number(b.mean)} (${number(b.low)} to ${number(b.high)})`).join(", ");
    const picture = s("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "img", class: "chart", "aria-label": `${one.name} ${number(one.value)}; ${said}` },
      s("line", { x1: 8, x2: W - 8, y1: 10, y2: 10, class: "rule" }), s("line", { x1: x(from), x2: x(to), y1: 10, y2: 10, class: "interval own" }));
    one.baselines.forEach((b, k) => {
      const at = 26 + 16 * k, side = x(b.high) > W - 120 ? -1 : 1, called = b.name.replace("classes", data.words ?? "classes");
      picture.append(s("line", { x1: x(b.low), x2: x(b.high), y1: at, y2: at, class: "interval" }), s("circle", { cx: x(b.mean), cy: at, r: 3.5, class: "hollow" }),
        s("text", { x: side > 0 ? x(b.high) + 8 : x(b.low) - 8, y: at + 4, class: side > 0 ? "start" : "end" }, called));
    });
    picture.append(s("circle", { cx: x(one.value), cy: 10, r: 5.5, class: "dot" }));
    return picture;
  }

  /* Every measure on an axis of its own: the value as a dot, each baseline as its interval. */
  function scores() {
    if (!data.scores.length) return null;
    const found = data.scores.map((one) => h("div.score", {}, h("p", {}, h("span", {}, one.name), h("b", {}, number(one.value, 4))), pk.fluid((wide) => measure(one, wide))));
    return h("section.card.scores", { "aria-label": "Scores" }, h("header", {}, h("h2", {}, "Scores"), h("span.quiet", {}, data.scored)), h("div.measures", {}, found));
  }

  function parameters() {
    const found = Object.entries(data.parameters).filter(([, value]) => value !== null).map(([name, value]) => [h("dt", {}, name.replace("cluster_selection_", "").replaceAll("_", " ")), h("dd", {}, typeof value === "number" ? number(value) : value === true ? "yes" : value === false ? "no" : value)]);
    return h("section.card.parameters", { "aria-label": "Parameters" }, h("header", {}, h("h2", {}, "Parameters")), h("dl", {}, found));
  }

  async function overview() {
    const [columns, names] = await Promise.all([pk.load("index"), pk.load("names")]);
    const tree = data.clusters ? pk.treeCard() : null, table = pk.table(columns, names);
    const scored = scores();
    return { title: "", cards: [tiles(), h(scored ? "div.three" : "div.two", {}, sizes(), scored, parameters()), tree, table], ready: tree?.ready, redraw: () => { tree?.redraw(); table.redraw(); } };
  }

  Object.assign(pk, { overview });
})();

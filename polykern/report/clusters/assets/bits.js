"use strict";
/* The bits that tell a cluster from the rest, and what every layer says. */
(() => {
  const pk = window.polykern, { h, s, data, number, percent } = pk;

  /* Two shares on one line from 0 to 1: a ring for the rest, a dot for the cluster. */
  function pair(inside, outside) {
    const x = (v) => 6 + 108 * v;
    return s("svg", { viewBox: "0 0 120 16", class: "pair", role: "img", "aria-label": `${percent(inside)} inside, ${percent(outside)} outside` },
      s("line", { x1: 6, x2: 114, y1: 8, y2: 8, class: "rule" }),
      s("line", { x1: x(outside), x2: x(inside), y1: 8, y2: 8, class: "interval" }),
      s("circle", { cx: x(outside), cy: 8, r: 3.5, class: "hollow" }), s("circle", { cx: x(inside), cy: 8, r: 4.5, class: "dot" }));
  }

  function telling(record) {
    const rows = record.bits.map(([bit, inside, outside]) => {
      const { layer, whole, unit } = pk.bitName(bit);
      return h("tr", {}, h("td.unit", { title: `bit ${bit}` }, unit), h("td.layer", { title: whole }, h("bdi", {}, layer)),
        h("td", {}, pair(inside, outside)), h("td.n", {}, percent(inside)), h("td.n.quiet", {}, percent(outside)));
    });
    return h("section.card.bits", { "aria-label": "Telling bits" },
      h("header", {}, h("h2", {}, "Telling bits"), h("span.quiet", {}, "units active far more or less often than elsewhere")),
      h("div.wide", {}, h("table", {}, h("thead", {}, h("tr", {}, ["unit", "layer", "", "inside", "outside"].map((t, k) => h(k > 2 ? "th.n" : "th", { scope: "col" }, t || h("span.key.ring", { title: "ring: outside, dot: inside" }))))), h("tbody", {}, rows))));
  }

  function layers(record) {
    const most = Math.max(1e-9, ...record.layers.map((l) => l[2]));
    const bitsOf = (k) => (data.fields[k + 1]?.offset ?? data.bits) - data.fields[k].offset;
    const rows = record.layers.map(([inside, outside, apart, fixed], k) => h("tr", {},
      h("td.layer", { title: data.fields[k].name }, h("bdi", {}, pk.layerNames[k])), h("td", {}, pair(inside, outside)),
      h("td.n", {}, percent(inside)), h("td.n.quiet", {}, percent(outside)),
      h("td.n", {}, number(apart, 2), pk.bar(apart / most)), h("td.n", { title: `${number(fixed)} of ${number(bitsOf(k))} bits` }, percent(fixed / bitsOf(k)))));
    return h("section.card.layers", { "aria-label": "Layers" },
      h("header", {}, h("h2", {}, "Layers"), h("span.quiet", {}, "share of active units; mean difference; bits all rows agree on")),
      h("div.wide", {}, h("table", {}, h("thead", {}, h("tr", {}, ["layer", "", "inside", "outside", "difference", "agreed"].map((t, k) => h(k > 1 ? "th.n" : "th", { scope: "col" }, t || h("span.key.ring", { title: "ring: outside, dot: inside" }))))), h("tbody", {}, rows))));
  }

  Object.assign(pk, { telling, layers });
})();

"use strict";
/* All layers; the neurons of one, ranked; the neurons that fire for a token. */
(() => {
  const pk = window.polykern, { h, s, data, number, load, address } = pk;
  const SHOWN = 200;

  function overview() {
    const rows = data.fields.map((f, l) => h("tr", {}, h("td", {}, h("a", { href: `#l=${l}` }, h("bdi", {}, f.name))), h("td", {}, number(data.neurons[l])), h("td", {}, number(data.dead[l]))));
    return { title: "", cards: [h("section.card", {}, h("header", {}, h("h1", { tabindex: "-1" }, "Layers"), h("span.quiet", {}, "a layer's neurons, ranked by how polysemantic they are")),
      h("table.rank", {}, h("thead", {}, h("tr", {}, ["layer", "neurons", "never fire"].map((t) => h("th", { scope: "col" }, t)))), h("tbody", {}, rows)))] };
  }

  /* How many neurons have how many features. */
  function histogram(counts) {
    const most = Math.max(...counts, 1), bins = Math.min(most, 40), width = Math.ceil(most / bins), heights = new Array(Math.ceil((most + 1) / width)).fill(0);
    for (const c of counts) heights[Math.floor(c / width)]++;
    const top = Math.max(...heights), wide = 640 / heights.length;
    return s("svg", { viewBox: "0 0 640 132", class: "bars", role: "img", "aria-label": "Neurons by their number of features" },
      heights.map((y, k) => s("rect", { x: k * wide + 1, width: Math.max(1, wide - 2), y: 110 - 104 * y / top, height: 104 * y / top }, s("title", {}, `${k * width}${width > 1 ? `-${(k + 1) * width - 1}` : ""} features: ${y} neurons`))),
      s("text", { x: 2, y: 126 }, "0"), s("text", { x: 638, y: 126, "text-anchor": "end" }, `${most} features`));
  }

  async function layer(l) {
    const table = await load(`ranking/${l}`), names = ["clusters", ...data.metrics, "examples", "largest"];
    let by = "clusters", down = true;
    const bodyOf = h("tbody"), heads = names.map((name) => h("th", { scope: "col" }, h("button", { type: "button", onclick: () => { down = by === name ? !down : true; by = name; fill(); } }, name.replaceAll("_", " "))));
    function fill() {
      const key = (n) => (Number.isNaN(table[by][n]) ? -Infinity : table[by][n]);
      const order = Array.from(table.clusters, (_, n) => n).sort((a, b) => (down ? key(b) - key(a) : key(a) - key(b)) || a - b).slice(0, SHOWN);
      bodyOf.replaceChildren(...order.map((n) => h("tr", {}, h("td", {}, h("a", { href: address(l, n) }, String(n))), names.map((name) => h("td", {}, number(table[name][n]))))));
      heads.forEach((head, k) => head.setAttribute("aria-sort", names[k] === by ? (down ? "descending" : "ascending") : "none"));
    }
    fill();
    return { title: `layer ${l}`, cards: [
      h("section.card", {}, h("header", {}, h("h1", { tabindex: "-1" }, h("bdi", {}, data.fields[l].name)), h("span.quiet", {}, `${number(data.neurons[l])} neurons by their number of features`)), histogram(table.clusters)),
      h("section.card", {}, h("header", {}, h("h2", {}, "Ranking"), h("span.quiet", {}, `the first ${Math.min(SHOWN, data.neurons[l])}`)), h("div.wide", {}, h("table.rank", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "neuron"), heads)), bodyOf)))] };
  }

  async function search(text) {
    const words = await load("words"), wanted = text.trim().toLowerCase();
    const exact = Object.hasOwn(words, wanted) ? words[wanted] : [], others = Object.keys(words).filter((w) => w !== wanted && w.startsWith(wanted)).slice(0, 60);
    const list = (places) => h("p", {}, places.slice(0, SHOWN).map(([l, n]) => [h("a", { href: address(l, n) }, `${l}/${n}`), " "]));
    return { title: `“${text}”`, cards: [
      h("section.card", {}, h("header", {}, h("h1", { tabindex: "-1" }, `Neurons with a feature for “${text}”`), h("span.quiet", {}, "layer/neuron")), exact.length ? list(exact) : h("p.quiet", {}, "none")),
      others.length ? h("section.card", {}, h("header", {}, h("h2", {}, "Tokens that begin so")), others.map((w) => h("div", {}, h("a", { href: `#q=${encodeURIComponent(w)}` }, w), h("span.quiet", {}, ` ${words[w].length}`)))) : null] };
  }

  Object.assign(pk, { overview, layer, search });
})();

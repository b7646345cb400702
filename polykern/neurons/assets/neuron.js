"use strict";
/* One neuron: its numbers, its features a tab each, what is similar to them. */
(() => {
  const pk = window.polykern, { h, s, data, number, load, upTo } = pk;
  const address = (l, n, f = 0) => `#n=${l}/${n}${f ? `/${f}` : ""}`;

  async function record(l, n) {
    const firsts = data.firsts[l], k = upTo(firsts, n) - 1;
    return (await load(`neurons/${l}/${k}`))[n - firsts[k]];
  }

  /* Tokens with their activations as red behind them, or their importance as blue; the one the example is of is outlined. */
  function passage(e) {
    const said = (k) => `${e.shares[k]} % of the largest activation${e.importance && k <= e.at ? `; importance ${e.importance[k]} %` : ""}`;
    const tokens = e.tokens.map((text, k) => h(k === e.at ? "span.t.peak" : "span.t", { style: { "--share": e.shares[k], "--blue": e.importance?.[k] ?? 0 }, title: said(k) }, ...lines(text)));
    return h(e.importance ? "li.passage" : "li.passage.unweighed", {}, h("span.d", { title: "activation" }, e.value.toFixed(1)), h("p", {}, tokens));
  }

  /* The switch between red and blue, which stays as it is from one neuron to the next. */
  let weighed = false;
  function examples(feature) {
    const list = h("ol", { role: "list" }, feature.examples.map(passage)), legend = h("span.quiet");
    const turned = h("button", { type: "button", id: "weigh", title: "What masking a token takes from the activation (i)", onclick: () => { weighed = !weighed; show(); } }, "Token importance");
    function show() {
      list.classList.toggle("weighed", weighed && data.important > 0);
      turned.setAttribute("aria-pressed", String(weighed));
      legend.textContent = weighed && data.important ? `blue: importance, of ${data.important > 1 ? `the first ${data.important} examples` : "the first example"}` : "red: activation";
    }
    show();
    return [data.important ? turned : null, legend, list];
  }

  /* A line's end is seen, and ends the line. */
  const lines = (text) => text.split("\n").flatMap((part, k) => (k ? ["\u21b5", h("br"), part] : [part]));

  function similar(l, feature) {
    const rows = feature.similar.map(([n, f, cosine, tokens, at]) => h("li", {},
      h("a", { href: address(l, n, f) }, `neuron ${n}, feature ${f}`), h("span.quiet", {}, ` ${cosine.toFixed(2)} `),
      h("code", {}, tokens.slice(0, at).join(""), h("mark", {}, tokens[at]), tokens.slice(at + 1).join(""))));
    return h("section.card.near", { "aria-label": "Similar features" }, h("header", {}, h("h2", {}, "Similar features"), h("span.quiet", {}, "other neurons that receive alike")),
      rows.length ? h("ol", { role: "list" }, rows) : h("p.quiet", {}, "none"));
  }

  function body(l, found, at) {
    const feature = found.features[at], [turned, legend, list] = examples(feature);
    const tabs = found.features.map((f, k) => h("a", { href: address(l, found.n, k), role: "tab", "aria-selected": String(k === at) },
      h("button", { type: "button", tabindex: "-1", "aria-pressed": String(k === at) }, `Feature ${k} (${f.members})`)));
    return [h("div.tabs", { role: "tablist" }, tabs), h("div.beside", {},
      h("section.card", { "aria-label": `Feature ${at}` }, h("header", {}, h("h2", {}, `Feature ${at}`),
        h("span.quiet", {}, `${feature.members} examples${feature.members > feature.examples.length ? `, ${feature.examples.length} shown` : ""}; the central one first`), turned, legend), list), similar(l, feature))];
  }

  async function neuron(l, n, f) {
    const found = await record(l, n), at = Math.min(f, Math.max(0, found.features.length - 1));
    const measures = data.metrics.map((name, k) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, number(found.metrics[k]))));
    const head = h("section.card", { "aria-label": "Neuron" }, h("header", {}, h("h1", { tabindex: "-1" }, `Neuron ${n}`), h("span.quiet", {}, h("bdi", {}, data.fields[l].name))),
      h("dl.measures", {}, h("div", {}, h("dt", {}, "features"), h("dd", {}, number(found.features.length))), h("div", {}, h("dt", {}, "examples"), h("dd", {}, `${number(found.size)}${found.capped ? ", as many as are kept" : ""}`)),
        h("div", {}, h("dt", {}, "largest activation"), h("dd", {}, number(found.largest, 4))), measures));
    const none = h("p.card", {}, "No token of the corpus makes this neuron fire.");
    return { title: `neuron ${l}/${n}`, cards: [head, ...(found.features.length ? body(l, found, at) : [none])] };
  }

  Object.assign(pk, { neuron, address, s });
})();

"use strict";
/* Tokens or classes: which clusters hold them, found by prefix in the shards that can have it. */
(() => {
  const pk = window.polykern, { h, data, number } = pk;
  const MOST = 60; // tokens listed

  const key = (text) => text.trim().toLowerCase() || text;

  /* Tokens whose key begins with that of `text`, the exact ones first; more: whether there are others. */
  async function found(text) {
    const wanted = key(text), exact = [], longer = [];
    let more = false;
    for (let k = Math.max(0, pk.upTo(data.shards, wanted) - 1); k < data.shards.length; k++) {
      if (data.shards[k] > wanted && !data.shards[k].startsWith(wanted)) break;
      if (exact.length + longer.length > 20 * MOST) { more = true; break; }
      for (const posting of await pk.load(`tokens/${k}`)) {
        if (posting.k === wanted) exact.push(posting); else if (posting.k.startsWith(wanted)) longer.push(posting);
      }
    }
    // a shard may begin in the middle of tokens with one key
    for (let k = pk.upTo(data.shards, wanted) - 2; k >= 0 && data.shards[k + 1] === wanted; k--) {
      exact.unshift(...(await pk.load(`tokens/${k}`)).filter((posting) => posting.k === wanted));
    }
    const by = (a, b) => (b.n - b.noise) - (a.n - a.noise) || b.n - a.n || a.id - b.id; // most rows in clusters first
    return { exact: exact.sort(by), longer: longer.sort(by), more };
  }

  function card(posting) {
    const inside = posting.n - posting.noise, most = posting.top[0]?.[1] ?? 1, all = h("ul", { role: "list" });
    const fill = (count) => all.replaceChildren(...posting.top.slice(0, count).map(([c, n]) => h("li", {}, pk.link(c, `cluster ${number(c)}`), pk.bar(n / most), h("span.n", {}, number(n)))));
    fill(8);
    const others = posting.c - posting.top.length;
    const rest = posting.top.length > 8 ? h("button", { type: "button", onclick: () => { fill(posting.top.length); rest.replaceWith(others > 0 ? h("p.quiet", {}, `and ${number(others)} clusters with fewer`) : ""); } }, `${number(posting.c - 8)} more`) : null;
    return h(posting.top.length ? "section.card.posting" : "section.card.posting.lone", {}, h("header", {}, h("h2", {}, pk.token(posting.t)), h("span.quiet", {}, `${number(posting.n)} rows: ${number(inside)} in ${number(posting.c)} cluster${posting.c === 1 ? "" : "s"}, ${number(posting.noise)} noise`)), posting.top.length ? all : null, rest);
  }

  async function search(text) {
    const head = h("div.bar-top", {}, h("h1.named", { tabindex: -1 }, data.words ?? "tokens", " ", h("code.token", {}, text)));
    if (!data.shards.length) return { title: "Search", cards: [head, h("p.quiet", {}, "There are neither tokens nor classes in this report.")] };
    const { exact, longer, more } = await found(text), shown = longer.slice(0, MOST);
    const one = { tokens: "token", classes: "class" }[data.words];
    const count = (n, what) => h("h3", { role: "status" }, `${number(n)} ${n === 1 ? one : data.words} ${what}`);
    const note = shown.length < longer.length || more ? ` (the first ${MOST}${more ? " of those read; type more of it" : ""})` : "";
    return { title: `${data.words} ${pk.shown(text)}`, cards: [head, count(exact.length, "with this name"), h("div.postings", {}, exact.slice(0, MOST).map(card)),
      count(longer.length, `${longer.length === 1 ? "that begins" : "that begin"} so${note}`), h("div.postings", {}, shown.map(card))] };
  }

  /* The address that finds `text`; half of a surrogate pair cannot be part of one. */
  const asks = (text) => `#q=${encodeURIComponent(text.replace(/\p{Cs}/gu, "\ufffd"))}`;

  Object.assign(pk, { search, found, asks });
})();

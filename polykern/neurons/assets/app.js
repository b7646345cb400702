"use strict";
/* The address says what is shown: # the layers, #l=3 the neurons of one, #n=3/17/2 a neuron and its feature, #q=text. */
(() => {
  const pk = window.polykern, { h, data } = pk;
  const $ = (id) => document.getElementById(id);
  const main = $("main"), name = document.title;
  let turn = 0, here = null, inside = false;

  function wanted() {
    const hash = location.hash.slice(1), at = hash.indexOf("="), what = at < 0 ? "" : hash.slice(0, at);
    let value = at < 0 ? "" : hash.slice(at + 1);
    try { value = decodeURIComponent(value); } catch { /* as it is */ }
    const place = /^(\d{1,5})(?:\/(\d{1,9})(?:\/(\d{1,9}))?)?$/.exec(value);
    const l = place && Number(place[1]) < data.neurons.length ? Number(place[1]) : -1;
    if (what === "l" && l >= 0) return ["l", l];
    if (what === "n" && l >= 0 && place[2] !== undefined && Number(place[2]) < data.neurons[l]) return ["n", l, Number(place[2]), Number(place[3] ?? 0)];
    if (what === "q" && value) return ["q", value];
    return [""];
  }

  async function show() {
    const [what, ...values] = wanted(), mine = ++turn;
    main.setAttribute("aria-busy", "true");
    let made;
    try {
      made = await { n: pk.neuron, l: pk.layer, q: pk.search, "": pk.overview }[what](...values);
    } catch (error) {
      made = { title: "", cards: [h("p.card", { role: "alert" }, `A part of this page cannot be read: ${error.message}`)] };
    }
    if (mine !== turn) return;
    here = what === "n" ? values : null;
    if (here) { $("layer").value = String(here[0]); $("neuron").value = String(here[1]); }
    document.title = made.title ? `${pk.shown(made.title)} · ${name}` : name;
    main.replaceChildren(...made.cards.filter(Boolean));
    main.dataset.view = what || "overview";
    main.setAttribute("aria-busy", "false");
    window.scrollTo(0, 0);
    if (inside) main.querySelector("h1")?.focus({ preventScroll: true });
    inside = true;
  }

  const go = (l, n) => { if (n >= 0 && n < data.neurons[l]) location.hash = pk.address(l, n).slice(1); };
  function random() {
    let at = Math.floor(Math.random() * data.neurons.reduce((a, b) => a + b, 0)), l = 0;
    while (at >= data.neurons[l]) at -= data.neurons[l++];
    go(l, at);
  }

  const keys = {
    ArrowLeft: () => here && go(here[0], here[1] - 1), ArrowRight: () => here && go(here[0], here[1] + 1),
    r: random, i: () => $("weigh")?.click(), b: () => history.back(), "/": () => $("find").focus(), Escape: () => { location.hash = ""; },
  };
  document.addEventListener("keydown", (event) => {
    const typing = ["SELECT", "INPUT"].includes(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing) { if (event.key === "Escape") event.target.blur(); return; }
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  $("layer").append(...data.fields.map((f, l) => h("option", { value: String(l) }, `${l}: ${pk.layerNames[l]}`)));
  $("choose").addEventListener("submit", (event) => { event.preventDefault(); go(Number($("layer").value), Number($("neuron").value || 0)); });
  $("search").addEventListener("submit", (event) => { event.preventDefault(); if ($("find").value.trim()) location.hash = `q=${encodeURIComponent($("find").value)}`; });
  $("random").addEventListener("click", random);
  $("back").addEventListener("click", () => history.back());
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });

  const THEMES = ["auto", "light", "dark"];
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % 3];
    root.dataset.theme = next;
    $("theme").textContent = next;
    $("theme").setAttribute("aria-label", `Colours: ${next}`);
  });
  window.addEventListener("hashchange", show);
  show();
})();

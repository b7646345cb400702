"use strict";
/* The address says what is shown: # the overview, #c=12 a cluster, #noise, #q=text the tokens that begin so. */
(() => {
  const pk = window.polykern, { h, data } = pk;
  const $ = (id) => document.getElementById(id);
  const main = $("main"), field = $("find"), name = document.title;
  let view = null, turn = 0, here = null; // here: the number of the cluster that is shown

  function wanted() {
    const hash = location.hash.slice(1), at = hash.indexOf("="), what = at < 0 ? hash : hash.slice(0, at);
    let value = at < 0 ? "" : hash.slice(at + 1);
    try { value = decodeURIComponent(value); } catch { /* as it is */ }
    if (what === "c" && /^\d{1,9}$/.test(value) && Number(value) < data.clusters) return ["c", Number(value)];
    if (what === "noise" && data.noise) return ["noise", -1];
    if (what === "q" && value) return ["q", value];
    return ["", null];
  }

  async function show() {
    const [what, value] = wanted(), mine = ++turn;
    main.setAttribute("aria-busy", "true");
    let made;
    try {
      made = await (what === "c" || what === "noise" ? pk.cluster(value) : what === "q" ? pk.search(value) : pk.overview());
    } catch (error) {
      made = { title: "", cards: [h("p.card", { role: "alert" }, `A part of this report cannot be read: ${error.message}`)] };
    }
    if (mine !== turn) return;
    const inside = view !== null;
    view = made;
    here = what === "c" ? value : null;
    if (what === "q") field.value = value; else field.value = "";
    document.title = made.title ? `${made.title} · ${name}` : name;
    main.replaceChildren(...made.cards.filter(Boolean));
    main.dataset.view = what || "overview";
    for (const link of document.querySelectorAll("nav a")) link.setAttribute("aria-current", link.hash.slice(1) === (what === "noise" ? "noise" : what ? "?" : "") ? "page" : "false");
    window.scrollTo(0, 0);
    if (inside) main.querySelector("h1")?.focus({ preventScroll: true });
    made.redraw?.();
    try { await made.ready; } finally { if (mine === turn) main.setAttribute("aria-busy", "false"); }
  }

  function random() {
    if (data.clusters) location.hash = `#c=${Math.floor(Math.random() * data.clusters)}`;
  }

  const go = (c) => { if (c >= 0 && c < data.clusters) location.hash = `#c=${c}`; };
  const keys = {
    ArrowLeft: () => here !== null && go(here - 1), ArrowRight: () => here !== null && go(here + 1),
    k: () => here !== null && go(here - 1), j: () => go(here === null ? 0 : here + 1),
    r: random, w: pk.wrap, "/": () => field.focus(), Escape: () => { location.hash = ""; },
  };
  document.addEventListener("keydown", (event) => {
    const typing = ["SELECT", "INPUT"].includes(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (typing) { if (event.key === "Escape") event.target.blur(); return; }
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });

  $("search").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = field.value, number = /^\s*#?(\d{1,9})\s*$/.exec(text);
    if (number && Number(number[1]) < data.clusters) go(Number(number[1]));
    else if (text) location.hash = pk.asks(text);
  });
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
  $("random").addEventListener("click", random);

  const THEMES = ["auto", "light", "dark"];
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % 3];
    root.dataset.theme = next;
    $("theme").textContent = next;
    $("theme").setAttribute("aria-label", `Colours: ${next}`);
    view?.redraw?.();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.redraw?.());
  window.addEventListener("hashchange", show);
  field.placeholder = `${{ tokens: "token or ", classes: "class or " }[data.words] ?? ""}cluster number`;
  show();
})();

"use strict";
/* Controls, the numbers under the pointer, the address, and the command that makes a file of the view. */
(() => {
  const pk = window.polykern, { data, at, size, choice, state } = pk;
  const $ = (id) => document.getElementById(id);
  const canvas = $("map"), whole = new Intl.NumberFormat("en-US");
  const names = new Map(data.classes.map((c) => [c.index, c.name]));
  const views = ["density", ...(data.classes.length ? ["class"] : [])], scales = ["linear", "log", "power"];
  const MOST = 65536; // pixels a side that polykern heatmap makes
  let pointer = null, addressTimer = 0;

  const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
  const next = (list, value) => list[(list.indexOf(value) + 1) % list.length];

  function option(select, value, text) {
    const o = document.createElement("option");
    o.value = value;
    o.textContent = text;
    select.append(o);
  }

  function anchor(a, k) {
    const item = document.createElement("li"), button = document.createElement("button"), letter = "ABC"[k];
    button.type = "button";
    button.title = "Go there";
    button.setAttribute("aria-label", `Go to anchor ${letter}, ${a.label}`);
    if (a.thumbnail) {
      const image = document.createElement("img");
      image.src = a.thumbnail;
      image.alt = `anchor ${letter}`;
      button.append(image);
    } else button.textContent = letter;
    button.addEventListener("click", () => { const { x, y } = pk.place(a); pk.go(x, y, pk.magnified()); });
    const text = document.createElement("div"), name = document.createElement("b"), kind = document.createElement("span");
    name.textContent = a.label === letter ? letter : `${letter}  ${a.label}`;
    name.title = a.label;
    kind.textContent = a.class ?? "";
    text.append(name, kind);
    item.append(button, text);
    $("anchors").append(item);
  }

  /* The numbers at a point: exact at the level in view, "…" while its tile is on its way. */
  function readout() {
    say("where", pointer ? "Under the pointer" : "At the centre");
    $("readout").setAttribute("aria-live", pk.byKeyboard ? "polite" : "off");
    const point = pointer ? pk.world(pointer.x, pointer.y) : at, level = pk.levelOf(), step = pk.stepOf(level);
    const { u, v } = pk.lengths(point), digits = Math.min(17, Math.max(2, Math.ceil(-Math.log10(step)) + 1));
    say("at-u", u.toFixed(digits));
    say("at-v", v.toFixed(digits));
    const n = 2 ** level, row = Math.floor(point.y * n), column = Math.floor(point.x * n);
    const found = pk.touch(pk.keyOf(level, row, column));
    if (!found) {
      for (const id of ["count", "density", "class"]) say(`at-${id}`, "…");
      return;
    }
    const inside = (p, first) => Math.min(data.tile - 1, Math.floor((p * n - first) * data.tile));
    const i = inside(point.y, row) * data.tile + inside(point.x, column);
    say("at-count", whole.format(found.counts[i]));
    say("at-density", pk.number(found.counts[i] / (2 * step), 5));
    const k = found.classes?.[i];
    say("at-class", k === undefined ? "–" : names.get(k) ?? `class ${k}`);
  }

  function tell(level, tiles) {
    const found = tiles.map((t) => pk.touch(pk.keyOf(...t))).filter(Boolean), cost = pk.cost(), left = state.waiting.size;
    say("level", `${level} · zoom ${pk.number(pk.magnified(), 4)}`);
    say("pixel", `${pk.number(pk.stepOf(level), 4)} L2`);
    const spent = (performance.now() - state.since) / 1000;
    const rest = cost === null ? `${spent.toFixed(0)} s so far` : `about ${pk.number(Math.max(0.1, cost * left), 2)} s left`;
    say("progress", left ? `${found.length} of ${tiles.length} · ${rest}` : `${found.length} of ${tiles.length}`);
    say("speed", cost === null ? "–" : `${pk.number(1 / cost)} tiles/s · last ${pk.number(state.last)} s`);
    say("engine", [...new Set(found.map((t) => t.engine))].join("; ") || "–");
    say("uncertain", found.length ? `${whole.format(found.reduce((sum, t) => sum + t.uncertain, 0))} bits` : "–");
    $("work").classList.toggle("busy", left > 0);
    $("work").firstElementChild.style.width = `${state.asked ? 100 * (1 - left / state.asked) : 0}%`;
    const end = pk.ideal() > data.deepest ? "The deepest level: float64 tells no finer pixels of this plane apart." : "";
    say("notice", state.trouble || end);
    $("notice").hidden = !(state.trouble || end);
  }

  function legend(tiles) {
    $("legend-block").hidden = choice.view !== "class";
    if (choice.view !== "class") return;
    const areas = new Map();
    let total = 0;
    for (const t of tiles) for (const k of pk.touch(pk.keyOf(...t))?.classes ?? []) { areas.set(k, (areas.get(k) ?? 0) + 1); total++; }
    const most = [...areas].sort((a, b) => b[1] - a[1]).slice(0, 12);
    $("legend").replaceChildren(...most.map(([k, area]) => {
      const item = document.createElement("li"), swatch = document.createElement("i");
      const text = document.createElement("span"), part = document.createElement("small");
      swatch.style.background = data.classes[k]?.colour ?? "#bbbbbb";
      text.textContent = text.title = names.get(k) ?? `class ${k}`;
      part.textContent = `${pk.number((100 * area) / total)}%`;
      item.append(swatch, text, part);
      return item;
    }));
  }

  /* The polykern heatmap whose pixels are those of the level in view. */
  function command(level) {
    const n = data.tile * 2 ** level, step = pk.stepOf(level), a = pk.world(0, 0), b = pk.world(size.w, size.h);
    const pixels = Math.min(MOST, Math.max(2, Math.ceil(Math.max(b.x - a.x, b.y - a.y) * n)));
    const corner = (middle) => Math.floor(middle * n - pixels / 2) * step;
    const square = [data.window.u + corner(at.x), data.window.v + corner(at.y), pixels * step];
    $("command").value = `${data.command} --window ${square.join(" ")} --resolution ${pixels} --out view`;
  }

  /* #u,v,zoom,colours,view,scale,clip: the centre in L2 units. */
  function toAddress() {
    const { u, v } = pk.lengths(at);
    history.replaceState(null, "", `#${[u, v, Number(pk.magnified().toPrecision(6)), choice.colours, choice.view, choice.scale, choice.clip]}`);
  }

  function fromAddress() {
    const [u, v, magnification, colours, view, scale, clip] = location.hash.slice(1).split(",");
    const numbers = [u, v, magnification].map(Number);
    if (location.hash.length < 2 || !numbers.every(Number.isFinite) || !(numbers[2] > 0)) return false;
    if (Object.hasOwn(data.palettes, colours ?? "")) choice.colours = colours;
    if (views.includes(view)) choice.view = view;
    if (scales.includes(scale)) choice.scale = scale;
    if (clip && data.clips[Number(clip)] !== undefined) choice.clip = Number(clip);
    const { x, y } = pk.place({ u: numbers[0], v: numbers[1] });
    pk.go(x, y, numbers[2]);
    return true;
  }

  pk.drawn = (level, tiles, style) => {
    for (const id of ["view", "colours", "scale", "clip"]) $(id).value = String(choice[id]);
    for (const id of ["colours", "scale", "clip", "refit", "lock"]) $(id).disabled = choice.view === "class";
    $("lock").checked = choice.lock;
    $("bar").hidden = !style;
    if (style) {
      const bar = $("bar"), box = bar.getBoundingClientRect(), g = bar.getContext("2d");
      Object.assign(bar, { width: Math.round(box.width * size.ratio), height: Math.round(box.height * size.ratio) });
      g.scale(size.ratio, size.ratio);
      pk.drawBar(g, style, 0, 0, box.width, 12, getComputedStyle(bar).color);
    }
    tell(level, tiles);
    legend(tiles);
    command(level);
    readout();
    clearTimeout(addressTimer);
    addressTimer = setTimeout(toAddress, 150); // browsers limit how often an address may change
  };

  const change = (values) => { Object.assign(choice, values); pk.draw(); };
  const keep = (on) => { pk.lock(on, pk.levelOf()); pk.draw(); };
  const home = () => pk.go(0.5, 0.5, 1);
  pk.keyboard({
    ArrowLeft: () => pk.pan(-80, 0), ArrowRight: () => pk.pan(80, 0), ArrowUp: () => pk.pan(0, -80), ArrowDown: () => pk.pan(0, 80),
    "+": () => pk.zoom(1.5), "=": () => pk.zoom(1.5), "-": () => pk.zoom(1 / 1.5), 0: home,
    c: () => change({ colours: next(Object.keys(data.palettes), choice.colours) }),
    s: () => change({ scale: next(scales, choice.scale) }),
    v: () => change({ view: next(views, choice.view) }),
    l: () => keep(!choice.lock),
  }, () => { pointer = null; pk.byKeyboard = true; });
  pk.gestures(canvas, {
    move: (dx, dy) => pk.pan(-dx, -dy),
    zoom: pk.zoom,
    hover: (here, pressed) => {
      pointer = here;
      if (here && pk.byKeyboard) { pk.byKeyboard = false; pk.draw(); }
      if (!pressed) readout();
    },
    tap: () => canvas.focus({ preventScroll: true }),
  });

  for (const name of Object.keys(data.palettes)) option($("colours"), name, name);
  data.clips.forEach((c, k) => option($("clip"), String(k), c ? `${c}% at either end` : "nothing"));
  if (views.length > 1) option($("view"), "class", "classes");
  data.anchors.forEach(anchor);
  $("view").addEventListener("change", () => change({ view: $("view").value }));
  $("colours").addEventListener("change", () => change({ colours: $("colours").value }));
  $("scale").addEventListener("change", () => change({ scale: $("scale").value }));
  $("clip").addEventListener("change", () => change({ clip: Number($("clip").value) }));
  $("lock").addEventListener("change", () => keep($("lock").checked));
  $("refit").addEventListener("click", () => { pk.settle(pk.levelOf(), true); pk.draw(); });
  $("fit").addEventListener("click", home);
  $("closer").addEventListener("click", () => pk.zoom(2));
  $("wider").addEventListener("click", () => pk.zoom(0.5));
  $("copy").addEventListener("click", () => {
    $("command").select();
    navigator.clipboard?.writeText($("command").value).catch(() => {}); // selected, to be copied by hand
  });
  window.addEventListener("hashchange", fromAddress);
  new ResizeObserver(pk.draw).observe($("stage"));
  pk.onTiles(pk.draw);
  if (!fromAddress()) home();
})();

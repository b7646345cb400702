"use strict";
/* Controls, the readout under the cursor, and the address. */
(() => {
  const pk = window.polykern, { data, at, choice } = pk;
  const $ = (id) => document.getElementById(id);
  const canvas = $("map"), minimap = $("minimap");
  const whole = new Intl.NumberFormat("en-US");
  const classNames = new Map(data.classes.map((c) => [c.index, c.name]));
  let pointer = null, waiting = 0;

  function option(select, value, text) {
    const o = document.createElement("option");
    o.value = value;
    o.textContent = text;
    select.append(o);
  }

  function fill() {
    for (const v of data.views.filter((v) => !v.layer)) option($("view"), v.id, v.title);
    if (data.classes.length) option($("view"), "class", "Classes");
    const layers = document.createElement("optgroup");
    layers.label = "Boundaries of one layer";
    for (const v of data.views.filter((v) => v.layer)) option(layers, v.id, v.title);
    $("view").append(layers);
    for (const name of Object.keys(data.palettes)) option($("colours"), name, name);
    data.clips.forEach((c, k) => option($("clip"), String(k), c ? `${c}% at either end` : "nothing"));
    $("overlay").disabled = !data.classes.length;
    data.anchors.forEach(anchor);
    ["AB", "BC", "CA"].forEach((name, k) => {
      const b = document.createElement("button");
      b.type = "button";
      b.textContent = name;
      b.addEventListener("click", () => pk.profile.open(k));
      $("edges").append(b);
    });
    for (const c of data.classes.slice(0, 12)) legend(c.name, c.colour, c.share);
    const rest = data.classes.slice(12).reduce((sum, c) => sum + c.share, 0);
    if (rest) legend(`${data.classes.length - 12} others`, data.classes[12].colour, rest);
  }

  function anchor(a, k) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.title = "Go there";
    if (a.thumbnail) {
      const image = document.createElement("img");
      image.src = a.thumbnail;
      image.alt = `anchor ${"ABC"[k]}`;
      button.append(image);
    } else button.textContent = "ABC"[k];
    button.setAttribute("aria-label", `Go to anchor ${"ABC"[k]}, ${a.label}`);
    button.addEventListener("click", () => {
      Object.assign(at, { x: a.column, y: a.row, zoom: Math.max(at.zoom, 1) });
      pk.pan(0, 0);
    });
    const text = document.createElement("div"), name = document.createElement("b"), kind = document.createElement("span");
    name.textContent = a.label === "ABC"[k] ? a.label : `${"ABC"[k]}  ${a.label}`;
    kind.textContent = a.class ?? "";
    name.title = a.label;
    text.append(name, kind);
    item.append(button, text);
    $("anchors").append(item);
  }

  function legend(name, colour, share) {
    const item = document.createElement("li"), swatch = document.createElement("i");
    const text = document.createElement("span"), part = document.createElement("small");
    swatch.style.background = colour;
    text.textContent = text.title = name;
    part.textContent = `${pk.number(100 * share)}%`;
    item.append(swatch, text, part);
    $("legend").append(item);
  }

  /* The numbers at a point of the map; the exact count arrives with its tile. */
  function readout() {
    $("where").textContent = pointer ? "Under the cursor" : "At the centre";
    $("readout").setAttribute("aria-live", pk.byKeyboard ? "polite" : "off");
    const point = pointer ? pk.world(pointer.x, pointer.y) : { x: at.x, y: at.y };
    const column = Math.floor(point.x), row = Math.floor(point.y);
    const inside = column >= 0 && row >= 0 && column < data.side && row < data.side;
    const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
    if (!inside) {
      for (const id of ["pixel", "plane", "count", "density", "smooth", "class"]) say(`at-${id}`, "–");
      return;
    }
    const { u, v } = data.window, level = pk.levelOf(choice.view.layer ? choice.view : data.views[0]);
    say("at-pixel", `row ${row}, column ${column}`);
    say("at-plane", `${(u + (point.x + 0.5) * data.step).toFixed(4)}, ${(v + (point.y + 0.5) * data.step).toFixed(4)}`);
    const layer = choice.view.layer ? choice.view : null;
    const count = layer ? null : pk.valueAt("sum", 0, row, column);
    if (count !== null) {
      say("at-count", whole.format(count));
      say("at-density", pk.number(count / (2 * data.step), 5));
    } else block(say, layer ?? data.views[0], level, row, column);
    const smooth = data.views.find((w) => w.id === "smooth"), k = 2 ** smooth.first;
    const total = pk.valueAt("smooth", smooth.first, Math.floor(row / k), Math.floor(column / k));
    say("at-smooth", total === null ? "…" : `${pk.number(total / cells(smooth.first, row, column), 5)}${k > 1 ? ` over ${k} x ${k}` : ""}`);
    const name = data.classes.length ? pk.valueAt("class", 0, Math.round(point.y), Math.round(point.x)) : null;
    say("at-class", name === null ? (data.classes.length ? "…" : "–") : classNames.get(name) ?? String(name));
    clearTimeout(waiting);
    waiting = setTimeout(() => fetchExact(row, column, point, smooth.first), 60);
  }

  function cells(level, row, column) {
    const k = 2 ** level, span = (i) => Math.min(k, data.side - Math.floor(i / k) * k);
    return span(row) * span(column);
  }

  function block(say, view, level, row, column) {
    const k = 2 ** level, sum = pk.valueAt(view.id, level, Math.floor(row / k), Math.floor(column / k));
    say("at-count", sum === null ? "…" : `${whole.format(sum)}${k > 1 ? ` in ${k} x ${k}` : ""}`);
    say("at-density", sum === null ? "…" : pk.number(sum / cells(level, row, column) / view.unit, 5));
  }

  function fetchExact(row, column, point, level) {
    const wanted = [["sum", 0, row, column], ["smooth", level, Math.floor(row / 2 ** level), Math.floor(column / 2 ** level)]];
    if (data.classes.length) wanted.push(["class", 0, Math.round(point.y), Math.round(point.x)]);
    const missing = wanted.filter((w) => pk.valueAt(...w) === null);
    if (missing.length) Promise.all(missing.map((w) => pk.loadAt(...w))).then(readout, () => {});
  }

  /* #x,y,zoom,colours,view,scale,clip: the centre in map pixels, screen pixels a map pixel. */
  function toAddress() {
    const parts = [at.x.toFixed(2), at.y.toFixed(2), Number(at.zoom.toPrecision(5)), choice.colours, choice.view.id, choice.scale, choice.clip];
    history.replaceState(null, "", `#${parts.join(",")}`);
  }

  function fromAddress() {
    const [x, y, zoom, colours, view, scale, clip] = location.hash.slice(1).split(",");
    const place = [x, y, zoom].map(Number);
    if (location.hash.length < 2 || !place.every(Number.isFinite) || !(place[2] > 0)) return false;
    if (Object.hasOwn(data.palettes, colours ?? "")) choice.colours = colours;
    choice.view = pk.viewOf(view) ?? choice.view;
    if (["linear", "log", "power"].includes(scale)) choice.scale = scale;
    if (data.clips[Number(clip)] !== undefined && clip) choice.clip = Number(clip);
    Object.assign(at, { x: place[0], y: place[1], zoom: place[2] });
    pk.zoom(1);
    return true;
  }

  let addressTimer = 0;
  function drawn() {
    const classed = choice.view === pk.classView;
    for (const [id, value] of [["view", choice.view.id], ["colours", choice.colours], ["scale", choice.scale], ["clip", String(choice.clip)]]) $(id).value = value;
    $("overlay").checked = choice.overlay;
    for (const id of ["colours", "scale", "clip"]) $(id).disabled = classed;
    $("bar").hidden = classed;
    $("legend-block").hidden = !(data.classes.length && (classed || choice.overlay));
    if (!classed) {
      const bar = $("bar"), box = bar.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
      Object.assign(bar, { width: Math.round(box.width * ratio), height: Math.round(box.height * ratio) });
      const g = bar.getContext("2d");
      g.scale(ratio, ratio);
      pk.drawBar(g, pk.style(), 0, 0, box.width, 12, "#e8eaed");
    }
    readout();
    clearTimeout(addressTimer);
    addressTimer = setTimeout(toAddress, 150); // browsers limit how often an address may change
  }

  function next(list, value) { return list[(list.indexOf(value) + 1) % list.length]; }

  let profiled = -1;
  const step = () => 80 / at.zoom;
  const keys = {
    ArrowLeft: () => pk.pan(-step(), 0), ArrowRight: () => pk.pan(step(), 0),
    ArrowUp: () => pk.pan(0, -step()), ArrowDown: () => pk.pan(0, step()),
    "+": () => pk.zoom(1.5), "=": () => pk.zoom(1.5), "-": () => pk.zoom(1 / 1.5),
    0: pk.fit, 1: () => pk.zoom(1 / at.zoom),
    c: () => { choice.colours = next(Object.keys(data.palettes), choice.colours); pk.draw(); },
    s: () => { choice.scale = next(["linear", "log", "power"], choice.scale); pk.draw(); },
    v: () => { choice.view = pk.viewOf(next([...$("view").options].map((o) => o.value), choice.view.id)); pk.draw(); },
    p: () => { profiled = (profiled + 1) % 3; pk.profile.open(profiled); },
    Escape: () => pk.profile.close(),
  };
  // the keyboard's cursor is the middle of the map
  pk.keyboard(keys, () => { pointer = null; pk.byKeyboard = true; pk.draw(); });

  pk.gestures(canvas, {
    move: (dx, dy) => pk.pan(-dx / at.zoom, -dy / at.zoom),
    zoom: pk.zoom,
    hover: (here, pressed) => {
      pointer = here;
      if (here && pk.byKeyboard) { pk.byKeyboard = false; pk.draw(); }
      if (here && !pressed) canvas.classList.toggle("edge", pk.edgeAt(here.x, here.y) >= 0);
      if (!pressed) readout();
    },
    tap: ({ x, y }) => { if (pk.edgeAt(x, y) >= 0) pk.profile.open(pk.edgeAt(x, y)); },
  });

  const jump = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    const box = minimap.getBoundingClientRect(), scale = data.side / box.width;
    Object.assign(at, { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale });
    pk.pan(0, 0);
  };
  minimap.addEventListener("pointerdown", (event) => { minimap.setPointerCapture(event.pointerId); jump(event); });
  minimap.addEventListener("pointermove", jump);

  $("view").addEventListener("change", () => { choice.view = pk.viewOf($("view").value); pk.draw(); });
  $("colours").addEventListener("change", () => { choice.colours = $("colours").value; pk.draw(); });
  $("scale").addEventListener("change", () => { choice.scale = $("scale").value; pk.draw(); });
  $("clip").addEventListener("change", () => { choice.clip = Number($("clip").value); pk.draw(); });
  $("overlay").addEventListener("change", () => { choice.overlay = $("overlay").checked; pk.draw(); });
  $("fit").addEventListener("click", pk.fit);
  $("closer").addEventListener("click", () => pk.zoom(2));
  $("wider").addEventListener("click", () => pk.zoom(0.5));
  $("save").addEventListener("click", async () => {
    await pk.settled();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await pk.picture());
    link.download = `density-${Math.round(at.y)}-${Math.round(at.x)}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  window.addEventListener("hashchange", fromAddress);
  new ResizeObserver(() => { pk.draw(); pk.profile.draw(); }).observe($("stage"));

  fill();
  pk.onDraw(drawn);
  pk.fit();
  fromAddress();
})();

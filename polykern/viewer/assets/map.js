"use strict";
/* The map on its canvas: which tiles, where, and the marks above them. */
(() => {
  const pk = window.polykern, data = pk.data;
  const canvas = document.getElementById("map"), minimap = document.getElementById("minimap");
  const at = { x: data.side / 2, y: data.side / 2, zoom: 1 }; // centre, map pixels; screen px a map pixel
  const choice = { view: data.views[0], colours: "inferno", scale: "linear", clip: 1, overlay: false };
  const classView = { id: "class", title: "Classes", pool: "class", first: 0 };
  const size = { w: 1, h: 1, ratio: 1 };
  let marker = null, queued = false, afterDraw = () => {};

  const viewOf = (id) => (id === "class" && data.classes.length ? classView : data.views.find((v) => v.id === id));
  const screen = (x, y) => ({ x: (x - at.x) * at.zoom + size.w / 2, y: (y - at.y) * at.zoom + size.h / 2 });
  const world = (x, y) => ({ x: (x - size.w / 2) / at.zoom + at.x, y: (y - size.h / 2) / at.zoom + at.y });
  const fitZoom = () => (0.94 * Math.min(size.w, size.h)) / data.side;

  /* The level whose blocks are at least a device pixel wide. */
  function levelOf(view, zoom = at.zoom * size.ratio) {
    const ideal = Math.floor(-Math.log2(zoom) + 1e-9) + 1;
    return Math.min(data.last, Math.max(view.first, ideal));
  }

  const style = (level = levelOf(choice.view)) =>
    (choice.view === classView ? null : pk.styleOf(choice.view, level, choice));

  /* Tiles of a level that touch the screen; asks for the missing ones. */
  function drawLevel(g, view, level, look, ask) {
    const span = data.tile * 2 ** level, shift = view === classView ? 0.5 : 0;
    const side = data.side + (shift ? 1 : 0), last = Math.ceil(side / span) - 1;
    const a = world(0, 0), b = world(size.w, size.h);
    const range = (p, q) => [Math.max(0, Math.floor((p + shift) / span)), Math.min(last, Math.floor((q + shift) / span))];
    const [r0, r1] = range(a.y, b.y), [c0, c1] = range(a.x, b.x);
    for (let r = r0; r <= r1; r++) {
      for (let c = c0; c <= c1; c++) {
        const image = pk.tileCanvas(view, level, r, c, look);
        if (!image) {
          if (ask) pk.load(pk.keyOf(view.id, level, r, c)).then(draw, () => {});
          continue;
        }
        const p = screen(c * span - shift, r * span - shift);
        const q = screen(c * span - shift + image.width * 2 ** level, r * span - shift + image.height * 2 ** level);
        const snap = (v) => Math.round(v * size.ratio) / size.ratio;
        g.drawImage(image, snap(p.x), snap(p.y), snap(q.x) - snap(p.x), snap(q.y) - snap(p.y));
      }
    }
  }

  function drawView(g, view, look) {
    const level = levelOf(view);
    if (level !== data.last) drawLevel(g, view, data.last, look, false);
    drawLevel(g, view, level, look, true);
  }

  function paint(g) {
    g.fillStyle = "#0b0d0f";
    g.fillRect(0, 0, size.w, size.h);
    g.imageSmoothingEnabled = false;
    g.save();
    const p = screen(0, 0), side = data.side * at.zoom;
    g.beginPath(); g.rect(p.x, p.y, side, side); g.clip(); // the last block may reach past the map
    drawView(g, choice.view, style());
    if (choice.overlay && data.classes.length && choice.view !== classView) {
      g.globalAlpha = 0.42;
      drawView(g, classView, null);
      g.globalAlpha = 1;
    }
    g.restore();
    marks(g);
    pk.drawScale(g, data.step / at.zoom, 22, size.h - 22);
  }

  function marks(g) {
    pk.triangle(g, data.anchors.map((a) => screen(a.column, a.row)), data.anchors.map((a) => a.label));
    if (marker) pk.cross(g, screen(marker.x, marker.y), 6);
    if (pk.byKeyboard) pk.cross(g, { x: size.w / 2, y: size.h / 2 }, 6);
  }

  function drawMinimap() {
    const ratio = size.ratio, wide = minimap.clientWidth, scale = wide / data.side;
    minimap.width = minimap.height = Math.round(wide * ratio);
    const g = minimap.getContext("2d");
    g.scale(ratio, ratio);
    g.imageSmoothingEnabled = data.side > wide;
    const image = pk.tileCanvas(choice.view, data.last, 0, 0, style(data.last));
    if (image) {
      const block = 2 ** data.last, shift = choice.view === classView ? 0.5 : 0;
      g.drawImage(image, -shift * scale, -shift * scale, image.width * block * scale, image.height * block * scale);
    } else {
      pk.load(pk.keyOf(choice.view.id, data.last, 0, 0)).then(draw, () => {});
    }
    const a = world(0, 0), b = world(size.w, size.h);
    pk.outlined(g, (width) => {
      g.lineWidth = width;
      g.strokeRect(a.x * scale, a.y * scale, (b.x - a.x) * scale, (b.y - a.y) * scale);
    });
  }

  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
      Object.assign(size, { w: box.width, h: box.height, ratio });
      const w = Math.round(box.width * ratio), h = Math.round(box.height * ratio);
      if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
      const g = canvas.getContext("2d");
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      paint(g);
      drawMinimap();
      afterDraw();
    });
  }

  /* Moves the view; (sx, sy) on the screen stays where it is when `factor` zooms. */
  function zoom(factor, sx = size.w / 2, sy = size.h / 2) {
    const before = world(sx, sy);
    at.zoom = Math.min(64, Math.max(0.4 * fitZoom(), at.zoom * factor));
    const after = world(sx, sy);
    pan(before.x - after.x, before.y - after.y);
  }

  const fitted = () => Math.abs(at.zoom / fitZoom() - 1) < 1e-3;

  function pan(dx, dy) {
    at.x = Math.min(data.side, Math.max(0, at.x + dx));
    at.y = Math.min(data.side, Math.max(0, at.y + dy));
    draw();
  }

  function fit() {
    const box = canvas.getBoundingClientRect();
    Object.assign(size, { w: box.width, h: box.height });
    Object.assign(at, { x: data.side / 2, y: data.side / 2, zoom: fitZoom() });
    draw();
  }

  /* Which edge of the triangle lies within reach of a point on the screen; -1 for none. */
  function edgeAt(x, y, reach = 7) {
    const corners = data.anchors.map((a) => screen(a.column, a.row));
    return corners.findIndex((p, k) => {
      const q = corners[(k + 1) % 3], dx = q.x - p.x, dy = q.y - p.y;
      const t = Math.min(1, Math.max(0, ((x - p.x) * dx + (y - p.y) * dy) / (dx * dx + dy * dy || 1)));
      return Math.hypot(p.x + t * dx - x, p.y + t * dy - y) <= reach;
    });
  }

  /* The view as a PNG with its name, colour bar and origin; resolves to a blob. */
  function picture() {
    const head = 46, foot = choice.view === classView ? 30 : 78, sheet = document.createElement("canvas");
    sheet.width = Math.round(size.w * size.ratio);
    sheet.height = Math.round((size.h + head + foot) * size.ratio);
    const g = sheet.getContext("2d");
    g.scale(size.ratio, size.ratio);
    g.fillStyle = "#14171a";
    g.fillRect(0, 0, size.w, size.h + head + foot);
    g.textBaseline = "middle";
    g.fillStyle = "#e8eaed";
    g.font = "600 15px system-ui, sans-serif";
    g.fillText(`${data.name} · ${choice.view.layer ? "Boundaries of " : ""}${choice.view.title}`, 16, 16);
    g.fillStyle = "#9ba4ae";
    g.font = "11px system-ui, sans-serif";
    g.fillText(data.caption, 16, 34);
    g.fillText(data.credit, 16, size.h + head + foot - 12);
    const bar = style();
    if (bar) pk.drawBar(g, bar, 16, size.h + head + 10, Math.min(520, size.w - 32), 12, "#e8eaed");
    g.drawImage(canvas, 0, head, size.w, size.h);
    return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  }

  pk.marker = (where) => { marker = where; draw(); };
  Object.assign(pk, { at, choice, classView, viewOf, screen, world, levelOf, style, draw, zoom, pan, fit, edgeAt, picture, fitted });
  pk.onDraw = (f) => { afterDraw = f; };
})();

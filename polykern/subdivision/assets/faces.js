"use strict";
/* Faces and sides on the canvas, the readout under the cursor, the legend. */
(() => {
  const pk = window.polykern, data = pk.data;
  const $ = (id) => document.getElementById(id);
  const canvas = $("map"), { u, v, side } = data.window;
  const at = { u: u + side / 2, v: v + side / 2, zoom: 1 }; // centre; screen px an L2 unit
  const size = { w: 1, h: 1, ratio: 1 };
  const hidden = new Set(); // kinds of sides that are not drawn
  const classes = new Map(data.classes.map((c) => [c.class, c]));
  const whole = new Intl.NumberFormat("en-US");
  const SHADES = 12;
  let fill = data.classes.length ? "class" : "code", pointer = null, queued = false;

  const screen = (x, y) => ({ x: (x - at.u) * at.zoom + size.w / 2, y: (y - at.v) * at.zoom + size.h / 2 });
  const world = (x, y) => ({ u: (x - size.w / 2) / at.zoom + at.u, v: (y - size.h / 2) / at.zoom + at.v });
  const fitZoom = () => (0.94 * Math.min(size.w, size.h)) / side;

  function colour(kind, group) {
    if (kind === "none") return "#fff";
    if (kind === "class") return classes.get(group)?.colour ?? "#d6d8da";
    const level = Math.round(150 + (90 * group) / (SHADES - 1));
    return `rgb(${level},${level},${Math.min(255, level + 6)})`;
  }

  /* Which faces share a colour. */
  function groupOf(cell, k) {
    if (fill === "class") return cell.winner[k] - 1;
    return fill === "code" ? cell.digest[4 * k] % SHADES : 0;
  }

  /* Paths of a cell in lengths of the cell, a path for every colour; made when they are first wanted. */
  function paths(cell) {
    if (!cell.sides) {
      cell.sides = new Map();
      for (let k = 0; k < (cell.what?.length ?? 0); k++) {
        if (!cell.sides.has(cell.what[k])) cell.sides.set(cell.what[k], new Path2D());
        const path = cell.sides.get(cell.what[k]), e = 4 * k;
        path.moveTo(cell.ends[e], cell.ends[e + 1]);
        path.lineTo(cell.ends[e + 2], cell.ends[e + 3]);
      }
    }
    if (cell.filled !== fill) {
      cell.filled = fill;
      cell.faces = new Map();
      for (let k = 0, c = 0; k < (cell.face?.length ?? 0); k++) {
        const group = groupOf(cell, k);
        if (!cell.faces.has(group)) cell.faces.set(group, new Path2D());
        const path = cell.faces.get(group);
        for (let j = 0; j < cell.count[k]; j++, c += 2) {
          if (j) path.lineTo(cell.corner[c], cell.corner[c + 1]);
          else path.moveTo(cell.corner[c], cell.corner[c + 1]);
        }
        path.closePath();
      }
    }
    return cell;
  }

  /* Cells in view whose longest things are a pixel long, those that are not here asked for. */
  function inView(ask) {
    const a = world(0, 0), b = world(size.w, size.h), found = [];
    for (const c of pk.cells) {
      if (c.level && (c.length * at.zoom) / 2 ** data.detail < 1) continue;
      if (c.u + c.reach < a.u || c.u - c.reach > b.u || c.v + c.reach < a.v || c.v - c.reach > b.v) continue;
      const cell = pk.held(c.key);
      if (cell) found.push([c, cell]);
      else if (ask) pk.load(c.key).then(draw, () => {});
    }
    return found;
  }

  function paint(g) {
    const { ratio } = size;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.fillStyle = "#0b0d0f";
    g.fillRect(0, 0, size.w, size.h);
    const corner = screen(u, v), wide = side * at.zoom;
    g.fillStyle = "#c9ccd0";
    g.fillRect(corner.x, corner.y, wide, wide);
    const found = inView(true).map(([c, cell]) => [c, paths(cell)]);
    const placed = (c) => {
      const p = screen(c.u, c.v), scale = c.length * at.zoom;
      g.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * p.x, ratio * p.y);
      return scale;
    };
    for (const [c, cell] of found) {
      placed(c);
      for (const [group, path] of cell.faces) {
        g.fillStyle = colour(fill, group);
        g.fill(path);
      }
    }
    for (const kind of [...data.kinds].reverse()) {
      if (hidden.has(kind.kind)) continue;
      g.strokeStyle = kind.colour;
      for (const [c, cell] of found) {
        const path = cell.sides.get(kind.kind);
        if (!path) continue;
        g.lineWidth = (kind.kind ? 0.9 : 2) / placed(c);
        g.stroke(path);
      }
    }
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    pk.triangle(g, data.anchors.map((a) => screen(a.u, a.v)), data.anchors.map((a) => a.label));
    if (pk.byKeyboard) pk.cross(g, { x: size.w / 2, y: size.h / 2 }, 6);
    pk.drawScale(g, 1 / at.zoom, 22, size.h - 22);
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
      paint(canvas.getContext("2d"));
      readout();
    });
  }

  /* The face at (u, v) among the cells that are here: its cell and its place in it. */
  function faceAt(point) {
    for (const [c, cell] of inView(false)) {
      const x = (point.u - c.u) / c.length, y = (point.v - c.v) / c.length;
      for (let k = 0, first = 0; k < (cell.face?.length ?? 0); first += 2 * cell.count[k], k++) {
        if (inside(cell.corner, first, cell.count[k], x, y)) return [cell, k];
      }
    }
    return null;
  }

  function inside(corner, first, n, x, y) {
    let [px, py] = [corner[first + 2 * n - 2], corner[first + 2 * n - 1]];
    for (let j = first; j < first + 2 * n; j += 2) {
      const qx = corner[j], qy = corner[j + 1];
      if ((qx - px) * (y - py) - (qy - py) * (x - px) < 0) return false;
      [px, py] = [qx, qy];
    }
    return true;
  }

  /* Two lanes of 64 bits, the low half of each first. */
  const hexadecimal = (digest, k) => [1, 0, 3, 2].map((j) => digest[4 * k + j].toString(16).padStart(8, "0")).join("");

  function readout() {
    $("where").textContent = pointer ? "Under the cursor" : "At the centre";
    $("readout").setAttribute("aria-live", pk.byKeyboard ? "polite" : "off");
    const point = pointer ? world(pointer.x, pointer.y) : { u: at.u, v: at.v }, found = faceAt(point);
    const say = (id, text) => { $(id).textContent = text; };
    say("at-plane", `${pk.number(point.u, 6)}, ${pk.number(point.v, 6)}`);
    if (!found) return ["face", "class", "area", "corners", "code"].forEach((name) => say(`at-${name}`, "–"));
    const [cell, k] = found, winner = cell.winner[k] - 1;
    say("at-face", whole.format(cell.face[k]));
    say("at-class", winner < 0 ? "–" : classes.get(winner).name);
    say("at-area", `${pk.number(cell.area[k], 5)} L2²`);
    say("at-corners", String(cell.count[k]));
    say("at-code", hexadecimal(cell.digest, k));
  }

  function pan(du, dv) {
    at.u = Math.min(u + side, Math.max(u, at.u + du));
    at.v = Math.min(v + side, Math.max(v, at.v + dv));
    draw();
  }

  /* (x, y) on the screen stays where it is. */
  function zoom(factor, x = size.w / 2, y = size.h / 2) {
    const before = world(x, y);
    at.zoom = Math.min(1e9 * fitZoom(), Math.max(0.4 * fitZoom(), at.zoom * factor));
    const after = world(x, y);
    pan(before.u - after.u, before.v - after.v);
  }

  function fit() {
    const box = canvas.getBoundingClientRect();
    Object.assign(size, { w: box.width, h: box.height });
    Object.assign(at, { u: u + side / 2, v: v + side / 2, zoom: fitZoom() });
    draw();
  }

  function kinds() {
    for (const kind of data.kinds) {
      const item = document.createElement("li"), label = document.createElement("label");
      const box = document.createElement("input"), swatch = document.createElement("i"), name = document.createElement("span");
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => {
        if (box.checked) hidden.delete(kind.kind); else hidden.add(kind.kind);
        draw();
      });
      swatch.style.background = kind.colour;
      name.textContent = name.title = kind.name;
      label.append(box, swatch, name);
      item.append(label);
      $("kinds").append(item);
    }
  }

  function legend() {
    for (const c of data.classes) {
      const item = document.createElement("li"), swatch = document.createElement("i"), name = document.createElement("span");
      swatch.style.background = c.colour;
      name.textContent = name.title = c.name;
      item.append(swatch, name);
      $("legend").append(item);
    }
    $("legend-block").hidden = !data.classes.length;
    if (!data.classes.length) $("fill").querySelector("[value=class]").remove();
  }

  kinds();
  legend();
  $("fill").value = fill;
  $("fill").addEventListener("change", () => { fill = $("fill").value; draw(); });
  $("fit").addEventListener("click", fit);
  $("closer").addEventListener("click", () => zoom(1.5));
  $("wider").addEventListener("click", () => zoom(1 / 1.5));
  pk.gestures(canvas, {
    move: (dx, dy) => pan(-dx / at.zoom, -dy / at.zoom),
    zoom,
    hover: (point) => { pointer = point; pk.byKeyboard = false; draw(); },
    tap: () => canvas.focus(),
  });
  const step = (dx, dy) => () => pan((dx * 60) / at.zoom, (dy * 60) / at.zoom);
  pk.keyboard({
    ArrowLeft: step(-1, 0), ArrowRight: step(1, 0), ArrowUp: step(0, -1), ArrowDown: step(0, 1),
    "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit,
  }, () => { pk.byKeyboard = true; pointer = null; });
  window.addEventListener("resize", draw);
  Object.assign(pk, { at, screen, world, faceAt, draw, fit, zoom });
  fit();
})();

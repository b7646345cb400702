"use strict";
/* Where one looks: the window is the square 0 .. 1 in x and y, and the plane goes on around it. */
(() => {
  const pk = window.polykern, data = pk.data;
  const canvas = document.getElementById("map");
  const at = { x: 0.5, y: 0.5, scale: 256 }; // the centre; screen pixels that the window is wide
  const size = { w: 1, h: 1, ratio: 1 };
  const FAR = 32; // windows that one may go away
  const MAGNIFIED = 64; // screen pixels that a pixel of the deepest level may become
  let queued = false, paint = () => {};

  const screen = (x, y) => ({ x: (x - at.x) * at.scale + size.w / 2, y: (y - at.y) * at.scale + size.h / 2 });
  const world = (sx, sy) => ({ x: (sx - size.w / 2) / at.scale + at.x, y: (sy - size.h / 2) / at.scale + at.y });
  const lengths = ({ x, y }) => ({ u: data.window.u + x * data.window.side, v: data.window.v + y * data.window.side });
  const place = ({ u, v }) => ({ x: (u - data.window.u) / data.window.side, y: (v - data.window.v) / data.window.side });
  const stepOf = (level) => data.window.side / (data.tile * 2 ** level);

  /* Magnification: at 1 the window is as wide as the shorter side of the map. */
  const magnified = () => at.scale / Math.min(size.w, size.h);

  /* The level whose pixels are one to two device pixels wide; before clamping. */
  const ideal = () => Math.floor(Math.log2((at.scale * size.ratio) / data.tile) + 1e-9);
  const levelOf = () => Math.min(data.deepest, Math.max(data.widest, ideal()));

  /* [level, row, column] of the tiles in view, from the centre outwards. */
  function visible(level = levelOf()) {
    const n = 2 ** level, a = world(0, 0), b = world(size.w, size.h), found = [];
    for (let row = Math.floor(a.y * n); row <= Math.floor(b.y * n); row++) {
      for (let column = Math.floor(a.x * n); column <= Math.floor(b.x * n); column++) found.push([level, row, column]);
    }
    const away = ([, row, column]) => Math.hypot(row + 0.5 - at.y * n, column + 0.5 - at.x * n);
    return found.sort((p, q) => away(p) - away(q));
  }

  function measure() {
    const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    Object.assign(size, { w: Math.max(1, box.width), h: Math.max(1, box.height), ratio });
  }

  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      measure();
      const w = Math.round(size.w * size.ratio), h = Math.round(size.h * size.ratio);
      if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
      const g = canvas.getContext("2d");
      g.setTransform(size.ratio, 0, 0, size.ratio, 0, 0);
      paint(g);
    });
  }

  function pan(dx, dy) {
    const kept = (p) => Math.min(1 + FAR, Math.max(-FAR, p));
    Object.assign(at, { x: kept(at.x + dx / at.scale), y: kept(at.y + dy / at.scale) });
    draw();
  }

  /* (sx, sy) of the screen stays where it is. */
  function zoom(factor, sx = size.w / 2, sy = size.h / 2) {
    const least = (data.tile * 2 ** data.widest) / size.ratio;
    const most = (data.tile * 2 ** data.deepest * MAGNIFIED) / size.ratio;
    const scale = Math.min(most, Math.max(least, at.scale * factor));
    const grown = 1 / at.scale - 1 / scale; // of the distance from the centre, which may be far below 1e-9
    const dx = (sx - size.w / 2) * grown, dy = (sy - size.h / 2) * grown;
    Object.assign(at, { x: at.x + dx, y: at.y + dy, scale });
    pan(0, 0);
  }

  function go(x, y, magnification) {
    measure();
    Object.assign(at, { x, y, scale: magnification * Math.min(size.w, size.h) });
    zoom(1);
  }

  pk.onDraw = (f) => { paint = f; };
  Object.assign(pk, { at, size, screen, world, lengths, place, stepOf, magnified, ideal, levelOf, visible, draw, pan, zoom, go });
})();

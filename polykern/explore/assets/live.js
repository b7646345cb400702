"use strict";
/* The map on its canvas: exact tiles where they are, coarser and finer ones scaled until then; marks above. */
(() => {
  const pk = window.polykern, data = pk.data, { size } = pk;
  const COARSER = 8; // levels up that may stand in
  const OVERVIEW = 2; // levels up that are asked for first where nothing can stand in

  /* The nearest coarser tile that is there, and how many levels up. */
  function standIn([level, row, column], style) {
    for (let k = 1; k <= COARSER && level - k >= data.widest; k++) {
      const canvas = pk.canvasOf(level - k, Math.floor(row / 2 ** k), Math.floor(column / 2 ** k), style);
      if (canvas) return { canvas, k };
    }
    return null;
  }

  /* Draws the part (x, y, side) of a tile's canvas onto the square of tile [level, row, column]. */
  function put(g, canvas, [level, row, column], x = 0, y = 0, side = data.tile) {
    const n = 2 ** level, p = pk.screen(column / n, row / n), q = pk.screen((column + 1) / n, (row + 1) / n);
    const snap = (value) => Math.round(value * size.ratio) / size.ratio;
    g.drawImage(canvas, x, y, side, side, snap(p.x), snap(p.y), snap(q.x) - snap(p.x), snap(q.y) - snap(p.y));
  }

  function drawTile(g, tile, style) {
    const [level, row, column] = tile, exact = pk.canvasOf(level, row, column, style);
    if (exact) { put(g, exact, tile); return; }
    const coarse = standIn(tile, style);
    if (coarse) {
      const k = 2 ** coarse.k, side = data.tile / k;
      put(g, coarse.canvas, tile, (column - Math.floor(column / k) * k) * side, (row - Math.floor(row / k) * k) * side, side);
    }
    if (level === data.deepest) return;
    for (let i = 0; i < 4; i++) {
      const child = [level + 1, 2 * row + (i >> 1), 2 * column + (i % 2)];
      const canvas = pk.canvasOf(...child, style);
      if (canvas) put(g, canvas, child);
    }
  }

  /* Tiles in view, and a coarse one first where nothing can stand in. */
  function wanted(tiles, style) {
    const lost = tiles.filter((t) => !pk.touch(pk.keyOf(...t)) && !standIn(t, style));
    const n = 2 ** OVERVIEW, coarse = new Map();
    for (const [level, row, column] of lost) {
      if (level - OVERVIEW < data.widest || tiles.length < n) continue;
      const t = [level - OVERVIEW, Math.floor(row / n), Math.floor(column / n)];
      coarse.set(pk.keyOf(...t), t);
    }
    return [...coarse.values(), ...tiles];
  }

  function paint(g) {
    const tiles = pk.visible(), level = pk.levelOf(), classes = pk.choice.view === "class";
    const style = classes ? null : pk.styleOf(level);
    g.fillStyle = "#0b0d0f";
    g.fillRect(0, 0, size.w, size.h);
    g.imageSmoothingEnabled = false;
    if (style || classes) for (const tile of tiles) drawTile(g, tile, style);
    const corners = data.anchors.map((a) => pk.place(a)).map(({ x, y }) => pk.screen(x, y));
    const far = 1e6; // screen pixels beyond which canvases lose their lines
    const kept = corners.map(({ x, y }) => ({ x: Math.min(far, Math.max(-far, x)), y: Math.min(far, Math.max(-far, y)) }));
    pk.triangle(g, kept, data.anchors.map((a) => a.label));
    if (pk.byKeyboard) pk.cross(g, { x: size.w / 2, y: size.h / 2 }, 6);
    pk.drawScale(g, data.window.side / pk.at.scale, 22, size.h - 22);
    pk.want(wanted(tiles, style));
    if (tiles.every((t) => pk.touch(pk.keyOf(...t))) && pk.settle(level)) pk.draw();
    pk.drawn(level, tiles, style);
  }

  pk.onDraw(paint);
})();

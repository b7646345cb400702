"use strict";
/* Painted tiles: densities of a level to colours. */
(() => {
  const pk = window.polykern, data = pk.data;
  const painted = new Map(); // tile key and style -> canvas
  const PAINTED = 96;

  const styleOf = (view, level, choice) => pk.styled(view.ranges[Math.max(0, level - view.first)], choice);

  /* How many pixels each block of a tile spans along one side. */
  function spans(first, n, level) {
    const block = 2 ** level;
    return Float64Array.from({ length: n }, (_, i) => Math.min(block, data.side - (first + i) * block));
  }

  function paintDensity(pixels, found, view, level, row, column, style) {
    const table = pk.lookup(style), { h, w, values } = found;
    const summed = view.pool === "sum";
    const tall = spans(row * data.tile, h, level), wide = spans(column * data.tile, w, level);
    const unit = (pk.ENTRIES - 1) / (style.high * view.unit);
    for (let y = 0, i = 0; y < h; y++) {
      const f = summed ? unit / tall[y] : unit;
      for (let x = 0; x < w; x++, i++) {
        const k = summed ? (values[i] * f) / wide[x] : values[i] * f;
        pixels[i] = table[k < pk.ENTRIES - 1 ? k + 0.5 | 0 : pk.ENTRIES - 1];
      }
    }
  }

  function paintClasses(pixels, found) {
    for (let i = 0; i < found.values.length; i++) {
      pixels[i] = pk.classColours.get(found.values[i]) ?? 0xffbbbbbb;
    }
  }

  /* A canvas with the tile in colours, one block a pixel; null while the tile is not here. */
  function tileCanvas(view, level, row, column, style) {
    const key = pk.keyOf(view.id, level, row, column);
    const found = pk.touch(key);
    if (!found) return null;
    const name = `${view.id} ${key} ${style ? style.id : ""}`;
    let canvas = painted.get(name);
    if (!canvas) {
      canvas = document.createElement("canvas");
      canvas.width = found.w;
      canvas.height = found.h;
      const image = new ImageData(found.w, found.h);
      const pixels = new Uint32Array(image.data.buffer);
      if (style) paintDensity(pixels, found, view, level, row, column, style);
      else paintClasses(pixels, found);
      canvas.getContext("2d").putImageData(image, 0, 0);
    }
    painted.delete(name);
    painted.set(name, canvas);
    for (const old of painted.keys()) {
      if (painted.size <= PAINTED) break;
      painted.delete(old);
    }
    return canvas;
  }

  Object.assign(pk, { styleOf, tileCanvas });
})();

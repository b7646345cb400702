"use strict";
/* Tiles in colours. The range of the colours is found once a level, when all in view is there, and then held. */
(() => {
  const pk = window.polykern, data = pk.data;
  const PAINTED = 300; // canvases of 256 KiB
  const SAMPLE = 1 << 16; // values that a range comes from
  const choice = { view: "density", colours: "inferno", scale: "linear", clip: 2, lock: false };
  const ranges = new Map(); // level -> range
  const painted = new Map(); // key and style -> canvas
  let held = null;

  const tiles = (level) => pk.visible(level).map((t) => pk.touch(pk.keyOf(...t))).filter(Boolean);

  /* The densities that leave each clip at either end, over tiles of one level. */
  function measured(found) {
    const each = Math.ceil((found.length * data.tile ** 2) / SAMPLE), unit = 2 * pk.stepOf(found[0].level);
    const values = new Float64Array(found.length * Math.ceil(data.tile ** 2 / each));
    let n = 0;
    for (const { counts } of found) for (let i = n % each; i < counts.length && n < values.length; i += each) values[n++] = counts[i] / unit;
    const sorted = values.subarray(0, n).sort();
    const cut = (share) => sorted[Math.round((n - 1) * share)];
    return {
      low: data.clips.map((c) => cut(c / 100)),
      high: data.clips.map((c) => cut(1 - c / 100)),
      least: sorted.find((v) => v > 0) ?? null,
    };
  }

  /* The range to show a level in: its own, else that of the nearest level, else of what is there. */
  function rangeOf(level) {
    if (choice.lock && held) return held;
    if (ranges.has(level)) return ranges.get(level);
    const near = [...ranges.keys()].sort((a, b) => Math.abs(a - level) - Math.abs(b - level))[0];
    if (near !== undefined) return ranges.get(near);
    const found = tiles(level);
    return found.length ? measured(found) : null;
  }

  /* Call when all in view is there: a level seen for the first time gets its range. True where that changed it. */
  function settle(level, again = false) {
    const found = tiles(level);
    if (!found.length || (!again && ranges.has(level))) return false;
    ranges.set(level, measured(found));
    if (again) held = ranges.get(level);
    return true;
  }

  function lock(on, level) {
    choice.lock = on;
    held = on ? rangeOf(level) : null;
  }

  const styleOf = (level) => {
    const range = rangeOf(level);
    return range && pk.styled(range, choice);
  };

  function paint(pixels, found, style) {
    if (!style) {
      found.classes.forEach((k, i) => { pixels[i] = pk.classColours.get(k) ?? 0xffbbbbbb; });
      return;
    }
    const table = pk.lookup(style), unit = (pk.ENTRIES - 1) / (style.high * 2 * pk.stepOf(found.level));
    for (let i = 0; i < pixels.length; i++) {
      const k = found.counts[i] * unit;
      pixels[i] = table[k < pk.ENTRIES - 1 ? k + 0.5 | 0 : pk.ENTRIES - 1];
    }
  }

  /* A canvas with a tile in colours; null while it is not here. Without a style: its classes. */
  function canvasOf(level, row, column, style) {
    const found = pk.touch(pk.keyOf(level, row, column));
    if (!found || !(style || found.classes)) return null;
    const name = `${found.key} ${style ? style.id : ""}`;
    let canvas = painted.get(name);
    if (!canvas) {
      canvas = document.createElement("canvas");
      canvas.width = canvas.height = data.tile;
      const image = new ImageData(data.tile, data.tile);
      paint(new Uint32Array(image.data.buffer), found, style);
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

  Object.assign(pk, { choice, styleOf, settle, lock, canvasOf, tilesOf: tiles });
})();

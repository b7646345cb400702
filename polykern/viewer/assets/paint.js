"use strict";
/* Numbers to colours: normalisation, colour tables, painted tiles, colour and scale bars. */
(() => {
  const pk = window.polykern, data = pk.data;
  const ENTRIES = 1 << 16;
  const painted = new Map(); // tile key and style -> canvas
  const PAINTED = 96;

  const tables = {};
  for (const [name, digits] of Object.entries(data.palettes)) {
    const bytes = new Uint8Array(768);
    for (let i = 0; i < 768; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
    tables[name] = bytes;
  }

  /* What turns densities of a view at a level into colours. */
  function styleOf(view, level, choice) {
    const range = view.ranges[Math.max(0, level - view.first)];
    let low = range.low[choice.clip], high = range.high[choice.clip];
    if (choice.scale === "log") low = Math.max(low, range.least ?? 1);
    if (!(high > low)) {
      // a clip that leaves one value: the whole range, or any
      low = Math.min(low, range.low[0]);
      high = Math.max(high, range.high[0], low + (Math.abs(low) || 1));
    }
    const style = { low, high, scale: choice.scale, colours: choice.colours };
    style.id = [low, high, style.scale, style.colours].join();
    return style;
  }

  /* 0 .. 1 of a density, and back. */
  function share(style, density) {
    const { low, high, scale } = style;
    const t = scale === "log"
      ? (density > 0 ? Math.log(density / low) / Math.log(high / low) : 0)
      : (density - low) / (high - low);
    const clamped = Math.min(1, Math.max(0, t));
    return scale === "power" ? Math.sqrt(clamped) : clamped;
  }

  function colour(style, density) {
    const k = Math.min(255, Math.floor(256 * share(style, density)));
    return tables[style.colours].subarray(3 * k, 3 * k + 3);
  }

  /* Uint32 colours of densities 0 .. high in equal steps. */
  function lookup(style) {
    if (lookup.id === style.id) return lookup.table;
    const table = new Uint32Array(ENTRIES);
    for (let i = 0; i < ENTRIES; i++) {
      const [r, g, b] = colour(style, (i / (ENTRIES - 1)) * style.high);
      table[i] = 0xff000000 | (b << 16) | (g << 8) | r;
    }
    Object.assign(lookup, { id: style.id, table });
    return table;
  }

  /* How many pixels each block of a tile spans along one side. */
  function spans(first, n, level) {
    const block = 2 ** level;
    return Float64Array.from({ length: n }, (_, i) => Math.min(block, data.side - (first + i) * block));
  }

  function paintDensity(pixels, found, view, level, row, column, style) {
    const table = lookup(style), { h, w, values } = found;
    const summed = view.pool === "sum";
    const tall = spans(row * data.tile, h, level), wide = spans(column * data.tile, w, level);
    const unit = (ENTRIES - 1) / (style.high * view.unit);
    for (let y = 0, i = 0; y < h; y++) {
      const f = summed ? unit / tall[y] : unit;
      for (let x = 0; x < w; x++, i++) {
        const k = summed ? (values[i] * f) / wide[x] : values[i] * f;
        pixels[i] = table[k < ENTRIES - 1 ? k + 0.5 | 0 : ENTRIES - 1];
      }
    }
  }

  const classColours = new Map(data.classes.map((c) => {
    const [r, g, b] = [1, 3, 5].map((k) => parseInt(c.colour.slice(k, k + 2), 16));
    return [c.index, (0xff000000 | (b << 16) | (g << 8) | r) >>> 0];
  }));

  function paintClasses(pixels, found) {
    for (let i = 0; i < found.values.length; i++) {
      pixels[i] = classColours.get(found.values[i]) ?? 0xffbbbbbb;
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

  /* The largest of 1, 2, 5 times a power of ten not above x. */
  function nice(x) {
    const power = 10 ** Math.floor(Math.log10(x));
    return Math.max(...[1, 2, 5].filter((k) => k * power <= x * (1 + 1e-12)).map((k) => k * power));
  }

  function ticksOf({ low, high, scale }) {
    const ticks = [];
    if (scale === "log") {
      const decades = Math.log10(high / low);
      const steps = decades > 3 ? [1] : decades > 0.7 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
      for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
        for (const k of steps) ticks.push(k * 10 ** e);
      }
    } else {
      const step = nice((high - low) / 3);
      for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) ticks.push(k * step);
    }
    return ticks.filter((t) => t >= low && t <= high * (1 + 1e-12));
  }

  const number = (x, digits = 3) =>
    x === 0 ? "0" : Math.abs(x) >= 1e6 || Math.abs(x) < 1e-3
      ? x.toExponential(digits - 1)
      : String(Number(x.toPrecision(Math.max(digits, Math.ceil(Math.log10(Math.abs(x) + 1))))));

  /* A horizontal colour bar with ticks, its unit below. */
  function drawBar(g, style, x, y, width, height, ink) {
    const { low, high, scale } = style;
    for (let i = 0; i < width; i++) {
      const t = scale === "power" ? ((i + 0.5) / width) ** 2 : (i + 0.5) / width;
      const [r, gr, b] = colour(style, scale === "log" ? low * (high / low) ** t : low + t * (high - low));
      g.fillStyle = `rgb(${r},${gr},${b})`;
      g.fillRect(x + i, y, 1.5, height);
    }
    g.font = "11px system-ui, sans-serif";
    g.textBaseline = "top";
    g.fillStyle = ink;
    let right = -Infinity;
    for (const tick of ticksOf(style)) {
      const label = number(tick), half = g.measureText(label).width / 2;
      const at = x + share(style, tick) * width;
      const left = Math.min(x + width - 2 * half, Math.max(x, at - half));
      g.fillRect(Math.min(at, x + width - 1), y + height, 1, 4);
      if (left < right + 8) continue;
      g.textAlign = "left";
      g.fillText(label, left, y + height + 5);
      right = left + 2 * half;
    }
    g.textAlign = "left";
    g.fillText("polytope boundaries per unit L2", x, y + height + 20);
  }

  /* Text or lines that stay legible on any map. */
  function outlined(g, draw) {
    g.strokeStyle = "rgba(0,0,0,.7)";
    g.lineJoin = "round";
    draw(3.5);
    g.strokeStyle = "#fff";
    draw(1.3);
  }

  function label(g, text, x, y) {
    g.strokeStyle = "rgba(0,0,0,.75)";
    g.lineWidth = 3.5;
    g.lineJoin = "round";
    g.strokeText(text, x, y);
    g.fillStyle = "#fff";
    g.fillText(text, x, y);
  }

  /* A length of the plane, in L2 units; `zoom` is screen pixels a map pixel. */
  function drawScale(g, zoom, x, y) {
    const length = nice((150 / zoom) * data.step), wide = (length / data.step) * zoom;
    outlined(g, (width) => {
      g.lineWidth = width + 0.7;
      g.beginPath();
      g.moveTo(x, y - 5); g.lineTo(x, y + 5);
      g.moveTo(x, y); g.lineTo(x + wide, y);
      g.moveTo(x + wide, y - 5); g.lineTo(x + wide, y + 5);
      g.stroke();
    });
    g.font = "12px system-ui, sans-serif";
    g.textAlign = "center";
    g.textBaseline = "alphabetic";
    label(g, `${number(length)} L2`, x + wide / 2, y - 9);
  }

  Object.assign(pk, { styleOf, share, tileCanvas, drawBar, drawScale, outlined, label, number, nice });
})();

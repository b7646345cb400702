"use strict";
/* Numbers to colours: colour tables, scales, the colour bar. */
(() => {
  const pk = window.polykern, data = pk.data;
  const ENTRIES = 1 << 16;

  const tables = {};
  for (const [name, digits] of Object.entries(data.palettes)) {
    const bytes = new Uint8Array(768);
    for (let i = 0; i < 768; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
    tables[name] = bytes;
  }

  /* What turns densities into colours: a range {low, high: one for each clip, least} and a reader's choice. */
  function styled(range, choice) {
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

  /* 0 .. 1 of a density. */
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

  const classColours = new Map(data.classes.map((c) => {
    const [r, g, b] = [1, 3, 5].map((k) => parseInt(c.colour.slice(k, k + 2), 16));
    return [c.index, (0xff000000 | (b << 16) | (g << 8) | r) >>> 0];
  }));

  function ticksOf({ low, high, scale }) {
    const ticks = [];
    if (scale === "log") {
      const decades = Math.log10(high / low);
      const steps = decades > 3 ? [1] : decades > 0.7 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9];
      for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
        for (const k of steps) ticks.push(k * 10 ** e);
      }
    } else {
      const step = pk.nice((high - low) / 3);
      for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-12); k++) ticks.push(k * step);
    }
    return ticks.filter((t) => t >= low && t <= high * (1 + 1e-12));
  }

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
      const label = pk.number(tick), half = g.measureText(label).width / 2;
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

  Object.assign(pk, { ENTRIES, styled, lookup, classColours, drawBar });
})();

"use strict";
/* Value tiles: a script file hands over deflated numbers, which are kept as typed arrays. */
(() => {
  const KEPT = 192; // tiles held at once
  const pk = window.polykern, data = pk.data;
  const nonce = document.currentScript.nonce;
  const asked = new Map(); // key -> {promise, resolve, reject}
  const ready = new Map(); // key -> {key, h, w, values}, least recently used first

  async function unpacked([key, kind, h, w, text]) {
    const letters = atob(text);
    const packed = new Uint8Array(letters.length);
    for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
    return { key, h, w, values: await pk.inflated(kind, h * w, packed) };
  }

  /* The tile `key`, fetched and unpacked once. */
  function load(key) {
    if (ready.has(key)) return Promise.resolve(touch(key));
    if (asked.has(key)) return asked.get(key).promise;
    const entry = {};
    entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    asked.set(key, entry);
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `tiles/${key}.js`;
    script.onload = () => script.remove();
    script.onerror = () => { asked.delete(key); entry.reject(new Error(`${key}: not there`)); };
    document.head.append(script);
    return entry.promise;
  }

  function tile(packed) {
    const entry = asked.get(packed[0]);
    if (!entry) return;
    unpacked(packed).then((found) => {
      ready.set(found.key, found);
      for (const old of ready.keys()) {
        if (ready.size <= KEPT) break;
        ready.delete(old);
      }
      asked.delete(found.key);
      entry.resolve(found);
    }, (error) => { asked.delete(packed[0]); entry.reject(error); });
  }

  function touch(key) {
    const found = ready.get(key);
    if (found) { ready.delete(key); ready.set(key, found); }
    return found;
  }

  /* The key of a tile of a view; the largest of one pixel is its sum. */
  function keyOf(id, level, row, column) {
    return `${id === "max" && level === 0 ? "sum" : id}-${level}-${row}-${column}`;
  }

  /* The value at block (row, column) of a level: null while its tile is not here. */
  function valueAt(id, level, row, column) {
    const size = data.tile;
    const found = ready.get(keyOf(id, level, Math.floor(row / size), Math.floor(column / size)));
    return found ? found.values[(row % size) * found.w + (column % size)] : null;
  }

  function loadAt(id, level, row, column) {
    return load(keyOf(id, level, Math.floor(row / data.tile), Math.floor(column / data.tile)));
  }

  /* Resolves when nothing is on its way. */
  async function settled() {
    while (asked.size) await Promise.allSettled([...asked.values()].map((entry) => entry.promise));
  }

  Object.assign(pk, { tile, load, touch, keyOf, valueAt, loadAt, settled });
})();

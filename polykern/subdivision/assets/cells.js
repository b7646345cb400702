"use strict";
/* Cells of the quadtree: a script file hands over deflated columns, which are kept as typed arrays. */
(() => {
  const KEPT = 1_500_000; // faces and sides held at once
  const pk = window.polykern, data = pk.data;
  const nonce = document.currentScript.nonce;
  const asked = new Map(); // key -> {promise, resolve, reject}
  const ready = new Map(); // key -> cell, least recently used first

  const cells = data.cells.map((key) => {
    const [level, row, column] = key.split("-").map(Number), length = data.window.side / 2 ** level;
    const u = data.window.u + (column + 0.5) * length, v = data.window.v + (row + 0.5) * length;
    // by their middle things lie in the cell; at level 0 they may be as long as it is
    return { key, level, length, u, v, reach: length * (level ? 0.5 + 2 ** -data.detail : 1) };
  });

  function bytes(text) {
    const letters = atob(text), found = new Uint8Array(letters.length);
    for (let i = 0; i < found.length; i++) found[i] = letters.charCodeAt(i);
    return found;
  }

  async function unpacked([key, columns]) {
    const found = { key };
    for (const [name, [kind, n, text]] of Object.entries(columns)) {
      found[name] = await pk.inflated(kind, n, bytes(text));
    }
    found.size = (found.face?.length ?? 0) + (found.what?.length ?? 0);
    return found;
  }

  /* The cell `key`, fetched and unpacked once. */
  function load(key) {
    if (asked.has(key)) return asked.get(key).promise;
    const entry = {};
    entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    asked.set(key, entry);
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `cells/${key}.js`;
    script.onload = () => script.remove();
    script.onerror = () => { asked.delete(key); entry.reject(new Error(`${key}: not there`)); };
    document.head.append(script);
    return entry.promise;
  }

  function cell(packed) {
    const entry = asked.get(packed[0]);
    if (!entry) return;
    unpacked(packed).then((found) => {
      ready.set(found.key, found);
      let held = 0;
      for (const one of ready.values()) held += one.size;
      for (const [old, one] of ready) {
        if (held <= KEPT || old === found.key) break;
        ready.delete(old);
        held -= one.size;
      }
      asked.delete(found.key);
      entry.resolve(found);
    }, (error) => { asked.delete(packed[0]); entry.reject(error); });
  }

  /* The cell when it is here, null while it is not. */
  function held(key) {
    const found = ready.get(key);
    if (found) { ready.delete(key); ready.set(key, found); }
    return found ?? null;
  }

  /* Resolves when nothing is on its way. */
  async function settled() {
    while (asked.size) await Promise.allSettled([...asked.values()].map((entry) => entry.promise));
  }

  Object.assign(pk, { cells, load, cell, held, settled });
})();

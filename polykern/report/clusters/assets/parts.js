"use strict";
/* Packed parts: a script file hands over deflated JSON or columns, or a photo, when the page asks for it. */
(() => {
  const KEPT = 48; // parts held at once, beside those that were asked to stay
  const data = JSON.parse(document.getElementById("data").textContent);
  const nonce = document.currentScript.nonce;
  const asked = new Map(); // key -> {promise, resolve, reject}
  const ready = new Map(); // key -> value, least recently used first
  const staying = new Set(["index", "names", "tree"]);
  const ARRAYS = { i4: Int32Array, u4: Uint32Array, f4: Float32Array };

  async function inflated(text) {
    const letters = atob(text);
    const packed = new Uint8Array(letters.length);
    for (let i = 0; i < packed.length; i++) packed[i] = letters.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  /* [[name, kind, length], ...] and the byte planes of each column -> {name: typed array}. */
  function columns(heads, bytes) {
    const found = {};
    let at = 0;
    for (const [name, kind, n] of heads) {
      const whole = new Uint32Array(n);
      for (let p = 0; p < 4; p++) {
        for (let i = 0; i < n; i++) whole[i] |= bytes[at + p * n + i] << (8 * p);
      }
      found[name] = new ARRAYS[kind](whole.buffer);
      at += 4 * n;
    }
    if (at !== bytes.length) throw new Error(`${bytes.length} bytes for ${at}`);
    return found;
  }

  async function unpacked(head, text) {
    if (typeof head === "string") return `data:${head};base64,${text}`;
    const bytes = await inflated(text);
    return head ? columns(head, bytes) : JSON.parse(new TextDecoder().decode(bytes));
  }

  /* The part `key`, fetched and unpacked once; rejected where there is no such part. */
  function load(key) {
    if (ready.has(key)) {
      const value = ready.get(key);
      ready.delete(key);
      ready.set(key, value);
      return Promise.resolve(value);
    }
    if (asked.has(key)) return asked.get(key).promise;
    const entry = {};
    entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
    asked.set(key, entry);
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `data/${key}.js`;
    script.onload = () => script.remove();
    script.onerror = () => { asked.delete(key); entry.reject(new Error(`${key}: not there`)); };
    document.head.append(script);
    return entry.promise;
  }

  function part([key, head, text]) {
    const entry = asked.get(key);
    if (!entry) return;
    unpacked(head, text).then((value) => {
      ready.set(key, value);
      for (const old of ready.keys()) {
        if (ready.size <= KEPT + staying.size) break;
        if (!staying.has(old)) ready.delete(old);
      }
      asked.delete(key);
      entry.resolve(value);
    }, (error) => { asked.delete(key); entry.reject(error); });
  }

  /* How many entries of an ascending list are not above `wanted`. */
  function upTo(list, wanted) {
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle] <= wanted) low = middle + 1; else high = middle;
    }
    return low;
  }

  /* The record of a cluster; -1 is noise. */
  async function record(c) {
    if (c < 0) return load("noise");
    const k = upTo(data.chunks, c) - 1;
    return (await load(`clusters/${k}`))[c - data.chunks[k]];
  }

  /* Resolves when nothing is on its way. */
  async function settled() {
    while (asked.size) await Promise.allSettled([...asked.values()].map((entry) => entry.promise));
  }

  window.polykern = { data, part, load, record, upTo, settled };
})();

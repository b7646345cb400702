"use strict";
/* Tiles from the server: what is in view is asked for at once, and arrives as it is finished. */
(() => {
  const pk = window.polykern, data = pk.data;
  const KEPT = 600; // tiles held at once
  const COSTS = 8; // tiles whose times are remembered
  const PAUSE = 2000; // ms before a server that failed is asked again
  const page = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
  const ready = new Map(); // key -> {key, level, counts, classes, ...}, least recently used first
  const refused = new Map(); // key -> why
  const state = { waiting: new Set(), asked: 0, since: 0, costs: [], last: null, trouble: "" };
  let under = null, paused = false, changed = () => {}; // the request under way

  const keyOf = (level, row, column) => `${level}.${row}.${column}`;

  function touch(key) {
    const found = ready.get(key);
    if (found) { ready.delete(key); ready.set(key, found); }
    return found;
  }

  /* Asks for [level, row, column] in this order; what was asked before and is not among them is dropped. */
  function want(tiles) {
    if (paused) return;
    const missing = tiles.filter((t) => !ready.has(keyOf(...t)) && !refused.has(keyOf(...t)));
    const keys = missing.map((t) => keyOf(...t));
    if (keys.length === state.waiting.size && keys.every((k) => state.waiting.has(k))) return;
    if (under && keys.length && keys.every((k) => state.waiting.has(k)) && keys.length * 2 > state.waiting.size) return;
    under?.abort.abort();
    under = null;
    Object.assign(state, { waiting: new Set(keys), asked: keys.length, since: performance.now() });
    if (missing.length) under = request(missing);
    changed();
  }

  function request(tiles) {
    const abort = new AbortController(), mine = { abort };
    const body = JSON.stringify({ token: data.token, page, tiles });
    mine.done = (async () => {
      try {
        const answer = await fetch("tiles", { method: "POST", body, signal: abort.signal });
        if (answer.ok) await receive(answer.body.getReader(), mine);
        else trouble(await reason(answer));
      } catch (error) {
        if (!abort.signal.aborted) trouble(`The server does not answer (${error.message}). Start it again, then reload this page.`);
      } finally {
        if (under === mine) {
          under = null;
          state.waiting.clear();
          changed();
        }
      }
    })();
    return mine;
  }

  async function reason(answer) {
    const told = await answer.json().catch(() => null);
    return told?.error ? words(told.error) : `The server refuses: ${answer.status}.`;
  }

  const words = (error) => [error.what, error.why, error.fix].filter(Boolean).join(" · ");

  function trouble(text) {
    state.trouble = text;
    paused = true;
    setTimeout(() => { paused = false; changed(); }, PAUSE);
  }

  /* Frames: a line of JSON, then the bytes that it announces. */
  async function receive(reader, mine) {
    let held = new Uint8Array(0);
    const more = async () => {
      const { done, value } = await reader.read();
      if (done) return false;
      const both = new Uint8Array(held.length + value.length);
      both.set(held);
      both.set(value, held.length);
      held = both;
      return true;
    };
    for (;;) {
      let end = held.indexOf(10);
      while (end < 0) {
        if (!(await more())) return;
        end = held.indexOf(10);
      }
      const head = JSON.parse(new TextDecoder().decode(held.subarray(0, end)));
      const sizes = [head.counts, head.classes].map((part) => part?.[1] ?? 0), from = end + 1;
      while (held.length < from + sizes[0] + sizes[1]) if (!(await more())) return;
      await arrived(head, held.slice(from, from + sizes[0]), held.slice(from + sizes[0], from + sizes[0] + sizes[1]));
      if (under !== mine) return;
      held = held.slice(from + sizes[0] + sizes[1]);
      changed();
    }
  }

  async function arrived(head, counts, classes) {
    if (!head.tile) return; // a sign of life
    const key = keyOf(...head.tile);
    if (head.error) {
      refused.set(key, head.error.what);
      state.waiting.delete(key);
      state.trouble = words(head.error);
      return;
    }
    const n = data.tile ** 2, { tile, uncertain, seconds, engine } = head;
    ready.set(key, {
      key, uncertain, seconds, engine, level: tile[0], row: tile[1], column: tile[2],
      counts: await pk.inflated(head.counts[0], n, counts),
      classes: head.classes ? await pk.inflated(head.classes[0], n, classes) : null,
    });
    state.waiting.delete(key);
    state.last = seconds;
    state.trouble = "";
    state.costs = [...state.costs, seconds].slice(-COSTS);
    for (const old of ready.keys()) {
      if (ready.size <= KEPT) break;
      ready.delete(old);
    }
  }

  /* Seconds that a tile takes, from the last ones; null before the first. */
  const cost = () => (state.costs.length ? state.costs.reduce((a, b) => a + b) / state.costs.length : null);

  /* Resolves when nothing is on its way. */
  async function settled() {
    while (under) await under.done;
  }

  pk.onTiles = (f) => { changed = f; };
  Object.assign(pk, { keyOf, touch, want, settled, state, cost });
})();

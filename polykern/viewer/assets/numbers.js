"use strict";
/* The page's data, and deflated numbers as typed arrays. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Uint32Array };

  /* n numbers of a kind from their deflated byte planes. */
  async function inflated(kind, n, packed) {
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const bytes = Number(kind[1]);
    if (planes.length !== n * bytes) throw new Error(`${planes.length} bytes for ${n} values`);
    const whole = new ARRAYS[kind](n);
    for (let p = 0; p < bytes; p++) {
      for (let i = 0; i < n; i++) whole[i] |= planes[p * n + i] << (8 * p);
    }
    return kind === "f4" ? new Float32Array(whole.buffer) : whole;
  }

  window.polykern = { data, inflated };
})();

"use strict";
/* The density along an edge of the triangle, as a curve. */
(() => {
  const pk = window.polykern, data = pk.data;
  const box = document.getElementById("profile"), plot = document.getElementById("profile-plot");
  const unit = 2 * data.step;
  let shown = null, cursor = null;

  /* Means of counts over at most `width` runs, so that a curve has one point a pixel. */
  function thinned(values, width) {
    const n = Math.min(values.length, Math.max(2, Math.floor(width)));
    return Array.from({ length: n }, (_, k) => {
      const from = Math.floor((k * values.length) / n), to = Math.floor(((k + 1) * values.length) / n);
      const some = values.slice(from, to).filter((v) => v !== null);
      return some.length ? some.reduce((a, b) => a + b, 0) / some.length : null;
    });
  }

  function curve(g, values, frame, top) {
    let open = false;
    g.beginPath();
    values.forEach((v, k) => {
      if (v === null) { open = false; return; }
      const x = frame.x + (k / (values.length - 1)) * frame.w, y = frame.y + frame.h * (1 - v / top);
      if (open) g.lineTo(x, y); else g.moveTo(x, y);
      open = true;
    });
    g.stroke();
  }

  function axes(g, frame, top) {
    g.font = "11px system-ui, sans-serif";
    g.fillStyle = "#9ba4ae";
    g.strokeStyle = "#31373e";
    g.lineWidth = 1;
    const up = pk.nice(top / 2), along = pk.nice(shown.length / 5);
    for (let v = 0; v <= top; v += up) {
      const y = Math.round(frame.y + frame.h * (1 - v / top)) + 0.5;
      g.beginPath(); g.moveTo(frame.x, y); g.lineTo(frame.x + frame.w, y); g.stroke();
      g.textAlign = "right"; g.textBaseline = "middle";
      g.fillText(pk.number(v), frame.x - 6, y);
    }
    g.textAlign = "center"; g.textBaseline = "top";
    for (let s = 0; s <= shown.length * 0.96; s += along) {
      g.fillText(pk.number(s), frame.x + (s / shown.length) * frame.w, frame.y + frame.h + 13);
    }
    g.textAlign = "right";
    g.fillText("L2", frame.x + frame.w, frame.y + frame.h + 13);
  }

  /* A strip under the curve in the colours of the classes. */
  function strip(g, frame) {
    const of = new Map(data.classes.map((c) => [c.index, c.colour]));
    (shown.classes ?? []).forEach((c, k, all) => {
      if (c === null) return;
      g.fillStyle = of.get(c) ?? "#bbbbbb";
      g.fillRect(frame.x + (k / all.length) * frame.w, frame.y + frame.h + 3, frame.w / all.length + 0.6, 6);
    });
  }

  function draw() {
    if (!shown || box.hidden) return;
    const ratio = window.devicePixelRatio || 1, { width, height } = plot.getBoundingClientRect();
    plot.width = Math.round(width * ratio);
    plot.height = Math.round(height * ratio);
    const g = plot.getContext("2d");
    g.scale(ratio, ratio);
    const frame = { x: 52, y: 10, w: width - 64, h: height - 42 };
    const counts = thinned(shown.counts.map((c) => (c === null ? null : c / unit)), frame.w);
    const smooth = thinned(shown.smooth, frame.w);
    const sorted = counts.filter((v) => v !== null).sort((a, b) => a - b);
    const crest = Math.max(...smooth.map((v) => v ?? 0), sorted[Math.floor(0.98 * sorted.length)] ?? 0);
    const top = crest > 0 ? 1.08 * crest : 1;
    axes(g, frame, top);
    strip(g, frame);
    g.save();
    g.beginPath(); g.rect(frame.x, 0, frame.w, frame.y + frame.h); g.clip();
    g.strokeStyle = "rgba(134,183,240,.38)"; g.lineWidth = 1;
    curve(g, counts, frame, top);
    g.strokeStyle = "#f2b26b"; g.lineWidth = 2;
    curve(g, smooth, frame, top);
    if (cursor !== null) {
      g.fillStyle = "rgba(255,255,255,.6)";
      g.fillRect(frame.x + cursor * frame.w, frame.y, 1, frame.h);
    }
    g.restore();
    plot.dataset.samples = String(shown.counts.filter((c) => c !== null).length);
  }

  /* Opens the profile of edge k: A to B, B to C, C to A. */
  function open(k) {
    shown = data.profiles[k];
    cursor = null;
    const words = `Density from ${shown.from} to ${shown.to}, ${pk.number(shown.length, 4)} L2`;
    document.getElementById("profile-title").textContent = `${words} · line: smoothed, faint: pixel by pixel`;
    plot.setAttribute("aria-label", summary(words));
    docked(true);
    draw();
  }

  /* The map makes room below; a map that was fitted stays so. */
  function docked(yes) {
    const whole = pk.fitted();
    box.hidden = !yes;
    box.parentElement.classList.toggle("profiled", yes);
    pk.marker(null);
    if (whole) pk.fit();
  }

  function summary(words) {
    const inside = shown.smooth.filter((v) => v !== null);
    if (!inside.length) return `${words}: outside the window`;
    const most = Math.max(...inside), at = shown.smooth.indexOf(most) / (shown.smooth.length - 1);
    return `${words}: smoothed density from ${pk.number(Math.min(...inside))} to ${pk.number(most)}, ` +
      `highest ${pk.number(at * shown.length)} L2 from ${shown.from}`;
  }

  function close() {
    shown = null;
    docked(false);
  }

  plot.addEventListener("pointermove", (event) => {
    if (!shown) return;
    const { left, width } = plot.getBoundingClientRect();
    cursor = Math.min(1, Math.max(0, (event.clientX - left - 52) / (width - 64)));
    const [a, b] = [shown.from, shown.to].map((c) => data.anchors["ABC".indexOf(c)]);
    pk.marker({ x: a.column + cursor * (b.column - a.column), y: a.row + cursor * (b.row - a.row) });
    draw();
  });
  plot.addEventListener("pointerleave", () => { cursor = null; pk.marker(null); draw(); });
  document.getElementById("profile-close").addEventListener("click", close);

  pk.profile = { open, close, draw };
})();

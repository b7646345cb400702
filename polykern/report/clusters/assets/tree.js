"use strict";
/* The condensed tree as an icicle: down is nearer together; clusters are lit. What is too thin is drawn as one. */
(() => {
  const pk = window.polykern, { h } = pk;
  const LEFT = 46, TOP = 8, BOTTOM = 8, THIN = 0.7; // px
  let shape = null; // the promise of a laid-out tree

  /* Children of every node (largest first), nodes from the root down, what each subtree holds, and x by two measures. */
  function laid({ parent, birth, death, size, label }) {
    const m = parent.length, starts = new Int32Array(m + 1), children = new Int32Array(Math.max(0, m - 1));
    for (let i = 0; i < m; i++) if (parent[i] >= 0) starts[parent[i] + 1]++;
    for (let i = 0; i < m; i++) starts[i + 1] += starts[i];
    const next = starts.slice();
    const bySize = Int32Array.from({ length: m }, (_, i) => i).sort((a, b) => size[b] - size[a] || a - b);
    for (const i of bySize) if (parent[i] >= 0) children[next[parent[i]]++] = i;
    const order = [0]; // every parent before its children
    for (let k = 0; k < order.length; k++) for (let j = starts[order[k]]; j < starts[order[k] + 1]; j++) order.push(children[j]);
    const leaves = new Float64Array(m), lit = new Int32Array(m), deep = Float32Array.from(death), state = new Uint8Array(m);
    for (let k = order.length - 1; k >= 0; k--) {
      const i = order[k];
      if (starts[i] === starts[i + 1]) leaves[i] = 1;
      if (label[i] >= 0) lit[i]++;
      if (parent[i] < 0) continue;
      leaves[parent[i]] += leaves[i];
      lit[parent[i]] += lit[i];
      deep[parent[i]] = Math.min(deep[parent[i]], deep[i]);
    }
    for (const i of order) if (label[i] >= 0) state[i] = 1; else if (parent[i] >= 0 && state[parent[i]]) state[i] = 2;
    const nodeOf = new Map();
    label.forEach((c, i) => { if (c >= 0) nodeOf.set(c, i); });
    const spans = Object.fromEntries([["clusters", leaves], ["rows", size]].map(([name, weight]) => [name, placed(weight)]));
    function placed(weight) {
      const from = new Float64Array(m), to = new Float64Array(m);
      to[0] = 1;
      for (const i of order) {
        let sum = 0;
        for (let j = starts[i]; j < starts[i + 1]; j++) sum += weight[children[j]];
        const scale = (to[i] - from[i]) / weight[i];
        let at = from[i] + (weight[i] - sum) * scale / 2; // rows that left the branch, on either side
        for (let j = starts[i]; j < starts[i + 1]; j++) {
          from[children[j]] = at;
          at += weight[children[j]] * scale;
          to[children[j]] = at;
        }
      }
      return { from, to };
    }
    let high = 0;
    for (let i = 1; i < m; i++) high = Math.max(high, birth[i]);
    const low = deep[0];
    if (!high) high = birth[0] || 1;
    const room = (high - low) * 0.06 || 1;
    const inOrder = [...nodeOf].map(([c]) => c).sort((a, b) => spans.rows.from[nodeOf.get(a)] - spans.rows.from[nodeOf.get(b)]);
    return { m, parent, birth, death, size, label, starts, children, lit, deep, state, nodeOf, spans, inOrder, high: high + room, low: Math.max(0, low) };
  }

  function ticks(low, high, most) {
    const rough = (high - low) / most || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((k) => k >= rough);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high; v += step) found.push(Number(v.toPrecision(12)));
    return found;
  }

  /* A drawing of the tree in `canvas`. here: the cluster that is marked, or -1; say(text) tells what is under the pointer. */
  function drawing(canvas, t, { here = -1, say, measure }) {
    const view = { from: 0, to: 1 };
    let over = 0, measured = measure, waiting = 0;
    const colour = () => {
      const style = getComputedStyle(canvas);
      return Object.fromEntries(["tree", "tree-lit", "tree-in", "tree-here", "quiet", "line", "ink"].map((k) => [k, style.getPropertyValue(`--${k}`)]));
    };
    const box = () => ({ w: canvas.clientWidth - LEFT, h: canvas.clientHeight - TOP - BOTTOM });
    const x = (u) => LEFT + (u - view.from) / (view.to - view.from) * box().w;
    const y = (d) => TOP + (t.high - Math.min(d, t.high)) / (t.high - t.low || 1) * box().h;

    function draw() {
      const ratio = window.devicePixelRatio || 1, g = canvas.getContext("2d"), { w, h: tall } = box(), ink = colour();
      if (w <= 0) return;
      canvas.width = Math.round(canvas.clientWidth * ratio);
      canvas.height = Math.round(canvas.clientHeight * ratio);
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      axis(g, ink, w);
      g.save();
      g.beginPath();
      g.rect(LEFT, 0, w, tall + TOP + BOTTOM);
      g.clip();
      nodes(g, ink, w);
      mark(g, ink);
      g.restore();
    }

    function axis(g, ink, w) {
      Object.assign(g, { font: `11px ${getComputedStyle(canvas).fontFamily}`, textAlign: "right", textBaseline: "middle", lineWidth: 1 });
      for (const value of ticks(t.low, t.high, Math.max(2, box().h / 44))) {
        const at = Math.round(y(value)) + 0.5;
        g.strokeStyle = ink.line;
        g.beginPath();
        g.moveTo(LEFT, at);
        g.lineTo(LEFT + w, at);
        g.stroke();
        g.fillStyle = ink.quiet;
        g.fillText(pk.number(value, 4), LEFT - 6, at);
      }
    }

    function nodes(g, ink, w) {
      const { from, to } = t.spans[measured], colours = [ink.tree, ink["tree-lit"], ink["tree-in"]];
      const scale = w / (view.to - view.from), stack = [0];
      let drawn = 0;
      while (stack.length) {
        const i = stack.pop();
        if (to[i] < view.from || from[i] > view.to) continue;
        const left = Math.max(x(from[i]), LEFT - 2), right = Math.min(x(to[i]), LEFT + w + 2), wide = (to[i] - from[i]) * scale;
        const top = y(t.birth[i]);
        drawn++;
        if (wide < THIN && i) {
          g.fillStyle = t.state[i] ? colours[t.state[i]] : t.lit[i] ? ink["tree-in"] : ink.tree;
          g.fillRect(left, top, Math.max(wide, 0.5), Math.max(1, y(t.deep[i]) - top));
          continue;
        }
        const gap = wide > 6 ? 1 : 0;
        g.fillStyle = colours[t.state[i]];
        const tall = y(t.death[i]) - top;
        g.fillRect(left, top, right - left - gap, Math.max(1, tall - (wide > 6 && tall > 5 ? 1 : 0)));
        if (t.label[i] >= 0 && wide > 14 && y(t.death[i]) - top > 14) name(g, i, (left + right) / 2, (top + y(t.death[i])) / 2, wide);
        for (let j = t.starts[i]; j < t.starts[i + 1]; j++) stack.push(t.children[j]);
      }
      canvas.dataset.drawn = drawn;
    }

    function name(g, i, at, middle, wide) {
      const text = pk.number(t.label[i]);
      if (g.measureText(text).width > wide - 6) return;
      g.fillStyle = getComputedStyle(canvas).getPropertyValue("--on-lit");
      g.textAlign = "center";
      g.fillText(text, at, middle + 0.5);
    }

    function mark(g, ink) {
      const i = here >= 0 ? t.nodeOf.get(here) : undefined, { from, to } = t.spans[measured];
      if (i !== undefined) {
        const wide = Math.max(3, x(to[i]) - x(from[i])), left = (x(from[i]) + x(to[i]) - wide) / 2, top = y(t.birth[i]);
        const tall = Math.max(3, y(t.death[i]) - top);
        g.fillStyle = ink["tree-here"];
        g.fillRect(left, top, wide, tall);
        g.beginPath();
        g.moveTo(left + wide / 2, Math.max(TOP + 6, top) - 1);
        g.lineTo(left + wide / 2 - 5, Math.max(TOP + 6, top) - 9);
        g.lineTo(left + wide / 2 + 5, Math.max(TOP + 6, top) - 9);
        g.fill();
        if (tall > 14) name(g, i, left + wide / 2, top + tall / 2, wide);
      }
      if (over) {
        const wide = Math.max(2, x(to[over]) - x(from[over]));
        g.strokeStyle = ink.ink;
        g.lineWidth = 1.5;
        g.strokeRect(x(from[over]), y(t.birth[over]), wide, Math.max(2, y(t.death[over]) - y(t.birth[over])));
      }
    }

    /* The node under a point of the canvas; the root where there is none. */
    function at(px, py) {
      const u = view.from + (px - LEFT) / box().w * (view.to - view.from), { from, to } = t.spans[measured];
      for (let i = 0; ;) {
        if (py <= y(t.death[i])) return i;
        let found = -1;
        for (let j = t.starts[i]; j < t.starts[i + 1]; j++) {
          const k = t.children[j];
          if (u >= from[k] && u <= to[k]) { found = k; break; }
        }
        if (found < 0) return i;
        i = found;
      }
    }

    function about(i) {
      const range = `from ${pk.distance(t.birth[i])} to ${pk.distance(t.death[i])}`;
      const rows = `${pk.number(t.size[i])} rows`;
      if (t.label[i] >= 0) return `cluster ${pk.number(t.label[i])}: ${rows}, ${range}`;
      if (t.state[i] === 2) return `branch inside a cluster: ${rows}, ${range}`;
      return `branch with ${pk.number(t.lit[i])} clusters: ${rows}, ${range}`;
    }

    /* The cluster that a node is, is inside of, or alone holds; -1 for a branch of several. */
    function clusterOf(i) {
      for (let k = i; k >= 0; k = t.parent[k]) if (t.label[k] >= 0) return t.label[k];
      while (t.lit[i] === 1) {
        if (t.label[i] >= 0) return t.label[i];
        for (let j = t.starts[i]; j < t.starts[i + 1]; j++) if (t.lit[t.children[j]]) { i = t.children[j]; break; }
      }
      return -1;
    }

    function look(from, to) {
      const wide = Math.min(1, Math.max(to - from, 1e-9));
      view.from = Math.min(Math.max(0, from), 1 - wide);
      view.to = view.from + wide;
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(draw);
    }
    function zoom(times, u = (view.from + view.to) / 2) {
      const wide = (view.to - view.from) / times;
      look(u - (u - view.from) / times, u - (u - view.from) / times + wide);
    }
    function point(i, spoken) {
      if (i === over && !spoken) return;
      over = i;
      say(i ? about(i) : "", spoken);
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(draw);
    }
    /* Wide enough to see the marked cluster. */
    function find() {
      const i = t.nodeOf.get(here), { from, to } = t.spans[measured];
      if (i === undefined || !box().w) return look(0, 1);
      const wide = Math.min(1, (to[i] - from[i]) * box().w / 40), middle = (from[i] + to[i]) / 2;
      look(middle - wide / 2, middle + wide / 2);
    }
    const by = (name) => { measured = name; here >= 0 ? find() : look(0, 1); };
    return { draw, at, point, clusterOf, zoom, look, find, by, view, box, over: () => over };
  }

  function listen(canvas, t, d) {
    const local = (event) => ({ px: event.offsetX, py: event.offsetY });
    let grabbed = null, moved = 0;
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); grabbed = event.clientX; moved = 0; });
    canvas.addEventListener("pointermove", (event) => {
      const { px, py } = local(event);
      if (grabbed === null) return d.point(d.at(px, py));
      const by = (grabbed - event.clientX) / d.box().w * (d.view.to - d.view.from);
      moved += Math.abs(grabbed - event.clientX);
      grabbed = event.clientX;
      d.look(d.view.from + by, d.view.to + by);
    });
    canvas.addEventListener("pointerup", (event) => {
      grabbed = null;
      const { px, py } = local(event), c = d.clusterOf(d.at(px, py));
      if (moved <= 3 && c >= 0) location.hash = `#c=${c}`;
    });
    canvas.addEventListener("pointercancel", () => { grabbed = null; });
    canvas.addEventListener("pointerleave", () => { if (grabbed === null) d.point(0); });
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      const u = d.view.from + (event.offsetX - LEFT) / d.box().w * (d.view.to - d.view.from);
      const lines = event.deltaMode === 1 ? 16 : 1; // Firefox counts a wheel in lines
      d.zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) / 250), u);
    }, { passive: false });
    const step = (by) => {
      const list = t.inOrder, old = list.indexOf(t.label[d.over()]);
      const k = Math.max(0, Math.min(list.length - 1, old < 0 ? (by > 0 ? 0 : list.length - 1) : old + by));
      if (list.length) d.point(t.nodeOf.get(list[k]), true);
    };
    const keys = {
      ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => d.zoom(1.5), "=": () => d.zoom(1.5), "-": () => d.zoom(1 / 1.5),
      0: () => d.look(0, 1), Enter: () => { const c = d.clusterOf(d.over()); if (d.over() && c >= 0) location.hash = `#c=${c}`; },
    };
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      keys[event.key]();
    });
  }

  /* A card with the tree; `here` is the cluster that is marked in it, -1 for none. */
  function treeCard(here = -1) {
    const said = h("p.quiet.say", {}), hint = "Click opens a cluster, drag moves, Ctrl and wheel zoom; arrow keys walk, + and − zoom, Enter opens.";
    const canvas = h("canvas.icicle", { tabindex: 0, role: "application", "aria-label": `Condensed tree. ${hint}` });
    const many = pk.data.clusters > 64, choice = h("select", { "aria-label": "Width of a branch" },
      h("option", { value: "clusters" }, "width: clusters"), h("option", { value: "rows" }, "width: rows"));
    choice.value = many ? "clusters" : "rows";
    const button = (text, label, act) => h("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    let d = null;
    const tools = h("span.tools", {}, choice, button("−", "Zoom out", () => d?.zoom(0.5)), button("+", "Zoom in", () => d?.zoom(2)), button("Whole", "The whole tree", () => d?.look(0, 1)));
    const card = h("section.card.tree", { "aria-label": "Condensed tree" }, h("header", {}, h("h2", {}, here < 0 ? "Condensed tree" : "Place in the condensed tree"), tools),
      canvas, said, h("p.quiet", {}, h("span.key.lit"), "cluster ", h("span.key.in"), "its branches ", h("span.key"), "larger branches ", here >= 0 ? [h("span.key.here"), "this cluster "] : null, ` · down: distance, ${pk.unit()}`));
    said.textContent = hint;
    card.ready = (async () => {
      shape ??= pk.load("tree").then(laid);
      const t = await shape;
      const say = (text, spoken) => { said.textContent = text || hint; said.setAttribute("aria-live", spoken ? "polite" : "off"); };
      d = drawing(canvas, t, { here, say, measure: choice.value });
      listen(canvas, t, d);
      choice.addEventListener("change", () => d.by(choice.value));
      let first = true;
      new ResizeObserver(() => { if (first && here >= 0) d.find(); else d.draw(); first = false; }).observe(canvas);
      card.drawing = d;
      card.tree = t;
    })();
    card.redraw = () => d?.draw();
    return card;
  }

  Object.assign(pk, { treeCard, ticks });
})();

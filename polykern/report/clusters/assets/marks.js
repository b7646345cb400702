"use strict";
/* Elements and words. Every string of the data passes through `shown` on its way into the page. */
(() => {
  const pk = window.polykern;
  const SVG = "http://www.w3.org/2000/svg";
  const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]|\p{Cs}/gu;

  /* `text` with every character that hides or reorders others replaced by one that shows. */
  function shown(text) {
    return String(text).replace(UNSEEN, (c) => {
      const code = c.codePointAt(0);
      if (code === 10) return "\u21b5";
      if (code === 9) return "\u21e5";
      if (code < 0x20) return String.fromCodePoint(0x2400 + code);
      if (code === 0x7f) return "\u2421";
      if (code >= 0xd800 && code < 0xe000) return "\ufffd";
      return `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
    });
  }

  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name === "style") for (const [k, v] of Object.entries(value)) made.style.setProperty(k, v);
      else made.setAttribute(name, value === true ? "" : shown(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === undefined || child === null || child === false) continue;
      made.append(child instanceof Node ? child : shown(child));
    }
    return made;
  }

  /* An element: `tag.class`, attributes ("onclick" a function, "style" an object), children. Text is text. */
  function h(kind, attributes = {}, ...children) {
    const [tag, ...classes] = kind.split(".");
    const made = document.createElement(tag);
    if (classes.length) made.className = classes.join(" ");
    return fill(made, attributes, children);
  }

  function s(tag, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, tag), attributes, children);
  }

  const whole = new Intl.NumberFormat("en-US");
  const formats = new Map();
  function number(x, digits = 3) {
    if (x === null || x === undefined || Number.isNaN(x)) return "–";
    if (Number.isInteger(x)) return whole.format(x);
    if (!formats.has(digits)) {
      formats.set(digits, new Intl.NumberFormat("en-US", { maximumSignificantDigits: digits }));
    }
    return x !== 0 && Math.abs(x) < 1e-4 ? x.toExponential(1) : formats.get(digits).format(x);
  }
  const percent = (x) => {
    if (x === null || Number.isNaN(x)) return "–";
    if (x > 0 && x < 0.001) return "<0.1%";
    return `${(100 * x).toFixed(x > 0.9995 || x === 0 ? 0 : 1)}%`;
  };

  /* A token as it is: blanks at its ends are drawn, an empty one is named. */
  function token(text) {
    const found = h("code.token");
    const [, before, middle, after] = /^( *)(.*?)( *)$/su.exec(text);
    const blanks = (run) => h("i", {}, run.length > 3 ? `\u2423\u00d7${run.length} ` : "\u2423".repeat(run.length));
    if (before) found.append(blanks(before));
    if (middle) found.append(shown(middle));
    if (after) found.append(blanks(after));
    if (!text) found.append(h("i", {}, "empty"));
    found.setAttribute("title", shown(text));
    return found;
  }

  const unit = (count = 2) => (pk.data.unit === "bits" && count === 1 ? "bit" : pk.data.unit);
  const distance = (x) => (x === null ? "–" : `${number(x, 4)} ${unit(x)}`);
  const link = (c, ...more) => h("a", { href: c < 0 ? "#noise" : `#c=${c}` }, ...(more.length ? more : [number(c)]));

  /* A bar of the share x of its cell. */
  const bar = (x, kind = "span.bar") => h(kind, { "aria-hidden": "true" },
    h("i", { style: { width: `${Math.max(0, Math.min(1, x)) * 100}%` } }));

  /* Names of the layers without the dotted parts that all have at either end, but for one in front. */
  const layerNames = (() => {
    const all = pk.data.fields.map((f) => (f.name || "(the model)").split(".")), first = all[0] ?? [];
    if (all.length < 2) return all.map((parts) => parts.join("."));
    const least = Math.min(...all.map((parts) => parts.length));
    let head = 0, tail = 0;
    while (head < least - 1 && all.every((parts) => parts[head] === first[head])) head++;
    while (tail < least - 1 - head && all.every((parts) => parts.at(-1 - tail) === first.at(-1 - tail))) tail++;
    return all.map((parts) => parts.slice(Math.max(0, head - 1), parts.length - tail).join("."));
  })();

  /* A picture that is drawn anew, build(width in px), whenever its room changes. */
  function fluid(build) {
    const box = h("div.fluid");
    let last = 0;
    new ResizeObserver(() => {
      const wide = Math.floor(box.clientWidth);
      if (wide && wide !== last) box.replaceChildren(build(wide));
      last = wide;
    }).observe(box);
    return box;
  }

  /* What the bit of a code is: its layer and its unit there, with the threshold where a unit has several. */
  function bitName(bit) {
    const fields = pk.data.fields;
    const k = pk.upTo(fields.map((f) => f.offset), bit) - 1, field = fields[k];
    const units = field.shape.reduce((a, b) => a * b, 1);
    let left = (bit - field.offset) % units;
    const place = [];
    for (const side of [...field.shape].reverse()) {
      place.unshift(left % side);
      left = Math.floor(left / side);
    }
    const level = Math.floor((bit - field.offset) / units);
    const above = field.thresholds.length > 1 || field.thresholds[0] ? ` > ${number(field.thresholds[level], 4)}` : "";
    return { layer: layerNames[k], whole: field.name, unit: `${place.length > 1 ? `(${place.join(", ")})` : place[0] ?? 0}${above}` };
  }

  function save(name, text, kind = "application/json") {
    const made = h("a", { download: name });
    made.href = URL.createObjectURL(new Blob([text], { type: kind }));
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 1000);
  }

  Object.assign(pk, { shown, h, s, number, percent, token, distance, unit, link, bar, bitName, layerNames, fluid, save });
})();

"use strict";
/* Marks that stay legible on any map: crosses, the triangle of the anchors, the scale bar; numbers in words. */
(() => {
  const pk = window.polykern;

  /* The largest of 1, 2, 5 times a power of ten not above x. */
  function nice(x) {
    const power = 10 ** Math.floor(Math.log10(x));
    return Math.max(...[1, 2, 5].filter((k) => k * power <= x * (1 + 1e-12)).map((k) => k * power));
  }

  const number = (x, digits = 3) =>
    x === 0 ? "0" : Math.abs(x) >= 1e6 || Math.abs(x) < 1e-3
      ? x.toExponential(digits - 1)
      : String(Number(x.toPrecision(Math.max(digits, Math.ceil(Math.log10(Math.abs(x) + 1))))));

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

  /* A length of the plane, in L2 units, of which a screen pixel is `unit`. */
  function drawScale(g, unit, x, y) {
    const length = nice(150 * unit), wide = length / unit;
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

  function cross(g, c, arm) {
    pk.outlined(g, (width) => {
      g.lineWidth = width + 0.5;
      g.beginPath();
      g.moveTo(c.x - arm, c.y); g.lineTo(c.x + arm, c.y);
      g.moveTo(c.x, c.y - arm); g.lineTo(c.x, c.y + arm);
      g.stroke();
    });
  }

  /* The anchors at `corners` of the screen, with their labels, and the edges between them. */
  function triangle(g, corners, labels) {
    g.setLineDash([6, 5]);
    outlined(g, (width) => {
      g.lineWidth = width;
      g.beginPath();
      corners.forEach((c, k) => (k ? g.lineTo(c.x, c.y) : g.moveTo(c.x, c.y)));
      g.closePath();
      g.stroke();
    });
    g.setLineDash([]);
    corners.forEach((c, k) => {
      cross(g, c, 10);
      g.font = "600 13px system-ui, sans-serif";
      g.textAlign = "left";
      g.textBaseline = "alphabetic";
      const name = labels[k], letter = "ABC"[k];
      label(g, name === letter ? letter : `${letter}  ${name.slice(0, 32)}`, c.x + 9, c.y - 8);
    });
  }

  Object.assign(pk, { nice, number, outlined, label, cross, triangle, drawScale });
})();

"use strict";
/* Fingers, mouse, wheel and keys on a canvas. */
(() => {
  const STILL = 3; // screen pixels that a tap may wander

  /* Hands over what a hand does, in screen pixels of the canvas.
     move(dx, dy) while dragged, zoom(factor, x, y), hover(point or null, pressed), tap(point). */
  function gestures(canvas, { move, zoom, hover, tap }) {
    const fingers = new Map(); // pointer id -> last position
    let moved = 0;
    const local = (event) => {
      const box = canvas.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, local(event));
      if (fingers.size === 1) moved = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const here = local(event), before = fingers.get(event.pointerId);
      hover(here, Boolean(before));
      if (!before) return;
      const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
      moved += Math.hypot(here.x - before.x, here.y - before.y);
      fingers.set(event.pointerId, here);
      if (other) {
        const apart = (p) => Math.max(1, Math.hypot(p.x - other.x, p.y - other.y));
        move((here.x - before.x) / 2, (here.y - before.y) / 2);
        zoom(apart(here) / apart(before), (here.x + other.x) / 2, (here.y + other.y) / 2);
      } else if (moved > STILL) {
        canvas.classList.add("grabbed");
        move(here.x - before.x, here.y - before.y);
      }
    });
    const lift = (event) => {
      const single = fingers.size === 1;
      if (!fingers.delete(event.pointerId)) return;
      canvas.classList.remove("grabbed");
      if (single && moved <= STILL && event.type === "pointerup") tap(local(event));
    };
    canvas.addEventListener("pointerup", lift);
    canvas.addEventListener("pointercancel", lift);
    canvas.addEventListener("pointerleave", () => hover(null, false));
    canvas.addEventListener("dblclick", (event) => zoom(2, local(event).x, local(event).y));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const here = local(event);
      const lines = event.deltaMode === 1 ? 16 : 1; // Firefox counts a wheel in lines
      hover(here, true);
      zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY * lines)) / 300), here.x, here.y);
    }, { passive: false });
  }

  /* Runs keys[name] when a key is pressed outside of a control; `first` goes before. */
  function keyboard(keys, first) {
    document.addEventListener("keydown", (event) => {
      const typing = ["SELECT", "INPUT", "TEXTAREA"].includes(event.target.tagName);
      if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
      if (!Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      first();
      keys[event.key]();
    });
  }

  Object.assign(window.polykern, { gestures, keyboard });
})();

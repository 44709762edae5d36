// Rectangles over a picture: draw one by dragging, choose one by a click, move it by the arrow keys, name or remove it.
"use strict";
import { h, svg } from "./dom.js";

const STEP = 0.005;
// A click that slipped is no box.
const LEAST = 0.01;
const MOVES = { arrowleft: [-STEP, 0], arrowright: [STEP, 0], arrowup: [0, -STEP], arrowdown: [0, STEP] };
const within = (value, most = 1) => Math.min(most, Math.max(0, value));

// `element` holds the picture and its boxes; boxes are {id, label, x, y, width, height} in fractions of the picture.
export function drawing(picture, onchange) {
  let boxes = [], chosen = null, drawing = false, editable = true, from = null;
  const marks = svg("svg", { class: "boxes", viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
  const names = h("div", { class: "boxes-names" });
  const element = h("div", { class: "boxes-frame" }, picture, marks, names);

  element.addEventListener("pointerdown", (event) => {
    if (!editable || event.button) return;
    const [x, y] = place(event);
    if (!drawing) return choose(boxes.findLast((box) => x >= box.x && x <= box.x + box.width && y >= box.y && y <= box.y + box.height) ?? null);
    event.preventDefault();
    element.setPointerCapture(event.pointerId);
    from = [x, y];
    chosen = { id: "", label: "", x, y, width: 0, height: 0 };
    boxes.push(chosen);
  });
  element.addEventListener("pointermove", (event) => {
    if (!from) return;
    const [x, y] = place(event);
    Object.assign(chosen, { x: Math.min(x, from[0]), y: Math.min(y, from[1]), width: Math.abs(x - from[0]), height: Math.abs(y - from[1]) });
    show();
  });
  element.addEventListener("pointerup", () => {
    if (!from) return;
    from = null;
    drawing = false;
    if (chosen.width < LEAST || chosen.height < LEAST) remove();
    else changed();
  });

  function place(event) {
    const frame = picture.getBoundingClientRect();
    return [within((event.clientX - frame.left) / frame.width), within((event.clientY - frame.top) / frame.height)];
  }

  function show() {
    element.classList.toggle("is-drawing", drawing);
    marks.replaceChildren(...boxes.map((box) => svg("rect", { x: box.x, y: box.y, width: box.width, height: box.height, class: box === chosen ? "is-chosen" : null })));
    names.replaceChildren(...boxes.map((box) => h("span", { style: `left:${100 * box.x}%;top:${100 * box.y}%`, class: box === chosen ? "is-chosen" : null }, box.label || "which label?")));
  }

  function changed() {
    show();
    onchange();
  }

  function choose(box) {
    if (box === chosen) return;
    chosen = box;
    changed();
  }

  function remove() {
    boxes = boxes.filter((box) => box !== chosen);
    chosen = null;
    changed();
  }

  function move([right, down]) {
    chosen.x = within(chosen.x + right, 1 - chosen.width);
    chosen.y = within(chosen.y + down, 1 - chosen.height);
    show();
  }

  return {
    element,
    set(given, mayChange) {
      [boxes, chosen, drawing, editable] = [given.map((box) => ({ ...box })), null, false, mayChange];
      show();
    },
    get: () => boxes.map((box) => ({ ...box })),
    chosen: () => chosen,
    isDrawing: () => drawing,
    draw(on) {
      drawing = on;
      show();
    },
    name(label) {
      chosen.label = label;
      chosen = null;
      show();
    },
    // What a key means for the chosen box, or undefined.
    keyed(event) {
      const key = event.key.toLowerCase();
      if (key === "escape" && (chosen || drawing)) return () => { drawing = false; chosen = null; changed(); };
      if (chosen && ["delete", "backspace"].includes(key)) return remove;
      if (chosen && key in MOVES) return () => move(MOVES[key]);
      return undefined;
    },
  };
}

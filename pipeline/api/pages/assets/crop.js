// A rectangle over a picture that is drawn, moved and resized with the mouse, a finger or the keyboard.
"use strict";
import { h } from "./dom.js";

const SMALLEST = 0.04;
const STEP = 0.02;
const HELP = "Part to search for. Arrow keys move it, with Shift they change its size, Escape takes the whole picture.";

// `stage` is the element around the picture. `onchange` hears [x, y, width, height] in fractions, or null for the whole.
export function cropping(stage, onchange) {
  let rect = null;
  const corners = ["nw", "ne", "sw", "se"].map((corner) => h("span", { class: `corner is-${corner}` }));
  const box = h("div", { class: "crop", tabindex: "0", role: "group", "aria-label": HELP, hidden: true }, corners);
  stage.append(box);

  function show(next) {
    rect = next;
    box.hidden = rect === null;
    const [x, y, width, height] = rect ?? [0, 0, 1, 1];
    const place = { left: x, top: y, width, height };
    for (const [side, share] of Object.entries(place)) box.style[side] = `${100 * share}%`;
  }

  function point(event) {
    const frame = stage.getBoundingClientRect();
    return [clamp((event.clientX - frame.left) / frame.width), clamp((event.clientY - frame.top) / frame.height)];
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (event.pointerType !== "mouse" && !stage.classList.contains("is-cropping"))) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
    const before = rect, start = point(event);
    const drag = dragging(event.target, rect, start);
    const move = (next) => show(drag(point(next)));
    const end = () => {
      stage.removeEventListener("pointermove", move);
      if (rect && (rect[2] < SMALLEST || rect[3] < SMALLEST)) show(before);
      if (rect !== before) onchange(rect);
    };
    stage.addEventListener("pointermove", move);
    stage.addEventListener("lostpointercapture", end, { once: true });
  });

  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return set(null);
    const turn = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!turn) return;
    event.preventDefault();
    show(event.shiftKey ? resized(rect, turn) : moved(rect, turn));
    onchange(rect);
  });

  function set(next) {
    show(next);
    onchange(next);
  }

  return { show, set, focus: () => box.focus() };
}

// What the pointer does that goes down at `start`: resize at a corner, move inside, draw anew elsewhere.
function dragging(target, rect, start) {
  if (rect && target.classList.contains("corner")) {
    const [x, y, width, height] = rect, name = target.className;
    const fixed = [/[ns]w/.test(name) ? x + width : x, /n[we]/.test(name) ? y + height : y];
    return (now) => between(fixed, now);
  }
  if (rect && target.classList.contains("crop")) return (now) => moved(rect, [now[0] - start[0], now[1] - start[1]]);
  return (now) => between(start, now);
}

const clamp = (value, low = 0, high = 1) => Math.min(high, Math.max(low, value));
const between = ([a, b], [c, d]) => [Math.min(a, c), Math.min(b, d), Math.abs(a - c), Math.abs(b - d)];
const moved = ([x, y, w, hh], [dx, dy]) => [clamp(x + dx, 0, 1 - w), clamp(y + dy, 0, 1 - hh), w, hh];
const resized = ([x, y, w, hh], [dx, dy]) => [x, y, clamp(w + dx, SMALLEST, 1 - x), clamp(hh + dy, SMALLEST, 1 - y)];

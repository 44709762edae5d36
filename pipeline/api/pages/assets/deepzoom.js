// A picture that one can go near to: a small rendition at once, and of a huge one the tiles that are in view.
"use strict";
import { h, icon, svg } from "./dom.js";

const CLOSEST = 8;
const KEPT = 160;
const HELP = "Picture. Plus and minus zoom, arrow keys move, 0 shows the whole.";
const COLOURS = 6;

// `source` is {compressed, size, tiles(): {width, height, tile_size, levels}, tile(level, x, y)}: addresses, and what
// GET /image/{id}/tiles says. `size` is the longer side of the compressed rendition at most.
export function viewer(source) {
  const base = h("img", { class: "zoom-base", alt: "", draggable: "false" });
  const marks = svg("svg", { class: "zoom-marks", preserveAspectRatio: "none", "aria-hidden": "true" });
  const world = h("div", { class: "zoom-world" }, base, marks);
  const names = h("div", { class: "zoom-names" });
  const frame = h("div", { class: "zoom-frame", tabindex: "0", role: "group", "aria-label": HELP }, world, names);
  const tool = (symbol, title, onclick) => h("button", { type: "button", title, "aria-label": title, onclick }, icon(symbol));
  const tools = h("div", { class: "zoom-tools" }, tool("add", "Zoom in", () => zoom(2)), tool("remove", "Zoom out", () => zoom(0.5)),
    tool("fit_screen", "Whole picture", fit), tool("fullscreen", "Full screen", () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen())));
  const element = h("div", { class: "zoom" }, frame, tools);
  // The picture is `width` by `height`; one of its pixels is `scale` on the screen, and its corner is at (x, y).
  let width = 0, height = 0, pyramid = null, scale = 1, x = 0, y = 0, fitted = true, boxes = [];
  const tiles = new Map(), pointers = new Map();

  const ready = (async () => {
    base.src = source.compressed;
    await base.decode();
    [width, height] = [base.naturalWidth, base.naturalHeight];
    if (Math.max(width, height) >= source.size) {
      pyramid = await source.tiles();
      ({ width, height } = pyramid);
    }
    Object.assign(world.style, { width: `${width}px`, height: `${height}px` });
    marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    fit();
    mark(boxes);
    new ResizeObserver(() => (fitted ? fit() : place())).observe(frame);
  })();

  const smallest = () => Math.min(frame.clientWidth / width, frame.clientHeight / height, CLOSEST);

  function fit() {
    fitted = true;
    scale = smallest();
    x = (frame.clientWidth - width * scale) / 2;
    y = (frame.clientHeight - height * scale) / 2;
    place();
  }

  // What is at (cx, cy) on the screen stays there.
  function zoom(factor, cx = frame.clientWidth / 2, cy = frame.clientHeight / 2) {
    const next = Math.min(CLOSEST, Math.max(smallest(), scale * factor));
    if (next === smallest()) return fit();
    fitted = false;
    x = cx - ((cx - x) * next) / scale;
    y = cy - ((cy - y) * next) / scale;
    scale = next;
    place();
  }

  function move(dx, dy) {
    fitted = false;
    x += dx;
    y += dy;
    place();
  }

  // Some of the picture is always in view; smaller than the frame it is in the middle.
  const held = (at, size, room) => (size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at)));

  function place() {
    x = held(x, width * scale, frame.clientWidth);
    y = held(y, height * scale, frame.clientHeight);
    world.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    element.dataset.scale = scale.toFixed(3);
    for (const [name, box] of [...names.children].map((one, index) => [one, boxes[index]])) {
      name.style.transform = `translate(${x + box.x * width * scale}px, ${y + box.y * height * scale}px) translateY(-100%)`;
    }
    if (pyramid) fetchTiles();
  }

  function fetchTiles() {
    const level = Math.min(pyramid.levels - 1, pyramid.levels - 1 + Math.ceil(Math.log2(scale * devicePixelRatio)));
    const side = pyramid.tile_size * 2 ** (pyramid.levels - 1 - level);
    // Until one goes nearer, the base shows as much.
    if (Math.max(width, height) * scale * devicePixelRatio <= source.size) return;
    const range = (at, room, size) => [Math.max(0, Math.floor(-at / scale / side)), Math.min(Math.ceil(size / side), Math.ceil((room - at) / scale / side))];
    const [left, right] = range(x, frame.clientWidth, width), [top, bottom] = range(y, frame.clientHeight, height);
    for (let row = top; row < bottom; row++) {
      for (let column = left; column < right; column++) {
        const key = `${level}/${column}/${row}`, tile = tiles.get(key) ?? makeTile(level, column, row, side);
        // What was used last is dropped last.
        tiles.delete(key);
        tiles.set(key, tile);
      }
    }
    for (const [key, tile] of tiles) {
      if (tiles.size <= KEPT) break;
      tile.remove();
      tiles.delete(key);
    }
  }

  function makeTile(level, column, row, side) {
    const tile = h("img", { class: "zoom-tile", alt: "", draggable: "false" });
    const [left, top] = [column * side, row * side];
    Object.assign(tile.style, {
      left: `${left}px`, top: `${top}px`, width: `${Math.min(side, width - left)}px`, height: `${Math.min(side, height - top)}px`, zIndex: level,
    });
    tile.src = source.tile(level, column, row);
    world.append(tile);
    return tile;
  }

  // Boxes in fractions of the picture's width and height, each with a label.
  function mark(next) {
    boxes = next;
    const kinds = [...new Set(boxes.map((box) => box.label))];
    const colour = (box) => `colour-${kinds.indexOf(box.label) % COLOURS}`;
    marks.replaceChildren(...boxes.map((box) => svg("rect", {
      x: box.x * width, y: box.y * height, width: box.width * width, height: box.height * height, class: `outline ${colour(box)}`,
    })));
    names.replaceChildren(...boxes.map((box) => h("span", { class: `zoom-name ${colour(box)}` }, box.label)));
    if (width) place();
  }

  const at = (event) => { const { left, top } = frame.getBoundingClientRect(); return [event.clientX - left, event.clientY - top]; };
  frame.addEventListener("wheel", (event) => { event.preventDefault(); zoom(2 ** (-event.deltaY / 300), ...at(event)); }, { passive: false });
  frame.addEventListener("dblclick", (event) => zoom(2, ...at(event)));
  frame.addEventListener("pointerdown", (event) => { frame.setPointerCapture(event.pointerId); pointers.set(event.pointerId, at(event)); });
  for (const over of ["pointerup", "pointercancel"]) frame.addEventListener(over, (event) => pointers.delete(event.pointerId));
  frame.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId), now = at(event);
    if (!before) return;
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    // Two fingers: the picture stays under both.
    if (other) zoom(Math.hypot(now[0] - other[0], now[1] - other[1]) / Math.hypot(before[0] - other[0], before[1] - other[1]), ...other);
    else move(now[0] - before[0], now[1] - before[1]);
    pointers.set(event.pointerId, now);
  });
  frame.addEventListener("keydown", (event) => {
    const act = {
      "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: fit,
      ArrowLeft: () => move(80, 0), ArrowRight: () => move(-80, 0), ArrowUp: () => move(0, 80), ArrowDown: () => move(0, -80),
    }[event.key];
    if (act && !event.ctrlKey && !event.metaKey) { event.preventDefault(); act(); }
  });

  return { element, ready, mark };
}

// Choosing many images of a grid by mouse, touch and keyboard, and what can be done with all of them.
"use strict";
import { button, each, h, labelInput, nameOf, plural, sure } from "./dom.js";

const KEYS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };

// `tiles` is {id: {image, element}} of what the grid shows, in its order. Viewers can change nothing, so choose nothing.
export function selecting(grid, tiles, facts) {
  const chosen = new Set();
  let anchor = null;
  const label = labelInput({ placeholder: "Label", "aria-label": "Label to add" });
  const count = h("strong", {});
  const result = h("p", { role: "status" });
  const add = h("form", { class: "bar-label" }, label, h("button", { class: "sleeve-button", type: "submit" }, "Add label"));
  const remove = button("Delete", "delete", removeAll, { class: "sleeve-button is-plain is-danger" });
  const actions = h("div", { class: "bar-actions" }, count, add, remove, button("Clear", "close", clear));
  const bar = h("div", { class: "selection-bar", role: "region", "aria-label": "Selection", hidden: true }, actions, result);
  add.addEventListener("submit", (event) => { event.preventDefault(); labelAll(label.value.trim()); });

  const idOf = (node) => node.closest?.(".tile")?.dataset.id;
  const mark = (id, on) => {
    const tile = tiles.get(id)?.element;
    chosen[on ? "add" : "delete"](id);
    tile?.classList.toggle("is-chosen", on);
    if (tile) tile.querySelector(".tick").checked = on;
  };

  function show(told = "") {
    count.textContent = `${chosen.size} selected`;
    result.textContent = told;
    actions.hidden = chosen.size === 0;
    bar.hidden = chosen.size === 0 && !told;
    grid.classList.toggle("is-choosing", chosen.size > 0);
  }

  function clear() {
    for (const id of [...chosen]) mark(id, false);
    anchor = null;
    show();
  }

  // With shift, all from the last one to this.
  function choose(id, reach) {
    const on = !chosen.has(id), ids = [...tiles.keys()];
    const [from, to] = [ids.indexOf(reach && tiles.has(anchor) ? anchor : id), ids.indexOf(id)].sort((a, b) => a - b);
    for (const one of ids.slice(from, to + 1)) mark(one, reach || on);
    anchor = id;
    show();
  }

  grid.addEventListener("click", (event) => {
    const id = idOf(event.target), tick = event.target.classList.contains("tick");
    if (!facts.labels || !id || event.ctrlKey || event.metaKey) return;
    // Once something is chosen, a click chooses more.
    if (!tick && !chosen.size && !event.shiftKey) return;
    if (!tick) event.preventDefault();
    choose(id, event.shiftKey);
  });

  grid.addEventListener("keydown", (event) => {
    const id = idOf(event.target);
    if (!id) return;
    if (KEYS[event.key]) {
      const next = beside(tiles, id, KEYS[event.key]);
      event.preventDefault();
      next?.querySelector("a").focus();
      if (event.shiftKey && next && facts.labels) {
        anchor ??= id;
        mark(id, true);
        mark(next.dataset.id, true);
        show();
      }
    } else if (!facts.labels) return;
    else if (event.key === " " && event.target.tagName === "A") (event.preventDefault(), choose(id, event.shiftKey));
    else if (event.key === "Escape") clear();
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      for (const one of tiles.keys()) mark(one, true);
      show();
    }
  });

  async function forAll(doing, done, work) {
    const ids = [...chosen];
    let ready = 0;
    bar.inert = true;
    const wrong = await each(ids, async (id) => {
      await work(id);
      result.textContent = `${doing} ${++ready} of ${ids.length} …`;
    });
    bar.inert = false;
    for (const id of ids) if (!wrong.some(([failed]) => failed === id)) mark(id, false);
    const why = [...new Set(wrong.map(([id, error]) => `${nameOf(tiles.get(id).image)}: ${error.message}`))].slice(0, 3).join(" ");
    show(`${plural(ids.length - wrong.length, "image")} ${done}.${wrong.length ? ` ${wrong.length} not. ${why}` : ""}`);
  }

  async function labelAll(text) {
    if (!text) return label.focus();
    await forAll("Labelling", `labelled “${text}”`, async (id) => {
      const { image, element } = tiles.get(id);
      const saved = await sleeve.call("POST", "/add_label", { image_id: id, label: text });
      image.labels = saved.labels;
      element.querySelector(".is-labels").textContent = saved.labels.join(", ");
    });
    label.value = "";
  }

  async function removeAll() {
    const many = plural(chosen.size, "image");
    if (!(await sure(`Delete ${many}?`, "They leave the collection and the bucket. This cannot be taken back.", `Delete ${many}`))) return;
    await forAll("Deleting", "deleted", async (id) => {
      await sleeve.call("DELETE", `/image/${id}`);
      tiles.get(id).element.remove();
      tiles.delete(id);
    });
  }

  return { bar, clear, possible: facts.labels };
}

// The tile next to another one, as they stand on the screen.
function beside(tiles, id, way) {
  const all = [...tiles.values()].map((one) => one.element), here = all.findIndex((one) => one.dataset.id === id);
  if (way === "left" || way === "right") return all[here + (way === "left" ? -1 : 1)];
  const from = all[here].getBoundingClientRect();
  const rows = all.map((element) => ({ element, box: element.getBoundingClientRect() }))
    .filter(({ box }) => (way === "down" ? box.top > from.top + 5 : box.top < from.top - 5));
  const distance = ({ box }) => Math.abs(box.top - from.top) * 100 + Math.abs(box.left - from.left);
  return rows.sort((a, b) => distance(a) - distance(b))[0]?.element;
}

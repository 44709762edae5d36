// What the pages about pictures are drawn with. Whatever comes from people goes in as text, never as HTML.
"use strict";
const SVG = "http://www.w3.org/2000/svg";

// An element: attributes that are null, undefined or false are left out, on... are listeners, children may be nested.
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

// A page is a custom element that is filled when the browser meets it; `facts` is what the server knows about the visit.
export function define(tag, build) {
  customElements.define(
    tag,
    class extends HTMLElement {
      connectedCallback() {
        if (this.built) return;
        this.built = true;
        build(this, JSON.parse(this.getAttribute("facts") ?? "{}"));
      }
    },
  );
}

export const icon = (name) => h("i", { class: "material-icons", "aria-hidden": "true" }, name);

export function button(text, symbol, onclick, attributes = {}) {
  return h("button", { type: "button", class: "sleeve-button is-plain", onclick, ...attributes }, icon(symbol), text);
}

export function field(text, input) {
  return h("label", { class: "sleeve-field" }, text, input);
}

// A button that opens the browser's choice of files.
export function chooser(text, symbol, look, attributes, onfiles) {
  const input = h("input", { type: "file", class: "visually-hidden", ...attributes });
  input.addEventListener("change", () => {
    if (input.files.length) onfiles([...input.files]);
    input.value = "";
  });
  return h("label", { class: `sleeve-button ${look}` }, icon(symbol), text, input);
}

// An input that offers the labels of the collection once somebody goes there.
export function labelInput(attributes = {}) {
  const list = h("datalist", { id: "labels" });
  const offer = async () => {
    const counts = await sleeve.call("GET", "/fetch");
    list.replaceChildren(...Object.keys(counts).slice(0, 500).map((label) => h("option", { value: label })));
  };
  const input = h("input", { list: "labels", autocomplete: "off", maxlength: "200", ...attributes });
  input.addEventListener("focus", offer, { once: true });
  document.body.append(list);
  return input;
}

// Files that are dropped anywhere on the page; `zone` shows that they may be.
export function droppable(zone, ondrop) {
  let inside = 0;
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  const show = (change) => zone.classList.toggle("is-over", (inside = Math.max(0, inside + change)) > 0);
  addEventListener("dragenter", (event) => carries(event) && show(1));
  addEventListener("dragleave", (event) => carries(event) && show(-1));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    show(-inside);
    ondrop(event.dataTransfer);
  });
}

export const address = (id, rendition = "thumbnail") => `/image/download/${id}?rendition=${rendition}`;
export const nameOf = (image) => image.original_filename || `Image ${image.id.slice(0, 8)}`;

export function thumbnail(image) {
  return h("img", { src: address(image.id), alt: "", loading: "lazy", decoding: "async" });
}

export const chip = (label) => h("span", { class: "chip" }, label);
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en-GB")} ${count === 1 ? one : many}`;

const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
export const when = (iso) => h("time", { datetime: iso }, MOMENT.format(new Date(iso)));

export function size(bytes) {
  if (bytes < 1 << 10) return `${bytes} bytes`;
  const [unit, name] = bytes < 1 << 20 ? [1 << 10, "KB"] : bytes < 1 << 30 ? [1 << 20, "MB"] : [1 << 30, "GB"];
  return `${(bytes / unit).toFixed(bytes / unit < 10 && bytes % unit ? 1 : 0)} ${name}`;
}

// Say something without a place of its own: at the bottom, for a moment; what went wrong stays until it is dismissed.
export function tell(message, wrong = false) {
  const stays = { timeout: 0, actions: [{ label: "OK", color: "white" }] };
  Quasar.Notify.create({ message, type: wrong ? "negative" : "positive", position: "bottom", ...(wrong ? stays : {}) });
}

// As pipeline.api.pages.shell.empty: what it means that nothing is there, and what to do.
export function empty(symbol, title, hint, ...actions) {
  return h("div", { class: "empty" }, icon(symbol), h("h2", {}, title), h("p", { class: "sleeve-dim" }, hint), actions);
}

// Ask before what cannot be taken back; true if the person is sure.
export function sure(question, consequence, verb) {
  const close = (answer) => () => dialog.close(answer);
  const dialog = h("dialog", { class: "sure", "aria-labelledby": "sure-title" },
    h("h2", { id: "sure-title" }, question), h("p", { class: "sleeve-dim" }, consequence),
    h("div", { class: "choices" }, h("button", { type: "button", class: "sleeve-button is-plain", onclick: close("") }, "Cancel"),
      h("button", { type: "button", class: "sleeve-button is-danger", onclick: close("yes") }, verb)));
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => {
    dialog.remove();
    resolve(dialog.returnValue === "yes");
  }));
}

// Do something for each of many, a few at a time. Returns what went wrong, as [item, error].
export async function each(items, work, atOnce = 4) {
  const waiting = [...items], wrong = [];
  const worker = async () => {
    while (waiting.length) {
      const item = waiting.shift();
      await work(item).catch((error) => wrong.push([item, error]));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return wrong;
}

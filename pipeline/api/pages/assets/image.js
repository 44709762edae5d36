// The Image page: the picture from near, its labels, what is known of it, what is like it, and who decided what.
"use strict";
import { viewer } from "./deepzoom.js";
import { address, button, chip, define, empty, field, h, icon, labelInput, nameOf, plural, size, sure, tell, thumbnail, when } from "./dom.js";

// The longer side of compressed renditions.
const COMPRESSED = 2048;
const STATES = { pending: "Received, not looked at yet", collected: "Looked at, not described yet", featured: "Described, soon searchable", indexed: "Searchable", quarantined: "In quarantine" };
const STAGES = { unlabelled: "Not labelled", labelled: "Labelled, not reviewed", accepted: "Accepted by a reviewer", rejected: "Rejected by a reviewer" };

define("sleeve-image", async (page, facts) => {
  let image = await sleeve.call("GET", `/image/${facts.id}`);
  document.title = `${nameOf(image)} · Sleeve`;
  const changeable = facts.labels && (facts.admin || image.owner === facts.user);
  const zoom = viewer({
    compressed: address(image.id, "compressed"),
    size: COMPRESSED,
    tiles: () => sleeve.call("GET", `/image/${image.id}/tiles`),
    tile: (level, x, y) => `${address(image.id, "tile")}&level=${level}&x=${x}&y=${y}`,
  });
  const usable = image.status !== "quarantined";
  const picture = usable ? zoom.element : empty("report", "This cannot be used", image.reason ?? "");
  if (usable) zoom.mark(facts.boxes);
  const history = h("section", { class: "sleeve-card", "aria-label": "History" });
  const details = h("section", { class: "sleeve-card", "aria-label": "Details" });
  const like = h("div", { class: "image-like" });
  const labels = makeLabels(image, facts, (state) => {
    zoom.mark(state.boxes);
    showHistory(history, image.id);
  });
  page.append(h("h2", { class: "image-name" }, nameOf(image)), h("div", { class: "image" }, picture,
    h("div", { class: "image-side" }, labels, details, actions(image, changeable))), like, history);
  showDetails();
  showHistory(history, image.id);
  const group = await showGroup(like, image);
  if (image.status === "indexed") await showSimilar(like, image, group);

  function showDetails() {
    const rows = {
      State: `${STATES[image.status]}${image.reason ? `: ${image.reason}` : ""}`, Labels: STAGES[image.stage],
      Picture: image.width && `${image.width} × ${image.height} pixels`,
      File: [image.file_size && size(image.file_size), image.file_type?.split("/")[1].toUpperCase()].filter(Boolean).join(", "),
      Added: when(image.upload_date), Changed: when(image.last_modified), Owner: image.owner ?? "nobody",
      Id: h("code", {}, image.id),
    };
    const list = Object.entries(rows).filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
    details.replaceChildren(h("h2", {}, "Details"), h("dl", {}, list), changeable ? settings() : image.private ? h("p", { class: "chips" }, chip("private")) : "");
  }

  function settings() {
    const hidden = h("input", { type: "checkbox", checked: image.private, onchange: () => change({ private: hidden.checked }) });
    const owner = h("input", { value: image.owner ?? "", autocomplete: "off", placeholder: "nobody" });
    const give = h("form", { class: "bar-label" }, field("Owner", owner), h("button", { type: "submit", class: "sleeve-button is-plain" }, "Save"));
    give.addEventListener("submit", (event) => { event.preventDefault(); change({ owner: owner.value.trim() || null }); });
    return h("div", { class: "image-settings" }, h("label", { class: "check" }, hidden, h("span", {}, "Private", h("small", {}, "Only the owner and admins see it"))), facts.admin && give);
  }

  async function change(fields) {
    try {
      image = await sleeve.call("PUT", `/image/${image.id}`, fields);
    } catch (problem) {
      tell(problem.message, true);
    }
    showDetails();
  }
});

// The labels as chips that can be taken away and added to; every change is a decision on the revision that is shown.
function makeLabels(image, facts, ondecided) {
  let state = { labels: image.labels, boxes: facts.boxes, revision: image.revision };
  const chips = h("p", { class: "chips" }), offered = h("p", { class: "chips" }), told = h("p", { role: "status", class: "image-told" });
  const input = labelInput({ placeholder: "Add a label", "aria-label": "Add a label" });
  const form = h("form", { class: "bar-label" }, input, h("button", { type: "submit", class: "sleeve-button is-plain" }, icon("add"), "Add"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (input.value.trim() && (await decide([...state.labels, input.value.trim()]))) input.value = "";
    input.focus();
  });

  async function decide(labels, suggested = false) {
    told.textContent = "";
    try {
      state = await sleeve.call("PUT", `/image/${image.id}/labels`, { labels, boxes: state.boxes, revision: state.revision, suggested });
    } catch (problem) {
      if (problem.status !== 409) return void tell(problem.message, true);
      state = problem.data.current;
      told.textContent = `Not saved. ${whatChanged(state)} What stands now is shown; change it again if it is wrong.`;
    }
    show();
    ondecided(state);
    return !told.textContent;
  }

  function show() {
    const off = (label) => h("button", { type: "button", "aria-label": `Remove ${label}`, title: "Remove", onclick: () => decide(state.labels.filter((one) => one !== label)) }, icon("close"));
    chips.replaceChildren(...(state.labels.length ? state.labels.map((label) => h("span", { class: "chip" }, label, facts.labels && off(label))) : [h("span", { class: "sleeve-dim" }, "No label yet")]));
    for (const offer of [...offered.children]) if (state.labels.includes(offer.dataset.label)) offer.remove();
  }

  async function suggest() {
    const found = await sleeve.call("GET", `/image/${image.id}/suggestions`);
    const offer = ({ label, score }) => h("button", { type: "button", class: "chip is-offer", "data-label": label, onclick: () => decide([...state.labels, label], true) },
      icon("auto_awesome"), label, h("small", {}, `${Math.floor(100 * score)} %`));
    offered.replaceChildren(...found.slice(0, 6).map(offer));
    show();
  }
  show();
  if (facts.labels && image.status === "indexed") suggest();
  return h("section", { class: "sleeve-card image-labels", "aria-label": "Labels" }, h("h2", {}, "Labels"), chips, offered, facts.labels && form, told);
}

function whatChanged(current) {
  const last = current.decisions.at(-1);
  return `${last?.by ?? "Somebody"} changed the labels to ${current.labels.map((label) => `“${label}”`).join(", ") || "none"} meanwhile.`;
}

function actions(image, changeable) {
  async function remove() {
    if (!(await sure("Delete this image?", "It leaves the collection and the bucket. This cannot be taken back.", "Delete"))) return;
    try {
      await sleeve.call("DELETE", `/image/${image.id}`);
      location.assign("/ui/browse");
    } catch (problem) {
      tell(problem.message, true);
    }
  }
  const link = (text, symbol, href, attributes = {}) => h("a", { class: "sleeve-button is-plain", href, ...attributes }, icon(symbol), text);
  return h("div", { class: "image-actions" }, link("Search for a part", "crop", `/ui/search?image=${image.id}&part`),
    link("Download original", "download", address(image.id, "original"), { download: true }),
    changeable && button("Delete", "delete", remove, { class: "sleeve-button is-plain is-danger" }));
}

const strip = (title, tiles) => h("section", { class: "image-strip-of" }, h("h2", {}, title), h("ul", { class: "image-strip sleeve-pictures" }, tiles));

function tile(image, note) {
  return h("li", { class: "tile" }, h("a", { class: "sleeve-picture", href: `/ui/image/${image.id}` }, thumbnail(image),
    h("span", { class: "caption" }, nameOf(image)), h("span", { class: "caption is-labels" }, image.labels.join(", ") || "no label")), note && h("span", { class: "about" }, h("span", {}, note)));
}

// Shows the other near-duplicates, and returns their ids.
async function showGroup(like, image) {
  if (!image.group) return [];
  const { images } = await sleeve.call("GET", `/image/all?${new URLSearchParams({ group: image.group, limit: 24 })}`);
  const others = images.filter((one) => one.id !== image.id);
  if (others.length) like.append(strip("Near-duplicates", others.map((one) => tile(one))));
  return others.map((one) => one.id);
}

async function showSimilar(like, image, group) {
  const asked = new URLSearchParams({ image_id: image.id, detail: "true", top_n: 12 });
  const found = Object.entries(await sleeve.call("POST", `/search?${asked}`)).filter(([id]) => !group.includes(id));
  const tiles = found.map(([id, one]) => tile({ id, ...one }, `${one.mirrored ? "mirrored " : ""}${Math.floor(100 * one.score)} %`));
  if (tiles.length) like.append(strip("Similar pictures", tiles));
}

async function showHistory(section, id) {
  const { decisions } = await sleeve.call("GET", `/image/${id}/history`);
  const items = decisions.map((one) => h("li", {}, h("span", {}, h("strong", {}, one.by), ` ${deed(one)}`), h("span", { class: "sleeve-dim" }, when(one.at)), one.comment && h("q", {}, one.comment)));
  const none = h("p", { class: "sleeve-dim" }, "Nobody has decided on this image yet.");
  section.replaceChildren(h("h2", {}, "History"), items.length ? h("ol", { class: "history" }, items) : none);
}

function deed(one) {
  const labels = one.labels.map((label) => `“${label}”`).join(", ") || "no label";
  const boxes = one.boxes.length ? ` and ${plural(one.boxes.length, "box", "boxes")}` : "";
  if (one.kind === "review") return one.stage === "accepted" ? "accepted the labels" : "rejected the labels";
  if (one.kind === "undo") return `took a decision back: ${labels}${boxes}`;
  if (one.kind === "opinion") return `gave a second opinion: ${labels}${boxes}`;
  return `${one.kind === "import" ? "imported" : one.suggested ? "accepted the suggestion" : "labelled it"} ${labels}${boxes}`;
}

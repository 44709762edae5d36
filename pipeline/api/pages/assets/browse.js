// The Browse page: a grid that grows as one scrolls, page by page behind the last image; filters live in the address.
"use strict";
import { button, define, empty, field, h, icon, labelInput, nameOf, plural, thumbnail } from "./dom.js";
import { selecting } from "./selecting.js";

const PAGE = 60;
const MOST = 200;
const STATUSES = { "": "Any", indexed: "Searchable", pending: "Received", collected: "Looked at", featured: "Described", quarantined: "In quarantine" };
const FILTERS = ["name", "label", "owner", "status", "source", "since", "until"];

define("sleeve-browse", (page, facts) => {
  const groups = new URLSearchParams(location.search).has("duplicates");
  const count = h("p", { role: "status", class: "browse-count" });
  const grid = h("div", { class: "browse-grid" });
  const end = h("div", { class: "browse-end" });
  const filters = groups ? null : makeFilters((push) => { remember(push); restart(); });
  const tiles = new Map();
  const selection = selecting(grid, tiles, facts);
  page.append(h("div", { class: "browse-head" }, views(groups), count), filters?.element ?? "", grid, end, selection.bar);

  let after = null, latest = 0, loading = false, shown = 0;
  const again = history.state?.shown ? history.state : null;
  new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && more(), { rootMargin: "1200px" }).observe(end);
  addEventListener("pagehide", () => history.replaceState({ shown, y: scrollY }, ""));
  if (filters) addEventListener("popstate", () => { filters.read(); restart(); });
  restart(again).then(() => again && scrollTo(0, again.y));

  // Where one was: as many images as were there, and the same place in them.
  async function restart(before) {
    latest += 1;
    after = null;
    shown = 0;
    loading = false;
    tiles.clear();
    selection.clear();
    grid.replaceChildren();
    do await more(true, Math.min(MOST, before?.shown ?? PAGE));
    while (before && after && shown < before.shown);
  }

  async function more(first = false, limit = PAGE) {
    if (loading || (after === null && !first)) return;
    loading = true;
    const mine = latest;
    end.textContent = "Loading …";
    try {
      const wanted = new URLSearchParams({ limit: groups ? 20 : limit, ...filters?.values(), ...(after ? { after } : {}) });
      const found = await sleeve.call("GET", `${groups ? "/duplicates" : "/image/all"}?${wanted}`);
      if (mine !== latest) return;
      after = found.next;
      (groups ? found.groups : [found.images]).forEach(groups ? addGroup : addImages);
      end.textContent = "";
      tellCount();
    } catch (problem) {
      if (mine !== latest) return;
      after = null;
      end.replaceChildren(empty("error_outline", "The images cannot be shown", problem.message));
    } finally {
      if (mine === latest) loading = false;
    }
    // A page that does not fill the window has nothing to be scrolled by.
    if (after && end.getBoundingClientRect().top < innerHeight + 1200) await more();
  }

  function addImages(images) {
    if (!grid.firstChild) grid.append(h("ul", { class: "sleeve-pictures" }));
    grid.firstChild.append(...images.map((image) => put(image)));
    shown += images.length;
  }

  function addGroup(group) {
    shown += 1;
    grid.append(h("section", { class: "group" }, h("h2", {}, plural(group.size, "picture")),
      h("ul", { class: "sleeve-pictures" }, group.images.map((image) => put(image, evidence(image))))));
  }

  function put(image, note) {
    const made = tile(image, note, selection);
    tiles.set(image.id, { image, element: made });
    return made;
  }

  function tellCount() {
    if (shown) count.textContent = `${after ? "The first " : ""}${plural(shown, groups ? "group" : "image")}`;
    else {
      count.textContent = "";
      end.replaceChildren(nothing(groups, filters, facts));
    }
  }

  function remember(push) {
    const query = String(new URLSearchParams(filters.values()));
    history[push ? "pushState" : "replaceState"](null, "", query ? `?${query}` : location.pathname);
  }
});

function views(groups) {
  const view = (text, symbol, query, current) =>
    h("a", { href: `/ui/browse${query}`, class: "view", "aria-current": current && "page" }, icon(symbol), text);
  return h("div", { class: "views" }, view("All images", "grid_view", "", !groups), view("Near-duplicates", "filter_none", "?duplicates=1", groups));
}

function tile(image, note, selection) {
  const name = nameOf(image);
  // What is in quarantine may be no picture at all.
  const picture = image.status === "quarantined" ? h("span", { class: "no-picture" }, icon("report")) : thumbnail(image);
  const about = [image.private && icon("lock"), image.status && image.status !== "indexed" && h("span", {}, STATUSES[image.status])];
  const tick = h("input", { type: "checkbox", class: "tick", "aria-label": `Select ${name}` });
  const link = h("a", { class: "sleeve-picture", href: `/ui/image/${image.id}`, title: image.reason ?? name }, picture,
    h("span", { class: "caption" }, name), h("span", { class: "caption is-labels" }, image.labels.join(", ") || "no label"));
  const made = h("li", { class: "tile", "data-id": image.id }, link, selection.possible && tick,
    h("span", { class: "about" }, about, note && h("span", {}, note)));
  return made;
}

function evidence(image) {
  if (image.copy_of) return "same file";
  const sure = image.score === null ? "" : `${Math.floor(100 * image.score)} %`;
  return image.mirrored ? `mirrored ${sure}` : sure;
}

function nothing(groups, filters, facts) {
  if (groups) return empty("filter_none", "No near-duplicates", "No two pictures show the same. New ones are compared every hour.");
  if (filters.any()) {
    return empty("filter_alt_off", "No image passes these filters", "Take some away, or look at all.",
      h("a", { class: "sleeve-button", href: "/ui/browse" }, "Show all images"));
  }
  const add = facts.labels && h("a", { class: "sleeve-button", href: "/ui/upload" }, "Upload pictures");
  return empty("photo_library", "The collection is empty", "Pictures that are uploaded or imported appear here.", add);
}

// Inputs that say what the address says; `onchange` hears whether that is a new page for the back button.
function makeFilters(onchange) {
  const inputs = {
    name: h("input", { type: "search", autocomplete: "off", maxlength: "200" }),
    label: labelInput(),
    owner: h("input", { autocomplete: "off", maxlength: "200" }),
    status: h("select", {}, Object.entries(STATUSES).map(([value, text]) => h("option", { value }, text))),
    source: h("input", { autocomplete: "off", maxlength: "1000" }),
    since: h("input", { type: "date" }),
    until: h("input", { type: "date" }),
  };
  const titles = { name: "Name begins with", label: "Label", owner: "Owner", status: "State", source: "Source", since: "Added from", until: "Added until" };
  const values = () => Object.fromEntries(FILTERS.map((name) => [name, inputs[name].value.trim()]).filter(([, text]) => text));
  const any = () => Object.keys(values()).length > 0;
  const count = h("span", { class: "count" });
  const clear = h("a", { class: "clear", href: "/ui/browse" }, "Clear filters");
  const fields = FILTERS.map((name) => field(titles[name], inputs[name]));
  const element = h("details", { class: "filters is-row", open: matchMedia("(min-width: 900px)").matches },
    h("summary", {}, icon("tune"), "Filters", count, clear), h("div", { class: "filter-fields" }, fields));

  function show() {
    count.textContent = any() ? Object.keys(values()).length : "";
    clear.hidden = !any();
    // Sources are long; one comes here by a link from an import.
    inputs.source.parentElement.hidden = !inputs.source.value;
  }
  function read() {
    const asked = new URLSearchParams(location.search);
    for (const name of FILTERS) inputs[name].value = asked.get(name) ?? "";
    show();
  }
  let soon;
  inputs.name.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(() => { show(); onchange(false); }, 300); });
  element.addEventListener("change", (event) => event.target !== inputs.name && (show(), onchange(true)));
  read();
  return { element, values, any, read };
}

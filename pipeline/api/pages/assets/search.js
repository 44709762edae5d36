// The Search page: a picture from a file, the clipboard, the camera or the collection; what it shows is drawn over it.
"use strict";
import { cropping } from "./crop.js";
import { address, button, chip, chooser, define, droppable, empty, field, h, icon, labelInput, nameOf, plural, svg, tell, thumbnail } from "./dom.js";

// A search looks at no more than this of a photo's longer side; larger files only take longer to send.
const SIDE = 2400;
const SMALL_ENOUGH = 2 << 20;
const SEARCHABLE = ["image/jpeg", "image/png", "image/webp"];
const COLOURS = 6;
const WORDS = [[0.9, "Very sure"], [0.7, "Quite sure"], [0, "Perhaps"]];
const MIDDLE = [0.25, 0.25, 0.5, 0.5];

define("sleeve-search", (page, facts) => {
  let query = null, crop = null, latest = 0, soon;
  const asked = new URLSearchParams(location.search);

  const status = h("p", { class: "search-status", role: "status" });
  const answers = h("div", { class: "answers" });
  const results = h("section", { class: "search-results", "aria-label": "Answers" }, status, answers);
  const picture = h("img", { class: "query", alt: "The picture to search for" });
  const marks = h("div", { class: "marks", "aria-hidden": "true" });
  const stage = h("div", { class: "stage" }, picture, marks);
  const cropper = cropping(stage, (rect) => {
    crop = rect;
    showTools();
    // An arrow key that is held down is one question.
    clearTimeout(soon);
    soon = setTimeout(again, 250);
  });

  const take = (files) => files.length && useFile(files[0]);
  const zone = h("div", { class: "drop" }, icon("image_search"),
    h("p", { class: "drop-title for-mouse" }, "Drop a picture here"),
    h("p", { class: "drop-title for-touch" }, "Which picture is it?"),
    h("p", { class: "sleeve-dim for-mouse" }, "or paste one with ", h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "V")),
    h("div", { class: "choices" },
      chooser("Take a photo", "photo_camera", "for-touch", { accept: "image/*", capture: "environment" }, take),
      chooser("Choose a picture", "add_photo_alternate", "is-plain", { accept: "image/*" }, take)));
  const part = button("Search for a part", "crop", () => {
    stage.classList.add("is-cropping");
    cropper.set(crop === null ? MIDDLE : null);
    if (crop) cropper.focus();
  });
  const tools = h("div", { class: "tools" }, part, button("Another picture", "restart_alt", reset));
  const filters = makeFilters(again);
  const left = h("section", { class: "search-query", "aria-label": "Picture" }, zone, stage, tools, filters.element);
  page.append(h("div", { class: "search" }, left, results));
  reset();

  droppable(page, (data) => take([...data.files]));
  addEventListener("paste", (event) => take([...event.clipboardData.files]));
  if (asked.has("image")) useImage(asked.get("image"));

  function reset() {
    query = crop = null;
    latest += 1;
    page.classList.add("is-asking");
    cropper.show(null);
    stage.classList.remove("is-cropping");
    status.textContent = "";
    answers.replaceChildren();
    marks.replaceChildren();
  }

  function useFile(file) {
    if (!file.type.startsWith("image/")) return tell(`${file.name} is not a picture.`, true);
    reset();
    show(URL.createObjectURL(file), { file });
    picture.decode().then(again, () => fail(`${file.name} cannot be read here. Save it as JPEG, PNG or WebP.`));
  }

  function useImage(id) {
    reset();
    show(address(id, "compressed"), { id });
    picture.decode().then(() => (asked.has("part") ? part.click() : again()), () => fail("There is no such image in the collection."));
  }

  function show(source, next) {
    if (picture.src.startsWith("blob:")) URL.revokeObjectURL(picture.src);
    picture.src = source;
    query = next;
    page.classList.remove("is-asking");
    showTools();
  }

  function showTools() {
    part.replaceChildren(...(crop ? [icon("crop_free"), "Search for the whole"] : [icon("crop"), "Search for a part"]));
    if (crop === null) stage.classList.remove("is-cropping");
  }

  // Only the latest question counts: an answer that comes after the next question was asked is thrown away.
  async function again() {
    if (query === null) return;
    const mine = ++latest, started = performance.now();
    results.setAttribute("aria-busy", "true");
    status.classList.remove("visually-hidden");
    status.textContent = "Searching …";
    try {
      const found = await ask(query, crop, filters.values());
      if (mine === latest) showAnswers(found, performance.now() - started);
    } catch (problem) {
      if (mine === latest) fail(problem.message);
    }
    if (mine === latest) results.removeAttribute("aria-busy");
  }

  function say(text) {
    status.textContent = text;
  }

  function fail(text) {
    say("");
    marks.replaceChildren();
    answers.replaceChildren(empty("error_outline", "This picture cannot be searched for", text));
    results.removeAttribute("aria-busy");
  }

  function showAnswers(found, took) {
    const all = Object.entries(found).map(([id, answer], index) => ({ id, index, ...answer }));
    marks.replaceChildren(...drawn(all, picture, crop));
    // The page says it larger; screen readers hear it from here.
    status.classList.toggle("visually-hidden", !all.length);
    if (!all.length) {
      say("Not in the collection");
      return answers.replaceChildren(nothing(filters.any(), crop !== null, facts.uploads));
    }
    say(`${plural(all.length, "picture")} found in ${(took / 1000).toFixed(1)} s`);
    answers.replaceChildren(h("ol", { class: "found" }, all.map((answer) => card(answer, page))));
  }
});

async function ask(query, crop, filters) {
  const wanted = new URLSearchParams({ detail: "true", top_n: "20", ...filters });
  if (crop) wanted.set("crop", crop.map((value) => value.toFixed(4)).join());
  if (query.id) {
    wanted.set("image_id", query.id);
    return sleeve.call("POST", `/search?${wanted}`);
  }
  const form = new FormData();
  query.sent ??= await sendable(query.file);
  form.set("file", query.sent, "query");
  return sleeve.call("POST", `/search?${wanted}`, form);
}

// The file, or the same picture smaller, or in a format that the server reads.
async function sendable(file) {
  if (SEARCHABLE.includes(file.type) && file.size <= SMALL_ENOUGH) return file;
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = h("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
}

// Answers are placed in fractions of the longer side of what was searched for: the picture, or the part of it.
function drawn(all, picture, crop) {
  const { naturalWidth: width, naturalHeight: height } = picture;
  const [x, y, wide, tall] = crop ?? [0, 0, 1, 1];
  const longer = Math.max(wide * width, tall * height);
  const place = ([a, b]) => [x * width + a * longer, y * height + b * longer];
  const outlines = all.map((one) => svg("polygon", {
    points: one.polygon.map((point) => place(point).join()).join(" "), class: `outline colour-${one.index % COLOURS}`, "data-of": one.id,
  }));
  const badges = all.map((one) => {
    const [left, top] = place(one.polygon[0].map((_, axis) => one.polygon.reduce((sum, point) => sum + point[axis], 0) / 4));
    const style = `left:${(100 * left) / width}%;top:${(100 * top) / height}%`;
    return h("span", { class: `badge colour-${one.index % COLOURS}`, style }, one.index + 1);
  });
  return [svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none" }, outlines), ...badges];
}

function card(answer, page) {
  const percent = Math.floor(100 * answer.score);
  const word = WORDS.find(([least]) => answer.score >= least)[1];
  const light = (on) => () => page.querySelector(`[data-of="${answer.id}"]`)?.classList.toggle("is-lit", on);
  const listeners = { onmouseenter: light(true), onmouseleave: light(false), onfocusin: light(true), onfocusout: light(false) };
  return h("li", { class: `answer colour-${answer.index % COLOURS}`, ...listeners },
    h("span", { class: "badge" }, answer.index + 1),
    h("a", { class: "answer-picture", href: `/ui/image/${answer.id}`, tabindex: "-1", "aria-hidden": "true" }, thumbnail(answer)),
    h("div", { class: "answer-text" },
      h("h2", {}, h("a", { href: `/ui/image/${answer.id}` }, nameOf(answer))),
      h("p", { class: "sureness" }, h("strong", {}, word), ` ${percent} %`,
        h("span", { class: "bar", "aria-hidden": "true" }, h("span", { style: `width:${percent}%` }))),
      h("p", { class: "sleeve-dim" }, `${plural(answer.inliers, "point")} in the same place`),
      h("p", { class: "chips" }, answer.labels.map(chip),
        answer.mirrored && h("span", { class: "chip is-note" }, icon("flip"), "mirror image")),
      h("a", { class: "more", href: `/ui/search?image=${answer.id}` }, "Search for this one")));
}

function nothing(filtered, part, uploads) {
  const tries = [
    filtered && "Take the filters away: only images that pass them are answers.",
    part && "Search for the whole picture, or draw the part a little larger.",
    "Take the photo closer, sharper, and with less glare.",
    !part && "Draw a rectangle around the thing itself.",
  ];
  const list = h("ul", { class: "tries" }, tries.filter(Boolean).map((text) => h("li", {}, text)));
  const add = uploads && h("a", { class: "sleeve-button", href: "/ui/upload" }, "Add it to the collection");
  return empty("search_off", "Not in the collection", "No image of the collection is on this picture. What may help:", list, add);
}

function makeFilters(onchange) {
  const inputs = {
    label: labelInput(),
    owner: h("input", { autocomplete: "off", maxlength: "200" }),
    since: h("input", { type: "date" }),
    until: h("input", { type: "date" }),
  };
  const values = () => Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value.trim()]).filter(([, text]) => text));
  const any = () => Object.keys(values()).length > 0;
  const count = h("span", { class: "count" });
  const element = h("details", { class: "filters" },
    h("summary", {}, icon("tune"), "Only among some images", count),
    h("div", { class: "filter-fields" }, field("Label", inputs.label), field("Owner", inputs.owner),
      field("Added from", inputs.since), field("Added until", inputs.until)));
  element.addEventListener("change", () => {
    count.textContent = any() ? Object.keys(values()).length : "";
    onchange();
  });
  return { element, values, any };
}

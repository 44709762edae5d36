// The Annotate page: the queue, one image at a time, at the speed of keys. What is decided goes through the REST API,
// each time with the revision that was shown, so that nobody's labels are overwritten.
"use strict";
import { address, button, chip, define, empty, h, icon, nameOf, plural, tell, thumbnail } from "./dom.js";
import { drawing } from "./boxes.js";

const PALETTE = 9;
const MATCHES = 8;
const NEIGHBOURS = 4;
const MODES = { label: "Label", second: "Second opinion", review: "Review" };
const KEYS = {
  label: [["1–9", "label"], ["/", "other label"], ["Space", "save, or accept the suggestion"], ["S", "skip"], ["U", "undo"], ["Q", "unsure"], ["G", "all near-duplicates"], ["B", "draw a box"], ["←", "the one before"]],
  review: [["A", "accept"], ["R", "reject"], ["S", "skip"], ["U", "undo"], ["←", "the one before"]],
};

define("sleeve-annotate", async (page) => {
  let mode = new URLSearchParams(location.search).get("mode") ?? "label";
  if (!(mode in MODES)) mode = "label";
  let task = null, ahead = null, said = null, known = [];
  const before = []; // images that were decided on here, latest last

  const counts = h("p", { class: "annotate-counts sleeve-dim", role: "status" });
  const tabs = h("div", { class: "annotate-modes", role: "group", "aria-label": "What to do" });
  const keys = h("p", { class: "annotate-keys sleeve-dim" });
  const picture = h("img", { class: "annotate-picture", alt: "" });
  const boxes = drawing(picture, () => boxesChanged());
  const side = h("section", { class: "annotate-side", "aria-label": "Decision" });
  const work = h("div", { class: "annotate" }, h("div", { class: "annotate-stage" }, boxes.element), side);
  page.append(h("div", { class: "annotate-bar" }, tabs, counts), work, keys);
  addEventListener("keydown", onKey);
  showTabs();
  known = Object.keys(await sleeve.call("GET", "/fetch"));
  await next();

  // The queue

  function take(but) {
    const query = new URLSearchParams({ mode, ...(but ? { but } : {}) });
    const asked = sleeve.call("GET", `/annotate/next?${query}`).then(({ task: one }) => one && prepared(one));
    asked.catch(() => {}); // whoever awaits it hears of it
    return asked;
  }

  // A task with its suggestions under way, and its picture in the browser's cache.
  function prepared(one) {
    new Image().src = address(one.id, "compressed");
    if (one.mode === "label") {
      one.suggestions = sleeve.call("GET", `/image/${one.id}/suggestions`).catch(() => []);
      if (one.group) one.mates = sleeve.call("GET", `/image/all?group=${one.group}&limit=200`).then(({ images }) => images.length - 1).catch(() => 0);
    }
    return one;
  }

  async function next() {
    const asked = ahead ?? take(task?.id);
    ahead = null;
    try {
      await show(await asked);
    } catch (problem) {
      return void tell(problem.message, true);
    }
    if (task) ahead = take(task.id);
    showCounts();
  }

  async function show(one) {
    task = one;
    work.hidden = keys.hidden = !one;
    page.querySelector(".empty")?.remove();
    if (!one) {
      side.replaceChildren();
      page.append(nothing());
      return;
    }
    const state = one.state ?? { labels: [], boxes: [] };
    said = { labels: [...state.labels], suggestion: null, suggested: false, unsure: false, group: false };
    picture.src = address(one.id, "compressed");
    picture.alt = `The picture to ${mode === "review" ? "review" : "label"}: ${nameOf(one)}`;
    boxes.set(state.boxes, one.mode !== "review");
    showKeys();
    showSide();
    side.setAttribute("aria-busy", "true");
    const suggestions = await (one.suggestions ?? []);
    if (task !== one) return;
    side.removeAttribute("aria-busy");
    said.suggestion = suggestions[0] ?? null;
    showSide();
  }

  async function showCounts() {
    const left = await sleeve.call("GET", "/annotate/counts").catch(() => null);
    if (!left) return;
    const parts = [`${left.unlabelled.toLocaleString("en-GB")} unlabelled`, `${left.uncertain} uncertain`, `${left.disagreeing} in dispute`, `${left.to_review} to review`];
    counts.textContent = parts.join(" · ");
  }

  function nothing() {
    const other = mode === "review" ? "label" : "review";
    return empty("task_alt", "Nothing is left to do here", mode === "review" ? "Whatever others labelled has been reviewed." : "Every picture that you may label has its labels.",
      button(MODES[other], other === "review" ? "rate_review" : "sell", () => switchTo(other)));
  }

  function switchTo(other) {
    [mode, ahead, task] = [other, null, null];
    history.replaceState(null, "", `?mode=${mode}`);
    showTabs();
    next();
  }

  // What is shown of a task

  function showTabs() {
    tabs.replaceChildren(...Object.entries(MODES).map(([name, text]) =>
      h("button", { type: "button", class: "annotate-mode", "aria-pressed": String(name === mode), onclick: () => switchTo(name) }, text)));
  }

  function showKeys() {
    const shown = KEYS[task.mode === "review" ? "review" : "label"];
    keys.replaceChildren(...shown.flatMap(([key, what]) => [h("span", {}, h("kbd", {}, key), ` ${what}`)]));
  }

  function showSide() {
    side.replaceChildren(title(), ...(task.mode === "review" ? reviewing() : labelling()).filter(Boolean));
  }

  function title() {
    const link = h("a", { href: `/ui/image/${task.id}`, target: "_blank" }, nameOf(task));
    return h("div", { class: "annotate-title" }, link, task.mode === "second" && chip("second opinion"), notes());
  }

  function notes() {
    const state = task.state;
    if (!state || state.stage === "unlabelled") return null;
    const who = state.labelled_by ? `Labelled by ${state.labelled_by}` : "Labelled where it came from";
    const review = state.stage === "rejected" ? `, rejected by ${state.reviewed_by}${state.review_comment ? `: ${state.review_comment}` : ""}` : "";
    const why = state.attention === 1 ? ", uncertain" : state.attention === 2 ? ", others disagree" : "";
    return h("p", { class: "sleeve-dim" }, who + review + why);
  }

  function labelling() {
    const chosen = said.labels.map((label) => h("span", { class: "chip" }, label, h("button", { type: "button", "aria-label": `Remove ${label}`, onclick: () => toggle(label) }, icon("close"))));
    const palette = known.slice(0, PALETTE).map((label, number) =>
      h("button", { type: "button", class: "annotate-label", "aria-pressed": String(isChosen(label)), onclick: () => choose(label) }, h("kbd", {}, String(number + 1)), h("span", {}, label)));
    return [
      suggestionCard(),
      h("h2", {}, boxes.chosen() ? "Label of the chosen box" : "Labels"),
      h("p", { class: "chips annotate-chosen" }, ...(chosen.length ? chosen : [h("span", { class: "sleeve-dim" }, "None yet")])),
      h("div", { class: "annotate-palette" }, ...palette),
      searching(),
      h("div", { class: "annotate-options" }, flag("unsure", "Unsure", "Q"), task.group && flag("group", "For all near-duplicates", "G", task.mates), drawButton()),
      h("div", { class: "choices annotate-actions" },
        h("button", { type: "button", class: "sleeve-button", onclick: save }, willAccept() ? "Accept" : "Save", h("kbd", {}, "Space")),
        button("Skip", "skip_next", skip), button("Undo", "undo", undo, { disabled: !before.length })),
    ];
  }

  function suggestionCard() {
    const one = said.suggestion;
    if (!one || task.mode !== "label") return null;
    const pictures = one.neighbours.slice(0, NEIGHBOURS).map(({ id }) => h("a", { href: `/ui/image/${id}`, target: "_blank", "aria-label": "A picture that has this label" }, thumbnail({ id })));
    return h("div", { class: "annotate-suggestion", role: "status" },
      h("p", {}, icon("auto_awesome"), h("strong", {}, one.label), h("small", { class: "sleeve-dim" }, ` ${Math.floor(100 * one.score)} % sure`)), h("div", { class: "annotate-neighbours" }, ...pictures));
  }

  function searching() {
    const list = h("div", { class: "annotate-matches", role: "listbox", "aria-label": "Labels that match", id: "matches" });
    const input = h("input", { placeholder: "Another label", "aria-label": "Another label", autocomplete: "off", maxlength: "200", "aria-controls": "matches" });
    const pick = (label) => { input.value = ""; list.replaceChildren(); input.blur(); choose(label); };
    const matches = () => matching(known, input.value.trim());
    input.addEventListener("input", () => {
      const typed = input.value.trim(), found = typed ? matches() : [];
      const offers = found.map((label) => h("button", { type: "button", role: "option", "aria-selected": "false", onclick: () => pick(label) }, label));
      if (typed && !known.includes(typed)) offers.push(h("button", { type: "button", role: "option", "aria-selected": "false", onclick: () => pick(typed) }, `New label “${typed}”`));
      list.replaceChildren(...offers);
    });
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") input.blur();
      if (event.key !== "Enter" || !input.value.trim()) return;
      event.preventDefault();
      pick(matches()[0] ?? input.value.trim());
    });
    return h("div", { class: "annotate-search" }, h("label", { class: "annotate-field" }, h("kbd", {}, "/"), input), list);
  }

  function flag(name, text, key, count) {
    const input = h("input", { type: "checkbox", checked: said[name], onchange: () => { said[name] = input.checked; } });
    const label = h("span", {}, text);
    count?.then((mates) => { label.textContent = `${text} (${plural(mates, "other")})`; });
    return h("label", { class: "check", "data-flag": name }, input, label, h("kbd", {}, key));
  }

  function drawButton() {
    return h("button", { type: "button", class: "sleeve-button is-plain", "aria-pressed": String(boxes.isDrawing()), onclick: draw }, icon("crop_free"), "Draw a box", h("kbd", {}, "B"));
  }

  function reviewing() {
    const comment = h("input", { "aria-label": "Comment", placeholder: "Comment, for whoever labelled it", maxlength: "2000", id: "comment" });
    comment.addEventListener("keydown", (event) => event.key === "Enter" && review(false));
    return [
      h("h2", {}, "Labels"),
      h("p", { class: "chips annotate-chosen" }, ...(said.labels.length ? said.labels.map(chip) : [h("span", { class: "sleeve-dim" }, "None, but boxes")])),
      h("label", { class: "annotate-field" }, comment),
      h("div", { class: "choices annotate-actions" },
        h("button", { type: "button", class: "sleeve-button", onclick: () => review(true) }, "Accept", h("kbd", {}, "A")),
        h("button", { type: "button", class: "sleeve-button is-plain is-danger", onclick: () => review(false) }, "Reject", h("kbd", {}, "R")), button("Skip", "skip_next", skip)),
    ];
  }

  // Deciding

  function isChosen(label) {
    return boxes.chosen() ? boxes.chosen().label === label : said.labels.includes(label);
  }

  function willAccept() {
    return !said.labels.length && !boxes.get().length && said.suggestion !== null;
  }

  function choose(label) {
    if (!known.includes(label)) known.push(label);
    if (boxes.chosen()) boxes.name(label);
    else toggle(label);
    showSide();
  }

  function toggle(label) {
    said.labels = said.labels.includes(label) ? said.labels.filter((one) => one !== label) : [...said.labels, label];
    showSide();
  }

  function boxesChanged() {
    if (task) showSide();
  }

  function draw() {
    boxes.draw(!boxes.isDrawing());
    showSide();
  }

  async function save() {
    const accepts = willAccept();
    const drawn = boxes.get();
    if (drawn.some((box) => !box.label)) return tell("A box has no label yet: choose it, then a label.", true);
    if (!accepts && !said.labels.length && !drawn.length) return tell("Choose a label first, or skip the picture.", true);
    const labels = accepts ? [said.suggestion.label] : said.labels;
    await decide("PUT", "labels", { labels, boxes: drawn, suggested: accepts, unsure: said.unsure, group: said.group, opinion: task.mode === "second" });
  }

  async function review(accept) {
    const comment = page.querySelector("#comment")?.value.trim() || null;
    await decide("POST", "review", { accept, comment });
  }

  async function decide(method, what, body) {
    const one = task;
    try {
      const state = await sleeve.call(method, `/image/${one.id}/${what}`, { ...body, revision: one.revision });
      before.push({ ...one, state, revision: state.revision });
      if (state.conflicts.length) tell(`${plural(state.conflicts.length, "near-duplicate")} kept the labels that others gave.`, true);
    } catch (problem) {
      return problem.status === 409 ? resolve(problem.data.current, body) : tell(problem.message, true);
    }
    await next();
  }

  // Somebody else decided meanwhile: show both, and let the person say what should stand.
  function resolve(current, body) {
    const theirs = current.labels, mine = body.labels ?? theirs;
    const who = [...new Set(current.decisions.map((decision) => decision.by))].join(", ") || "Somebody";
    const again = (labels, kept) => () => {
      Object.assign(task, { revision: current.revision, state: { ...task.state, ...current } });
      if (labels === theirs) return void next();
      decide("PUT", "labels", { ...body, labels, boxes: kept });
    };
    const both = [...new Set([...theirs, ...mine])], boxesOfBoth = [...current.boxes, ...(body.boxes ?? []).filter((box) => !current.boxes.some((other) => other.id === box.id))];
    side.replaceChildren(title(), h("div", { class: "annotate-conflict", role: "alert" },
      h("h2", {}, `${who} decided on this picture meanwhile`),
      h("p", {}, "Nothing was saved. Before: ", list(current.before.labels), " Theirs: ", list(theirs), " Yours: ", list(mine)),
      h("div", { class: "choices" }, button("Keep theirs", "person", again(theirs)), button("Keep both", "merge", again(both, boxesOfBoth)), button("Save mine", "save", again(mine, body.boxes)))));
  }

  function list(labels) {
    return h("span", { class: "chips" }, ...(labels.length ? labels.map(chip) : [h("span", { class: "sleeve-dim" }, "none")]));
  }

  async function skip() {
    try {
      await sleeve.call("POST", `/image/${task.id}/skip`);
      await next();
    } catch (problem) {
      tell(problem.message, true);
    }
  }

  async function undo() {
    const last = before.pop();
    if (!last) return tell("There is nothing to undo on this page.", true);
    try {
      const state = await sleeve.call("POST", `/image/${last.id}/undo`);
      ahead = task && task.id !== last.id ? Promise.resolve(task) : ahead;
      await show(prepared({ ...last, state, revision: state.revision }));
      showCounts();
    } catch (problem) {
      tell(problem.message, true);
    }
  }

  async function back() {
    const last = before.pop();
    if (!last) return;
    ahead = Promise.resolve(task);
    await show(prepared({ ...last }));
  }

  // Keys

  function onKey(event) {
    if (!task || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
    const act = keyed(event);
    if (!act) return;
    // A button that has the focus is pressed by Space anyway; only what is meant for the page is taken.
    if (event.key === " " && event.target.matches("button, a, summary")) return;
    event.preventDefault();
    act();
  }

  function keyed(event) {
    const key = event.key.toLowerCase(), common = { s: skip, u: undo, arrowleft: back };
    if (key in common && !boxes.chosen()) return common[key];
    if (task.mode === "review") return { a: () => review(true), r: () => page.querySelector("#comment").focus() }[key];
    if (/^[1-9]$/.test(key)) return known[key - 1] === undefined ? null : () => choose(known[key - 1]);
    const switched = (name) => () => { const input = side.querySelector(`[data-flag=${name}] input`); if (input) input.click(); };
    return { " ": save, enter: save, "/": () => side.querySelector(".annotate-search input").focus(), q: switched("unsure"), g: switched("group"), b: draw }[key] ?? boxes.keyed(event);
  }
});

// Labels with a word that begins as typed, those first that come first in `known`.
export function matching(known, typed) {
  const start = ` ${typed.toLocaleLowerCase()}`;
  return known.filter((label) => ` ${label.toLocaleLowerCase()}`.includes(start)).slice(0, MATCHES);
}

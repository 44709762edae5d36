// The Upload page: files are sent three at a time, and each says how far it is until it can be searched for.
"use strict";
import { button, chooser, define, droppable, field, h, icon, labelInput, plural, size, thumbnail } from "./dom.js";

const AT_ONCE = 3;
const PATIENCE = 1500;
const PICTURE = /\.(jpe?g|png|webp)$/i;
const ARCHIVE = /\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$/i;
const KEPT = "sleeve-uploads";
// What a status of the catalogue means to who waits for it.
const STEPS = { pending: "Received", collected: "Looked at", featured: "Described, soon searchable", indexed: "Searchable" };
const SETTLED = new Set(["indexed", "quarantined", "deleted"]);

define("sleeve-upload", (page, facts) => {
  const rows = [];
  const label = labelInput();
  const hidden = h("input", { type: "checkbox" });
  const summary = h("p", { role: "status" });
  const retry = button("Try again", "refresh", () => rows.filter((row) => row.state === "refused" && row.file).forEach(queue));
  const clear = button("Clear what is done", "done_all", () => rows.filter(isOver).forEach(forget));
  const head = h("div", { class: "uploads-head", hidden: true }, summary, retry, clear);
  const list = h("ul", { class: "uploads" });

  const add = (files) => addAll(files.map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  const zone = h("div", { class: "drop" }, icon("cloud_upload"),
    h("p", { class: "drop-title for-mouse" }, "Drop pictures, folders or archives here"),
    h("p", { class: "drop-title for-touch" }, "Add pictures to the collection"),
    h("p", { class: "sleeve-dim" }, `JPEG, PNG or WebP up to ${size(facts.picture_bytes)}; zip or tar up to ${size(facts.archive_bytes)}`),
    h("div", { class: "choices" },
      chooser("Take a photo", "photo_camera", "for-touch", { accept: "image/*", capture: "environment" }, add),
      chooser("Choose files", "add_photo_alternate", "is-plain", { multiple: true, accept: "image/*,.zip,.tar,.tgz,.gz,.bz2,.xz" }, add),
      chooser("Choose a folder", "create_new_folder", "is-plain for-mouse", { webkitdirectory: true }, add)));
  const options = h("div", { class: "upload-options" },
    field("Label for what you add next", label),
    h("label", { class: "check" }, hidden, h("span", {}, "Private", h("small", {}, "Only you and admins see it"))),
    h("p", { class: "sleeve-dim" }, "Without a label, folders inside a folder or an archive give theirs."));
  page.append(zone, options, head, list);

  droppable(page, async (data) => addAll(await walk(data)));
  addEventListener("paste", (event) => add([...event.clipboardData.files]));
  addEventListener("beforeunload", (event) => rows.some((row) => row.file && !isOver(row) && !row.ids.length) && event.preventDefault());

  function addAll(found) {
    for (const { file, path } of found) {
      const parts = path.split("/");
      // What a folder holds beside pictures (thumbnails of the system, notes) was not meant.
      if (parts.length > 1 && !PICTURE.test(path) && !ARCHIVE.test(path)) continue;
      const row = make({ name: path, file, label: label.value.trim() || (parts.length > 2 ? parts.at(-2) : ""), hidden: hidden.checked });
      const limit = ARCHIVE.test(path) ? facts.archive_bytes : facts.picture_bytes;
      if (file.size > limit) refuse(row, `It has ${size(file.size)}; ${size(limit)} is the most.`);
      else if (!ARCHIVE.test(path) && !PICTURE.test(path)) refuse(row, "Sleeve reads JPEG, PNG and WebP, and archives of them.");
      else queue(row);
    }
  }

  // A row of the list; one picture, or an archive with many ids.
  function make(fields) {
    const row = { state: "queued", ids: [], statuses: {}, refused: [], reason: "", ...fields };
    row.show = line(row, { cancel: () => cancel(row), again: () => queue(row) });
    rows.push(row);
    list.append(row.show.element);
    return row;
  }

  function queue(row) {
    settle(row, "queued");
    next();
  }

  // For good: the same file would be refused again.
  function refuse(row, reason) {
    row.file = null;
    settle(row, "refused", reason);
  }

  function settle(row, state, reason = "") {
    Object.assign(row, { state, reason });
    row.show.update();
    tellHow();
  }

  function next() {
    const free = AT_ONCE - rows.filter((row) => row.state === "sending").length;
    rows.filter((row) => row.state === "queued").slice(0, Math.max(0, free)).forEach(send);
  }

  function send(row) {
    const many = ARCHIVE.test(row.name), form = new FormData();
    if (row.label) form.set("label", row.label);
    form.set("private", row.hidden);
    form.set(many ? "files" : "file", row.file, row.file.name);
    const request = (row.request = new XMLHttpRequest());
    request.upload.onprogress = (event) => { row.sent = event.loaded / event.total; row.show.update(); };
    request.responseType = "json";
    request.onload = () => answered(row, request);
    request.onerror = () => settle(row, "refused", "The connection broke. Try again.");
    request.onloadend = next;
    request.open("POST", many ? "/bulk_upload" : "/image/upload");
    row.sent = 0;
    settle(row, "sending");
    request.send(form);
  }

  function answered(row, request) {
    const answer = request.response ?? {};
    if ([413, 422].includes(request.status)) return refuse(row, `Not usable: ${answer.detail}`);
    if (request.status >= 400) return settle(row, "refused", answer.detail ?? "The server could not take it. Try again.");
    row.ids = answer.accepted ? answer.accepted.map((one) => one.id) : [answer.id];
    row.refused = answer.refused ?? [];
    row.statuses = Object.fromEntries(row.ids.map((id) => [id, { status: answer.status ?? "pending" }]));
    // The picture is with the server now; the browser need not hold it.
    row.file = null;
    settle(row, row.ids.length ? "sent" : "refused", row.ids.length ? "" : "Nothing in it could be used.");
    remember();
    ask();
  }

  function cancel(row) {
    row.request?.abort();
    forget(row);
    next();
  }

  function forget(row) {
    rows.splice(rows.indexOf(row), 1);
    row.show.element.remove();
    remember();
    tellHow();
  }

  // All pictures that are on their way, in one question; and again a moment after its answer.
  let waiting = false;
  function ask() {
    const ids = rows.flatMap(pending);
    if (waiting || !ids.length) return;
    waiting = true;
    page.dispatchEvent(new CustomEvent("ask", { detail: ids }));
    // An answer that is lost with its connection must not be the end of it.
    setTimeout(() => { waiting = false; ask(); }, PATIENCE);
  }
  page.told = (found) => {
    for (const row of rows) {
      const news = row.ids.filter((id) => found[id]);
      for (const id of news) row.statuses[id] = found[id];
      if (news.length) row.show.update();
    }
    tellHow();
  };

  function tellHow() {
    const of = (test) => rows.filter(test).length;
    const parts = [
      [of((row) => ["queued", "sending"].includes(row.state)), "to send"], [of((row) => pending(row).length), "on the way"],
      [of((row) => row.state === "sent" && !pending(row).length && !problems(row)), "searchable"], [of(problems), "refused"],
    ];
    summary.textContent = parts.filter(([count]) => count).map(([count, what]) => `${count} ${what}`).join(" · ");
    head.hidden = !rows.length;
    retry.hidden = !rows.some((row) => row.state === "refused" && row.file);
    clear.hidden = !rows.some(isOver);
  }

  // A reload shows again what was sent from this tab.
  function remember() {
    const sent = rows.filter((row) => row.ids.length).map(({ name, ids, refused, statuses }) => ({ name, ids, refused, statuses }));
    try {
      sessionStorage.setItem(KEPT, JSON.stringify(sent));
    } catch (full) {
      if (full.name !== "QuotaExceededError") throw full;
    }
  }
  for (const kept of JSON.parse(sessionStorage.getItem(KEPT) ?? "[]")) make({ ...kept, state: "sent" }).show.update();
  tellHow();
  ask();
});

const pending = (row) => row.ids.filter((id) => !SETTLED.has(row.statuses[id]?.status));
const unusable = (row) => row.ids.filter((id) => ["quarantined", "deleted"].includes(row.statuses[id]?.status));
const problems = (row) => row.state === "refused" || unusable(row).length > 0;
const isOver = (row) => row.state === "refused" || (row.state === "sent" && !pending(row).length);

// What the list shows of a row; `update` changes only what changed.
function line(row, { cancel, again }) {
  const picture = h("div", { class: "upload-picture" }, icon(ARCHIVE.test(row.name) ? "folder_zip" : "image"));
  const state = h("p", { class: "upload-state" });
  const bar = h("progress", { max: "1", "aria-label": `Sending ${row.name}` });
  const link = h("span", {}, row.name);
  const stop = button("", "close", cancel, { "aria-label": `Cancel ${row.name}`, title: "Cancel" });
  const repeat = button("", "refresh", again, { "aria-label": `Send ${row.name} again`, title: "Send again" });
  const more = h("details", { hidden: true }, h("summary", {}), h("ul", {}));
  const element = h("li", { class: "upload" }, picture, h("div", { class: "upload-text" },
    h("h2", {}, link, row.label && h("span", { class: "chip" }, row.label), row.hidden && h("span", { class: "chip is-note" }, icon("lock"), "private")),
    state, bar, more), h("div", { class: "upload-buttons" }, repeat, stop));

  function update() {
    const sending = row.state === "sending";
    element.className = `upload is-${problems(row) ? "wrong" : isOver(row) ? "done" : "going"}`;
    state.textContent = sentence(row);
    bar.hidden = !sending;
    if (sending) bar.value = row.sent;
    stop.hidden = !["sending", "queued"].includes(row.state);
    repeat.hidden = row.state !== "refused" || !row.file;
    if (row.ids.length === 1 && !row.refused.length && link.isConnected) {
      link.replaceWith(h("a", { href: `/ui/image/${row.ids[0]}` }, row.name));
      picture.replaceChildren(thumbnail({ id: row.ids[0] }));
    }
    if (more.hidden && row.refused.length) {
      more.hidden = false;
      more.firstChild.textContent = `${plural(row.refused.length, "file")} refused`;
      more.lastChild.append(...row.refused.map((one) => h("li", {}, h("strong", {}, one.name), `: ${one.reason}`)));
    }
  }
  return { element, update };
}

function sentence(row) {
  if (row.state === "queued") return "Waiting to be sent";
  if (row.state === "sending") return row.sent < 1 ? `Sending, ${Math.floor(100 * row.sent)} %` : "Being looked at";
  if (row.state === "refused") return row.reason;
  if (row.ids.length === 1) {
    const { status, reason } = row.statuses[row.ids[0]];
    return STEPS[status] ?? (reason ? `Not usable: ${reason}` : "Deleted");
  }
  const done = row.ids.filter((id) => row.statuses[id]?.status === "indexed").length, bad = unusable(row).length;
  return `${done.toLocaleString("en-GB")} of ${plural(row.ids.length, "picture")} searchable${bad ? `, ${bad} not usable` : ""}`;
}

// The files that were dropped, those in folders too, with their paths.
async function walk(data) {
  const entries = [...data.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const found = [];
  while (entries.length) {
    const entry = entries.shift();
    if (entry.isFile) {
      found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path: entry.fullPath.slice(1) });
    } else {
      const reader = entry.createReader();
      // A reader gives a hundred entries at a time, and none at the end.
      for (let some; (some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject))).length; ) entries.push(...some);
    }
  }
  return found;
}

// What pages need in the browser beside what NiceGUI brings: the theme, and requests to the REST API with the cookie.
"use strict";
const sleeve = {
  // Light, dark, or as the system has it; remembered in this browser.
  theme(name) {
    localStorage.setItem("sleeve-theme", name);
    Quasar.Dark.set({ light: false, dark: true }[name] ?? "auto");
  },
  // The answer of a REST route; throws an Error with the problem's sentence.
  async call(method, path, body) {
    const json = body !== undefined && !(body instanceof FormData);
    const answer = await fetch(path, {
      method,
      headers: json ? { "Content-Type": "application/json" } : {},
      body: json ? JSON.stringify(body) : body,
    });
    const text = await answer.text();
    const data = text ? JSON.parse(text) : null;
    if (!answer.ok) throw Object.assign(new Error(data?.detail ?? answer.statusText), { status: answer.status, data });
    return data;
  },
  // The same as a value that Python can be given: {data} or {problem, status}.
  async answer(method, path, body) {
    try {
      return { data: await sleeve.call(method, path, body) };
    } catch (error) {
      return { problem: error.message, status: error.status ?? 0 };
    }
  },
  async signOut() {
    await sleeve.call("DELETE", "/session");
    location.assign("/ui/sign-in");
  },
};
addEventListener("load", () => {
  const wait = setInterval(() => {
    if (!window.Quasar?.Dark?.set || !document.querySelector("#app, .q-layout")) return;
    clearInterval(wait);
    const name = localStorage.getItem("sleeve-theme");
    if (name) sleeve.theme(name);
  }, 20);
});

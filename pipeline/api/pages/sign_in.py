"""Sign in, and sign up where that is open. The form speaks to the REST API, which gives the browser its cookie."""

from fastapi import Request
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.responses import RedirectResponse, Response

from pipeline.accounts.users import MIN_PASSWORD
from pipeline.api.pages.shell import SIGN_IN, dress

FORM = """
<form class="sleeve-card" id="sign">
  <h1 class="sleeve-title" style="margin:0">{title}</h1>
  <p class="sleeve-dim" style="margin:0">{hint}</p>
  <label class="sleeve-field">Name<input name="name" autocomplete="username" required autofocus></label>
  <label class="sleeve-field">Password
    <input name="password" type="password" autocomplete="{autocomplete}" required minlength="{minimum}"></label>
  <p class="sleeve-error" role="alert"></p>
  <button class="sleeve-button" type="submit">{title}</button>
  {other}
</form>
"""
# Only a path of ours may follow; whatever else is in `next` would send people to a site that looks like ours.
SEND = """
document.getElementById("sign").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target, error = form.querySelector(".sleeve-error"), button = form.querySelector("button");
  const fields = { name: form.name.value, password: form.password.value };
  error.textContent = "";
  button.disabled = true;
  try {
    if (location.pathname.endsWith("/sign-up")) await sleeve.call("POST", "/signup", fields);
    await sleeve.call("POST", "/session", fields);
    const next = new URLSearchParams(location.search).get("next") ?? "/";
    location.assign("/ui" + (/^[/](?![/\\\\])/.test(next) ? next : "/"));
  } catch (problem) {
    error.textContent = problem.message;
    button.disabled = false;
  }
});
"""


@ui.page(SIGN_IN, title="Sign in · Sleeve")
def sign_in() -> None:
    open_to_all = nicegui_app.state.sleeve.settings.signup_role != "closed"
    other = '<a href="/ui/sign-up">Make an account</a>' if open_to_all else ""
    _form("Sign in", "Your images, searchable from a snapshot.", "current-password", 1, other)


@ui.page("/sign-up", title="Sign up · Sleeve")
def sign_up(request: Request) -> Response | None:
    if nicegui_app.state.sleeve.settings.signup_role == "closed":
        return RedirectResponse(str(request.url_for(sign_in.__name__)))
    hint = f"A password has at least {MIN_PASSWORD} characters; a few words make a good one."
    _form("Sign up", hint, "new-password", MIN_PASSWORD, '<a href="/ui/sign-in">I have an account</a>')
    return None


def _form(title: str, hint: str, autocomplete: str, minimum: int, other: str) -> None:
    dress()
    with ui.element("div").classes("sleeve-sign"):
        texts = {"title": title, "hint": hint, "autocomplete": autocomplete, "minimum": minimum, "other": other}
        ui.html(FORM.format(**texts), sanitize=False)
    ui.add_body_html(f"<script>addEventListener('load', () => setTimeout(() => {{{SEND}}}, 0))</script>")

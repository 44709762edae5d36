"""Pages that the browser draws from the REST API: a custom element `sleeve-<name>`, made by `assets/<name>.js`."""

import json
from typing import Any

from nicegui import ui


def draw(name: str, **facts: Any) -> ui.element:
    """The element of a page; its script finds the facts as JSON."""
    ui.add_head_html('<link rel="stylesheet" href="/ui/assets/pictures.css">')
    ui.add_head_html(f'<script type="module" src="/ui/assets/{name}.js"></script>')
    element = ui.element(f"sleeve-{name}")
    element.props["facts"] = json.dumps(facts)
    return element

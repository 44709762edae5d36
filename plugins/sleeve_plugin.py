"""Sleeve in the navigation of the Airflow UI."""

from airflow.plugins_manager import AirflowPlugin

from links import page


class SleevePlugin(AirflowPlugin):
    """Entries that open Sleeve's pages in a window of their own: embedded, a page could not keep anybody signed in."""

    name = "sleeve"

    @classmethod
    def on_load(cls, *args: object, **kwargs: object) -> None:
        # Read here, so that parsing a DAG, which loads no plugin, stays light.
        if not page("/"):
            return
        look = {"destination": "nav", "icon": page("/assets/favicon.svg")}
        cls.external_views = [
            {"name": "Sleeve", "href": page("/"), "nav_top_level": True, **look},
            {"name": "Annotate", "href": page("/annotate"), "category": "Sleeve", **look},
            {"name": "Quarantine", "href": page("/quarantine"), "category": "Sleeve", **look},
        ]

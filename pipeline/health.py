"""Whether the servers that Sleeve needs answer."""

from collections.abc import Callable

from pipeline.context import Context
from pipeline.errors import MissingSetting
from pipeline.settings import Settings
from pipeline.sources.kafka import consumer_lag

START = "make up"


def problems(context: Context) -> dict[str, str]:
    """What each server that does not answer says, by its name. Takes seconds when one is down."""
    checks: dict[str, Callable[[], object]] = {
        "catalogue": context.catalog.ping,
        "image bucket": lambda: context.objects.ping(context.settings.require("s3_bucket")),
        "artefact bucket": lambda: context.objects.ping(context.settings.sleeve_bucket),
    }
    if context.settings.kafka_bootstrap_servers:
        checks["kafka"] = lambda: consumer_lag(context.settings)
    found = {}
    for name, check in checks.items():
        try:
            check()
        except Exception as error:
            # Each client has its own errors, and whatever it is, the server is not usable.
            found[name] = str(error).splitlines()[0]
    return found


def unreachable(settings: Settings) -> list[tuple[str, str, str]]:
    """(what, why, command) for `sleeve doctor`."""
    try:
        settings.require("mongodb_uri")
    except MissingSetting as error:
        return [("servers", str(error), START)]
    return [(name, why, START) for name, why in problems(Context(settings)).items()]

"""Health check of a container: `healthy.py URL [COMPONENT]`.

Exit status 0 when URL answers 200 and, where a COMPONENT is named, Airflow's health report at URL calls it healthy.
`airflow jobs check` would tell as much, but takes five seconds of a core each time.
"""

import json
import sys
from urllib.request import urlopen


def main(url: str, component: str | None = None) -> None:
    with urlopen(url, timeout=5) as answer:
        report = answer.read()
    if component:
        status = json.loads(report)[component]["status"]
        if status != "healthy":
            sys.exit(f"Airflow reports {component} as {status}")


main(*sys.argv[1:])

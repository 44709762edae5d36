#!/bin/sh
# Before Airflow starts: the database, the password of the first user, the pools. May run again at any time.
set -eu

airflow db migrate

python - <<'PYTHON'
import json
import os
from pathlib import Path

user = os.environ["AIRFLOW_USERNAME"]
file = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
file.touch(mode=0o600)
file.write_text(json.dumps({user: os.environ["AIRFLOW_PASSWORD"]}))
PYTHON

# Slots that somebody has changed in the UI stay as they are, so the pools are made once only.
if ! airflow pools get cpu >/dev/null 2>&1; then
    cat >/tmp/pools.json <<JSON
{
  "cpu": {"slots": $(nproc), "description": "Tasks that keep a core busy: one slot for each core."},
  "index": {"slots": 1, "description": "Tasks that change the index: one at a time."}
}
JSON
    airflow pools import /tmp/pools.json
fi

"""What the DAGs share: assets, which show the lineage in the Airflow UI and ring the doorbells; retries; pools."""

from datetime import timedelta

from airflow.sdk import Asset, AssetWatcher

from triggers.backlog import BacklogTrigger

INGEST_BELL = Asset(
    "sleeve://doorbell/ingest",
    watchers=[AssetWatcher(name="ingest_backlog", trigger=BacklogTrigger(backlog="ingest"))],
)
REBUILD_BELL = Asset(
    "sleeve://doorbell/rebuild",
    watchers=[
        AssetWatcher(name="rebuild_backlog", trigger=BacklogTrigger(backlog="rebuild", poll=60.0, ring_again=3600.0))
    ],
)
CATALOG = Asset("sleeve://catalog/images")
SEGMENTS = Asset("sleeve://segments")
INDEX = Asset("sleeve://index/current")


# Steps may run twice at any point, so a retry is always safe.
DEFAULT_ARGS = {
    "owner": "sleeve",
    "retries": 4,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(hours=2),
}
# Pools, made when the servers are set up. COMPUTE has a slot for each core; INDEX has one, as indexing uses all cores
# and the most memory.
COMPUTE_POOL = "cpu"
INDEX_POOL = "index"

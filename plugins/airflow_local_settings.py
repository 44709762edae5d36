"""Airflow imports this file in each of its processes, before anything else of ours.

Tasks run in forks of the scheduler (LocalExecutor) or of a Celery worker. What those have imported already, a task does
not import again: that saves more than half a second in every task, and they share the memory.
"""

import sys

if {"scheduler", "worker"} & set(sys.argv):
    import pipeline.indexing
    import pipeline.ingest
    import pipeline.sources.kafka  # noqa: F401

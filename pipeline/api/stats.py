"""GET /stats: how the collection and the pipeline are doing."""

from fastapi import APIRouter, Request

from pipeline.api.access import Viewer
from pipeline.api.problems import documented
from pipeline.overview import Stats, stats

router = APIRouter(tags=["index"])


@router.get("/stats", responses=documented(401, 403))
def read_stats(request: Request, user: Viewer) -> Stats:
    """Images by status, what waits, throughput and freshness, the current generation, why images are in quarantine.

    The figures are those of the whole collection, some seconds old at most.
    """
    state = request.app.state
    return stats(state.context, state.reader.manifest)

"""GET /metrics: for Prometheus."""

import secrets

from fastapi import APIRouter, Depends, FastAPI, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from pipeline.api.access import Bearer, Cookie, require, signed_in
from pipeline.api.problems import documented
from pipeline.metrics import Metrics, Requests
from pipeline.overview import figures

router = APIRouter(tags=["service"])


def install(app: FastAPI) -> None:
    """Measure all requests of `app`. To be called last: what is added later is not measured."""
    state = app.state
    state.metrics = Metrics(lambda: figures(state.context), lambda: state.reader.manifest)
    app.add_middleware(Requests, metrics=state.metrics)


def may_scrape(request: Request, bearer: Bearer, cookie: Cookie) -> None:
    """Let admins in, and who has METRICS_TOKEN. Raises NotSignedIn, NotAllowed."""
    token = request.app.state.settings.metrics_token
    if bearer and token and secrets.compare_digest(bearer.encode(), token.get_secret_value().encode()):
        return
    require(signed_in(request, bearer, cookie).user, "admin")


@router.get(
    "/metrics",
    dependencies=[Depends(may_scrape)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **documented(401, 403)},
)
def read_metrics(request: Request) -> Response:
    """Measurements, as Prometheus reads them. For admins, and for who has the token of METRICS_TOKEN as bearer."""
    metrics: Metrics = request.app.state.metrics
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(metrics.registry), headers={"Content-Type": content_type})

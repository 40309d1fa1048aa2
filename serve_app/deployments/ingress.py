"""Deployment: the HTTP surface, over handles to the rest of the graph."""

from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ReplicaRank

from serve_app.api.app import build_api
from serve_app.deployments import replica_log
from serve_app.deployments.listening import serve_host
from serve_app.deployments.live_settings import LiveSettings, with_user_config
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.ray_metrics_text import RayMetricsText
from serve_app.deployments.services import open_services
from serve_app.deployments.speech import speech_pipeline
from serve_app.keys.exposure import check_exposure
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.settings import Settings
from serve_app.speech.watch import Watcher
from serve_app.store.database import Database
from serve_app.tracing import open_tracer


class Ingress:
    def __init__(
        self, encoder: DeploymentHandle, decoder: DeploymentHandle, settings: Settings, runner: DeploymentHandle
    ) -> None:
        """`runner` is not called: jobs reach it through the database. Serve runs what the ingress is bound to."""
        replica_log.set_up(settings)
        check_exposure(settings.keys, serve_host())
        self._settings = settings
        self._live = LiveSettings.copy_of(settings)
        meter = RayMeter()
        replica = serve.get_replica_context().replica_id.unique_id
        watcher = Watcher(meter, open_tracer(settings.tracing, "Ingress", replica))
        self._pipeline = speech_pipeline(encoder, decoder, settings, meter, watcher)

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor, so that FastAPI is built where handles and settings exist."""
        settings = self._settings
        database = Database.open(settings.database_url)
        keys = Keys(database, settings.keys) if settings.keys.required else None
        services = open_services(settings, database, self._pipeline, Allowance(database))
        return build_api(services.speech, self._live, RayMetricsText(), keys, services)

    def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        """Sampling defaults of requests that come from now on."""
        # Not `type(self)`: Serve makes a subclass of it, with a longer name.
        self._live.sampling = with_user_config(self._settings, "Ingress", user_config).sampling

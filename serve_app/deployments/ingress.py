"""The Ingress deployment: the HTTP API over handles to the rest of the graph."""

import logging
from typing import Any

from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ReplicaRank

from serve_app.api.app import build_api
from serve_app.deployments.handles import AlignerHandle
from serve_app.deployments.live_settings import LiveSettings, with_user_config
from serve_app.deployments.proxy_guard import PROXY_GUARDS
from serve_app.deployments.ray_meter import RayMeter
from serve_app.deployments.ray_metrics_text import RayMetricsText
from serve_app.deployments.ray_private import handle_of, is_draining, proxy_guard_setting, ray_has_token, serve_host
from serve_app.deployments.replica import set_up_replica
from serve_app.deployments.services import Applications, open_services, speech_pipeline
from serve_app.keys.exposure import check_exposure, check_ray_authentication, unguarded_notice
from serve_app.keys.keys import Keys
from serve_app.keys.limits import Allowance
from serve_app.settings import Settings
from serve_app.speech.watch import Watcher
from serve_app.store.database import Database
from serve_app.tracing import open_tracer

_log = logging.getLogger(__name__)


class IngressDeployment:
    def __init__(
        self,
        encoder: DeploymentHandle,
        decoder: DeploymentHandle,
        settings: Settings,
        runner: DeploymentHandle,
        aligner: DeploymentHandle,
    ) -> None:
        """`runner` is not called: jobs reach it through the database. It is bound here so that Serve runs it."""
        self._identity = set_up_replica(settings)
        host = serve_host()
        check_exposure(settings.keys, host)
        check_ray_authentication(settings.keys, host, ray_has_token())
        variable, value = proxy_guard_setting()
        if notice := unguarded_notice(host, variable, value, PROXY_GUARDS[variable]):
            _log.warning(notice)
        self._settings = settings
        self._aligner = AlignerHandle(aligner, settings.failover)
        self._live = LiveSettings.copy_of(settings)
        meter = RayMeter()
        watcher = Watcher(meter, open_tracer(settings.tracing, self._identity.deployment, self._identity.id))
        self._pipeline = speech_pipeline(encoder, decoder, settings, meter, watcher)
        others = {
            name: speech_pipeline(
                handle_of("ContextEncoder", name), handle_of("AudioDecoder", name), settings, meter, watcher
            )
            for name in settings.other_models
        }
        self._applications = Applications(self._identity.application, others)

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve after the constructor, so that FastAPI is built where handles and settings exist."""
        settings = self._settings
        database = Database.open(settings.database_url, settings.database.connections)
        keys = Keys(database, settings.keys) if settings.keys.required else None
        allowance, applications = Allowance(database), self._applications
        services = open_services(settings, database, self._pipeline, allowance, self._aligner, applications)
        return build_api(services.speech, self._live, RayMetricsText(), keys, services, is_draining)

    def reconfigure(self, user_config: Any, rank: ReplicaRank) -> None:
        """New sampling defaults for requests from now on."""
        self._live.sampling = with_user_config(self._settings, self._identity.deployment, user_config).sampling

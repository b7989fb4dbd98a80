"""What runs beside the broker: the services, and a worker for each model behind an endpoint.

Made once, from the settings and the models file as they are at the start.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from infra.local.plan import (
    TRACING,
    Program,
    hosted_models,
    hosted_programs,
    key_variables,
    read_replicas,
    service_environment,
    service_programs,
    tracing_programs,
    without,
)
from infra.local.scraping import Target, ports_of, targets_of, with_ports
from infra.local.settings import ROOT, LocalSettings
from shared.models import read_models
from shared.otlp import OtelSettings


@dataclass(frozen=True, slots=True)
class Programs:
    """All programs in their order; `common` is the environment without anybody's key."""

    services: tuple[Program, ...]
    common: Mapping[str, str]
    metrics: tuple[Target, ...] = ()
    """Where each shows how it is."""

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(program.name for program in self.services)


def programs(settings: LocalSettings, inherited: Mapping[str, str]) -> Programs:
    """Each worker is given the key of its own endpoint alone; nothing else is given any.

    Raises:
        Permanent: `invalid_models_file`, `invalid_setting`.
    """
    models = read_models(settings.models).models
    variables = key_variables(models)
    environment = service_environment(inherited, settings.for_services(), ROOT)
    common = without(environment, variables.values())
    keys = {
        model: {name: environment[name]} for model, name in variables.items() if name in environment
    }

    elsewhere = settings.nats_url is None and "MILLRACE_NATS_URL" in inherited

    def shown(service: str) -> Mapping[str, str]:
        """Its key on the bus; none where the caller brings servers that have no users."""
        return {} if elsewhere else settings.for_user(service)

    def own(service: str, number: int) -> Mapping[str, str]:
        key = keys.get(settings.model, {}) if service == "inference" else {}
        return {**settings.for_replica(service, number), **shown(service), **key}

    hosted = {
        model: {
            **settings.for_hosted(model),
            **shown("inference"),
            **keys.get(model, {}),
        }
        for model in hosted_models(models, settings.model)
    }
    replicas = read_replicas(settings.replicas)
    services = service_programs(sys.executable, common, replicas, own)
    tracer = {**common, **shown(TRACING)}
    traces = tracing_programs(sys.executable, tracer) if OtelSettings().wanted else ()
    found = (*services, *traces, *hosted_programs(sys.executable, common, hosted))
    place = settings.metrics_place()
    ports = ports_of(place, [program.name for program in found])
    return Programs(with_ports(found, place.host, ports), common, targets_of(found, ports))

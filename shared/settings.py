"""The settings that every service has in common; each service extends `BusSettings` with its own.

Read once, in `__main__`, and passed on as values. A name with the prefix that no part of Millrace
knows is an error, because a misspelt setting would otherwise be ignored in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import orjson
from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from shared.errors import Permanent, Transient

PREFIX = "MILLRACE_"
_NAMES = """
    LOG_FORMAT
    AGENTS AUTH BODY_LIMIT BODY_TIMEOUT BUDGET_PER_DAY BUDGET_PER_MONTH BUS_TLS CHUNK_TOKENS
    CONCURRENCY
    DATA DATABASE_URL HEAD_TIMEOUT HEARTBEAT HTTP_BODY_MEMORY HTTP_HOST HTTP_PORT LOG_LEVEL
    METRICS_HOST METRICS_PORT SECRETS
    MAX_STREAMS MILVUS_TOKEN MILVUS_URI MIN_SCORE MODEL MODELS NATS_CA NATS_CERT NATS_CREDS
    NATS_KEY NATS_MONITOR NATS_TOKEN NATS_URL QUEUE_LIMIT REPLICAS REQUESTS_PER_MINUTE
    SNAPSHOT_EVERY STREAM_REPLICAS SYNC TOKENS_PER_MINUTE VIEWER_PATIENCE WORKER_ID
"""
_LOGIN = re.compile(r"//[^@/,]*@")
"""A user and password within a URL."""
KNOWN = frozenset(_NAMES.split())
"""Every name of the environment contract, without its prefix."""


def unknown_names(environment: Mapping[str, str]) -> list[str]:
    """The variables with our prefix that mean nothing."""
    return sorted(
        name
        for name in environment
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in KNOWN
    )


class BusSettings(BaseSettings):
    """Where the data and the broker are."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True
    )

    data: Path = Field(default=Path(".millrace"), description="the data folder")
    nats_url: str | None = Field(
        default=None, description="one or more, with commas between; unset: the embedded server"
    )
    nats_creds: Path | None = Field(
        default=None, description="a seed or credentials file, or a folder with one per service"
    )
    nats_ca: Path | None = Field(default=None, description="PEM: whom to trust; TLS where set")
    nats_cert: Path | None = Field(default=None, description="PEM: the client's certificate")
    nats_key: Path | None = Field(default=None, description="PEM: its key")
    nats_token: SecretStr | None = Field(default=None, description="a token, where one is used")
    stream_replicas: int = Field(
        default=1, ge=1, le=5, description="servers that hold each stream; 3 in a cluster"
    )
    log_level: str = "info"
    metrics_host: str = Field(
        default="127.0.0.1", description="where a process answers /metrics, /healthz and /readyz"
    )
    metrics_port: Annotated[int, Field(ge=0, le=65535)] | Literal["off"] = Field(
        default=0, description="0: any free one, which its log names; off: none"
    )
    log_format: Literal["logfmt", "json"] = "logfmt"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Any setting may be a file of the folder `MILLRACE_SECRETS`; the environment goes first.

        The file has the name of its variable in small letters, such as `millrace_nats_token`.

        Raises:
            Permanent: `no_secrets_folder`.
        """
        sources = (init_settings, env_settings, dotenv_settings)
        folder = os.environ.get(f"{PREFIX}SECRETS")
        if not folder:
            return (*sources, file_secret_settings)
        if not Path(folder).is_dir():
            raise Permanent(
                "no_secrets_folder",
                f"{PREFIX}SECRETS names {folder!r}, which is no folder; "
                "make it, or leave the variable out",
                field=f"{PREFIX}SECRETS",
            )
        return (*sources, SecretsSettingsSource(settings_cls, folder))

    def model_post_init(self, _context: object) -> None:
        """Refuse misspelt names.

        Raises:
            Permanent: `unknown_setting`.
        """
        if names := unknown_names(os.environ):
            raise Permanent(
                "unknown_setting",
                f"no part of Millrace knows {', '.join(names)}; known are "
                + ", ".join(PREFIX + name for name in sorted(KNOWN)),
                field=names[0],
            )

    def metrics_place(self) -> Place:
        """Where this process shows how it is."""
        return Place(self.metrics_host, self.metrics_port, self.data)

    def address(self) -> Address:
        """The broker's address: the one that is set, else what the embedded server wrote down.

        Raises:
            Transient: `no_broker` while no system runs on this data folder.
        """
        if self.nats_url:
            token = self.nats_token.get_secret_value() if self.nats_token else None
            return self.address_at(self.nats_url, None if self.nats_creds else token)
        path = self.data / "nats.json"
        try:
            found = orjson.loads(path.read_bytes())
            url, token = found["url"], found["token"]
            replicas = int(found.get("replicas", self.stream_replicas))
            ca = Path(found["ca"]) if "ca" in found else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Transient(
                "no_broker",
                f"no running system on {self.data} (start one with `make run`), "
                f"and {PREFIX}NATS_URL is not set",
            ) from error
        # credentials of one's own go before the token of everybody on this machine
        return self.address_at(url, None if self.nats_creds else token, replicas, ca)

    def address_at(
        self, url: str, token: str | None, replicas: int = 0, ca: Path | None = None
    ) -> Address:
        """The address of a given broker; a token goes before the credentials that are set.

        `ca` is the authority that this broker names, where no other one is set.
        """
        trusted = self.nats_ca or ca
        tls = Tls(trusted, self.nats_cert, self.nats_key) if trusted else None
        creds = None if token else self.nats_creds
        return Address(url, token, creds, replicas or self.stream_replicas, tls)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files: the authority to trust, and what this client shows of itself."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process shows how it is. Port 0 is any free one, `off` none.

    `data` is the folder whose disk it tells of.
    """

    host: str = "127.0.0.1"
    port: int | Literal["off"] = 0
    data: Path | None = None


class Address:
    """How to reach the broker, and how often it keeps everything. The token stays out of prints."""

    def __init__(
        self,
        url: str,
        token: str | None,
        creds: Path | None,
        replicas: int = 1,
        tls: Tls | None = None,
    ) -> None:
        self.url = url
        self.token = token
        self.creds = creds
        self.replicas = replicas
        self.tls = tls

    @property
    def servers(self) -> list[str]:
        """The servers of the cluster, one URL each; any of them will do."""
        return [url.strip() for url in self.url.split(",") if url.strip()]

    def __repr__(self) -> str:
        return f"Address({_LOGIN.sub('//', self.url)!r})"


def masked(settings: BaseSettings) -> str:
    """The settings as indented JSON; pydantic masks the secrets."""
    return settings.model_dump_json(indent=2)

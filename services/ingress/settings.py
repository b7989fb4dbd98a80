"""Settings of the ingress, read once in `__main__`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.contracts.keys import Allowance
from shared.errors import Permanent
from shared.settings import BusSettings


class Settings(BusSettings):
    """Where to listen and whom to let in."""

    http_host: str = "127.0.0.1"
    http_port: int = Field(default=8080, ge=0, le=65535)
    auth: Literal["off", "keys"] = Field(
        default="off", description="off: on a loopback address only; keys: API keys"
    )
    models: Path = Field(default=Path("infra/models.yaml"), description="the models file")
    body_limit: int = Field(
        default=16 << 20, ge=1024, description="bytes of a request's body at most"
    )
    http_body_memory: int = Field(
        default=256 << 20,
        ge=1 << 20,
        description="bytes that all bodies which are read at the same time may have together",
    )
    head_timeout: float = Field(
        default=10.0, gt=0, description="seconds for a client to send the headers of a request"
    )
    body_timeout: float = Field(
        default=60.0, gt=0, description="seconds for a client to send the body of a request"
    )
    requests_per_minute: int = Field(
        default=0, ge=0, description="of a tenant, at all replicas together; 0: no limit"
    )
    tokens_per_minute: int = Field(
        default=0, ge=0, description="of all that a tenant causes; 0: no limit"
    )
    concurrency: int = Field(default=0, ge=0, description="open requests of a tenant; 0: no limit")
    max_streams: int = Field(
        default=1000, ge=0, description="open event streams and sockets of a tenant; 0: no limit"
    )
    budget_per_day: int = Field(
        default=0, ge=0, description="millionths of a cent that a tenant may spend; 0: no limit"
    )
    budget_per_month: int = Field(default=0, ge=0, description="likewise, in a UTC month")

    def allowance(self) -> Allowance:
        """What a tenant may ask for, where nothing else is said."""
        return Allowance(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrency=self.concurrency,
            max_streams=self.max_streams,
            budget_per_day=self.budget_per_day,
            budget_per_month=self.budget_per_month,
        )

    queue_limit: int = Field(
        default=1000,
        ge=0,
        description="model calls that may wait for a slot, then new work is refused; 0: any number",
    )
    heartbeat: float = Field(
        default=15.0, gt=0, description="seconds between signs of life on a silent stream"
    )
    viewer_patience: float = Field(
        default=30.0, gt=0, description="seconds for a viewer to read on before it is cut off"
    )

    def check_room(self) -> None:
        """Refuse a bound that the largest body which is allowed would never fit into.

        Raises:
            Permanent: `invalid_settings`.
        """
        if self.body_limit > self.http_body_memory // 2:
            raise Permanent(
                "invalid_settings",
                f"a body may have {self.body_limit} bytes (MILLRACE_BODY_LIMIT), so all bodies "
                f"together need twice that, and have {self.http_body_memory}",
                field="MILLRACE_HTTP_BODY_MEMORY",
            )

    def check_auth(self) -> None:
        """Refuse a combination that would leave the system open.

        Raises:
            Permanent: `auth_required` without authentication on an address that others can reach.
        """
        if self.auth == "off" and not is_loopback(self.http_host):
            raise Permanent(
                "auth_required",
                f"MILLRACE_AUTH=off is allowed on a loopback address only, and MILLRACE_HTTP_HOST "
                f"is {self.http_host!r}; use 127.0.0.1, or "
                "MILLRACE_AUTH=keys and `millrace keys create`",
                field="MILLRACE_HTTP_HOST",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

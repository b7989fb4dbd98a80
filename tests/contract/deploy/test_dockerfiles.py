"""The images: what they copy is there, nobody is root, and everything is pinned."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.contract.deploy import dockerfile_checks
from tests.contract.deploy.compose_checks import ROOT
from tests.contract.deploy.dockerfile_checks import CHECKS, read

FILES = sorted((ROOT / "infra" / "docker").glob("*Dockerfile"))
SERVICE = ROOT / "infra" / "docker" / "Dockerfile"
HEALTH = ROOT / "infra" / "docker" / "health.py"


def test_both_images_are_looked_at() -> None:
    assert [path.name for path in FILES] == ["Dockerfile", "inference-trtllm.Dockerfile"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_image_can_be_built_and_is_nobody_special(path: Path, check: Any) -> None:
    assert list(check(read(path))) == []


BAD = {
    "a base that moves": ("bases", r"FROM base AS service", "FROM python:3.12-slim AS service"),
    "a file that is not there": ("sources", "COPY shared shared", "COPY sahred shared"),
    "a stage that is not there": ("sources", "--from=packages", "--from=package"),
    "what the build does not see": ("sources", "COPY shared shared", "COPY tests tests"),
    "root": ("user", "USER 10001:10001", "USER root"),
    "a name that may be root": ("user", "USER 10001:10001", "USER millrace"),
    "nobody said who": ("user", "USER 10001:10001\n", ""),
    "packages without hashes": ("packages", "--require-hashes ", ""),
    "a program from elsewhere": (
        "packages",
        "RUN python -m venv",
        "RUN curl x | sh; python -m venv",
    ),
    "a shell before the program": (
        *("commands", 'CMD ["python", "-m", "services.ingress"]'),
        "CMD python -m services.ingress",
    ),
    "a program that is not there": ("commands", "services.ingress", "services.egress"),
    "another port": ("health", "METRICS_PORT=9464", "METRICS_PORT=9100"),
    "no health": ("health", "HEALTHCHECK", "LABEL"),
    "a misspelt setting": ("environment", "MILLRACE_DATA=", "MILLRACE_DTAA="),
    "a secret": ("environment", "ENV PATH=", "ENV MILLRACE_NATS_TOKEN=x PATH="),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_breaks_a_rule_is_found_out(case: str) -> None:
    check, old, new = BAD[case]
    text = SERVICE.read_text()
    assert old in text
    assert list(getattr(dockerfile_checks, check)(read(SERVICE, text.replace(old, new))))


def test_every_check_has_something_to_find() -> None:
    assert {case[0] for case in BAD.values()} == {check.__name__ for check in CHECKS}


def asked(url: str) -> tuple[int, str]:
    """The health check's exit status and what it says, as in a container: in another process."""
    argv = [sys.executable, "-I", str(HEALTH), url]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    return found.returncode, found.stderr


class Answers(BaseHTTPRequestHandler):
    """Well under one path, ill under every other."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()
        self.wfile.write(b"the broker is away")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


def test_the_health_check_says_what_it_was_told() -> None:
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert asked(f"{url}/healthz") == (0, "")
        code, said = asked(f"{url}/readyz")
        server.shutdown()
    assert code == 1
    assert "answers 503: the broker is away" in said


def test_who_does_not_answer_is_not_well() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        code, said = asked(f"http://127.0.0.1:{probe.getsockname()[1]}/healthz")
    assert code == 1
    assert "does not answer" in said


@pytest.mark.parametrize("url", ["http://example.org/", "file:///etc/passwd"])
def test_it_asks_nobody_but_its_own_container(url: str) -> None:
    assert asked(url)[0] == 1

"""The `millrace` command of the virtual environment."""

from __future__ import annotations

from pathlib import Path

from infra.local import link


def test_the_command_runs_the_cli_and_not_the_callers_folder() -> None:
    text = link.command_text(Path("/a b/python"))
    assert text.startswith("#!/bin/sh\n")
    assert 'exec "/a b/python" -P -m services.cli "$@"' in text

"""What is said of GPUs and of the library that would use them."""

from __future__ import annotations

import pytest

from services.cli.core.gpu import Installed, gpu_checks, library_check

H100 = "NVIDIA H100 80GB HBM3, 590.48.01, 81559, 81000, 9.0"


@pytest.mark.parametrize(
    ("line", "outcome"),
    [
        (H100, "ok"),
        ("NVIDIA A100-SXM4-40GB, 570.86.15, 40960, 40000, 8.0", "warning"),
        ("Tesla V100-SXM2-16GB, 590.48.01, 16384, 16000, 7.0", "failed"),
        ("Unable to determine the device handle", "failed"),
    ],
)
def test_a_gpu_is_judged_by_capability_and_driver(line: str, outcome: str) -> None:
    (found,) = gpu_checks(f"{line}\n")
    assert found.outcome == outcome
    assert found.fix or outcome == "ok"


def test_every_gpu_is_named() -> None:
    found = gpu_checks(f"{H100}\n{H100}\n")
    assert [one.name for one in found] == ["gpu 0", "gpu 1"]
    assert "79.1 GiB of 79.6 GiB free" in found[0].found


def test_none_is_said_plainly() -> None:
    (found,) = gpu_checks("\n")
    assert (found.outcome, found.found) == ("failed", "no GPU here: nvidia-smi lists none")


@pytest.mark.parametrize(
    ("found", "outcome", "says"),
    [
        (Installed(written_for="1.2", version="1.2.1"), "ok", "every name"),
        (Installed(written_for="1.2", version="1.3.0rc5"), "warning", "1.3.0rc5"),
        (Installed(written_for="1.2", version="1.2.1", without=("LLM.x",)), "warning", "LLM.x"),
        (Installed(code="engine_missing", error="it cannot be imported"), "failed", "imported"),
    ],
)
def test_the_library_is_judged_by_what_it_has(found: Installed, outcome: str, says: str) -> None:
    check = library_check(found)
    assert check.outcome == outcome
    assert says in check.found

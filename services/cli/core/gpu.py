"""What `doctor --gpu` found: GPUs, their driver, and the library that would use them (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.cli.core.checks import Check, version_of

QUERY = ("name", "driver_version", "memory.total", "memory.free", "compute_cap")
"""What `nvidia-smi --query-gpu` is asked for; memory comes in MiB."""
MIN_CAPABILITY = (8, 0)
MIN_DRIVER = 580
_IMAGE = "infra/docker/inference-trtllm.Dockerfile"


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says of its library, as `services.inference` prints it."""

    written_for: str = ""
    version: str = ""
    code: str = ""
    error: str = ""
    without: tuple[str, ...] = ()


def no_gpu(reason: str) -> Check:
    """There is none, which is no fault of anything else."""
    fix = "`engine: tensorrt_llm` needs an NVIDIA GPU; `openvino` and `provider` do not"
    return Check("gpu", "failed", f"no GPU here: {reason}", fix)


def gpu_checks(listing: str) -> Sequence[Check]:
    """The answer of nvidia-smi: a line for each GPU."""
    lines = [line for line in listing.splitlines() if line.strip()]
    if not lines:
        return (no_gpu("nvidia-smi lists none"),)
    return tuple(_gpu(number, line) for number, line in enumerate(lines))


def _gpu(number: int, line: str) -> Check:
    name = f"gpu {number}"
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != len(QUERY):
        return Check(name, "failed", f"nvidia-smi says {line!r}", "install a driver that works")
    model, driver, total, free, capability = parts
    found = f"{model}, {_gib(free)} of {_gib(total)} free, capability {capability}, driver {driver}"
    if version_of(capability) < MIN_CAPABILITY:
        return Check(name, "failed", found, "TensorRT-LLM 1.2 wants capability 8.0 (Ampere) or up")
    if version_of(driver)[:1] < (MIN_DRIVER,):
        fix = f"the image has CUDA 13, for which NVIDIA names driver {MIN_DRIVER} or newer"
        return Check(name, "warning", found, fix)
    return Check(name, "ok", found)


def _gib(mebibytes: str) -> str:
    return f"{int(mebibytes) / 1024:.1f} GiB" if mebibytes.isdecimal() else mebibytes


def library_check(found: Installed) -> Check:
    """The library, and whether the worker's names are in it."""
    if found.error:
        fix = f"run the worker in the image of {_IMAGE}"
        return Check("library", "failed", found.error, fix)
    version = f"tensorrt_llm {found.version}"
    if found.without:
        missing = ", ".join(found.without)
        fix = "the worker does without, or refuses what needs it; tell us"
        return Check("library", "warning", f"{version}, without {missing}", fix)
    if version_of(found.version)[:2] != version_of(found.written_for)[:2]:
        fix = f"it is written for {found.written_for}; run `make test-gpu` before you rely on it"
        return Check("library", "warning", version, fix)
    return Check("library", "ok", f"{version}, with every name that the worker uses")

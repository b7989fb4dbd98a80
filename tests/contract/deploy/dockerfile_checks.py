"""What must hold of a Dockerfile: each check takes its instructions and gives faults in words."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from shared.settings import KNOWN, PREFIX
from tests.contract.deploy.compose_checks import EXACT, ROOT

_LINE = re.compile(r"^([A-Z]+)\s+(.*)$", re.DOTALL)


@dataclass(frozen=True)
class Instruction:
    """One of them, with the stage that it belongs to."""

    stage: str
    word: str
    rest: str


@dataclass(frozen=True)
class Dockerfile:
    """All of one, and what of the repository its build does not see."""

    instructions: tuple[Instruction, ...]
    ignored: tuple[str, ...]

    def of(self, *words: str) -> list[Instruction]:
        """Its instructions of these kinds."""
        return [one for one in self.instructions if one.word in words]

    @property
    def stages(self) -> dict[str, str]:
        """What each stage begins with, by its name; the last one, where it has none, is `-`."""
        return {one.stage: one.rest.split()[0] for one in self.of("FROM")}


def read(path: Path, text: str | None = None) -> Dockerfile:
    """A Dockerfile, with the list that Docker takes for it."""
    own = path.with_name(f"{path.name}.dockerignore")
    ignore = own if own.exists() else ROOT / ".dockerignore"
    ignored = [line for line in ignore.read_text().splitlines() if line and line[0] != "#"]
    return Dockerfile(tuple(_instructions(text or path.read_text())), tuple(ignored))


def _instructions(text: str) -> Iterator[Instruction]:
    plain = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    stage = "-"
    for line in re.sub(r"\\\n\s*", " ", plain).splitlines():
        if found := _LINE.match(line.strip()):
            word, rest = found[1], " ".join(found[2].split())
            if word == "FROM":
                named = rest.split()
                stage = named[2] if len(named) == 3 else "-"
            yield Instruction(stage, word, rest)


def bases(file: Dockerfile) -> Iterator[str]:
    """What it is built on stays what it is."""
    for base in file.stages.values():
        if base not in file.stages and not EXACT.fullmatch(base):
            yield f"{base} is not pinned to one version"


def sources(file: Dockerfile) -> Iterator[str]:
    """What is copied is there, and not hidden from the build."""
    for one in file.of("COPY"):
        words = one.rest.split()
        if words[0].startswith("--from="):
            if words[0].removeprefix("--from=") not in file.stages:
                yield f"there is no stage {words[0]}"
            continue
        for source in words[:-1]:
            if not (ROOT / source).exists():
                yield f"{source} is not there"
            if any(_hides(pattern, source) for pattern in file.ignored):
                yield f"{source} is hidden from the build"


def _hides(pattern: str, source: str) -> bool:
    return any(fnmatch.fnmatch(str(one), pattern) for one in (PurePosixPath(source), source))


def user(file: Dockerfile) -> Iterator[str]:
    """Whatever stage is run is run by nobody special, told by a number."""
    for stage, base in file.stages.items():
        users = [one.rest for one in file.of("USER") if one.stage == stage]
        runs = [one for one in file.of("CMD", "ENTRYPOINT") if one.stage == stage]
        if runs and (not users or not re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", users[-1])):
            yield f"{stage}: {users[-1] if users else base} may be root"


def packages(file: Dockerfile) -> Iterator[str]:
    """Packages come from a lock, each by its hash, and nothing comes from anywhere else."""
    for one in file.of("RUN", "ADD"):
        for command in one.rest.split("&&"):
            if re.search(r"\bpip install\b", command) and not (
                "--require-hashes" in command and "--no-deps" in command and " -r " in command
            ):
                yield f"{one.stage}: packages without hashes: {command.strip()}"
        if one.word == "ADD" or re.search(r"\b(curl|wget|apt-get|git clone)\b", one.rest):
            yield f"{one.stage}: something from elsewhere: {one.rest[:60]}"


def commands(file: Dockerfile) -> Iterator[str]:
    """What is run is a program of the repository, without a shell that keeps signals from it."""
    for one in file.of("CMD", "ENTRYPOINT"):
        try:
            words = json.loads(one.rest)
        except json.JSONDecodeError:
            yield f"{one.stage}: a shell would run {one.rest}"
            continue
        if words[:2] != ["python", "-m"] or not _is_program(words[2]):
            yield f"{one.stage}: there is no program {words[-1]}"


def _is_program(module: str) -> bool:
    return (ROOT / module.replace(".", "/") / "__main__.py").is_file()


def health(file: Dockerfile) -> Iterator[str]:
    """It asks the port that it sets, by a script that it has."""
    found = file.of("HEALTHCHECK")
    if len(found) != 1:
        yield "it does not say how to see that it is well"
        return
    words: Sequence[str] = json.loads(found[0].rest.split("CMD", 1)[1])
    port = _environment(file).get(f"{PREFIX}METRICS_PORT")
    if not (ROOT / words[1]).is_file():
        yield f"there is no {words[1]}"
    if words[2] != f"http://127.0.0.1:{port}/healthz":
        yield f"nothing answers at {words[2]}"


def environment(file: Dockerfile) -> Iterator[str]:
    """Only names that the code knows, and no secret, which would stay in the image for ever."""
    for name in _environment(file):
        if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in KNOWN:
            yield f"no part of Millrace knows {name}"
        if re.search(r"TOKEN|PASSWORD|SECRET|KEY", name):
            yield f"{name} is a secret in the image"


def _environment(file: Dockerfile) -> dict[str, str]:
    words = [word for one in file.of("ENV", "ARG") for word in one.rest.split()]
    return dict(word.split("=", 1) for word in words if "=" in word)


CHECKS = (bases, sources, user, packages, commands, health, environment)

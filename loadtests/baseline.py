"""What a profile came to earlier, as ratios, and how much worse a run is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtests.result import Breach, Line, Result, Setting, Sums
from shared.errors import Permanent

FOLDER = Path(__file__).parent / "baselines"
_EACH = 2.0
"""An operation may vary so many times more than the whole: it has fewer samples."""


class Baseline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No times: they are of another machine. It says what the load was, to compare like with it."""

    profile: str
    users: int
    tenants: int
    cores: int
    mix: dict[str, int]
    taken: str
    gain: float | None
    stretch: float | None
    operations: dict[str, float | None]
    """The stretch of each."""


def baseline_of(result: Result) -> Baseline:
    """What a later run is compared with."""
    setting = result.setting
    return Baseline(
        profile=setting.profile,
        users=setting.users,
        tenants=setting.tenants,
        cores=setting.cores,
        mix=setting.mix,
        taken=setting.started,
        gain=_short(result.sums.gain),
        stretch=_short(result.sums.stretch),
        operations={line.operation: _short(_stretch(line)) for line in result.lines},
    )


def _stretch(line: Line) -> float | None:
    return line.times.stretch if line.times else None


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def read_baseline(profile: str, folder: Path = FOLDER) -> Baseline | None:
    """The baseline of a profile, if there is one.

    Raises:
        Permanent: `invalid_baseline`.
    """
    path = folder / f"{profile}.json"
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Baseline)
    except msgspec.MsgspecError as error:
        text = f"{path.name}: {error}; take it again with --save-baseline"
        raise Permanent("invalid_baseline", text, field="profile") from error


def write_baseline(baseline: Baseline, folder: Path = FOLDER) -> Path:
    """Keep it in place of the old one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{baseline.profile}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(baseline), indent=2) + b"\n")
    return path


def compare(
    setting: Setting, sums: Sums, lines: tuple[Line, ...], baseline: Baseline, limit: float
) -> tuple[list[Breach], list[str]]:
    """What is worse than it was; where the load was another one, a remark and nothing else."""
    if other := _differences(setting, baseline):
        return [], [f"not compared with the baseline, which had {other}"]
    pairs = [("all", "stretch", sums.stretch, baseline.stretch, limit)]
    pairs += [("all", "gain", _inverse(sums.gain), _inverse(baseline.gain), limit)]
    for line in lines:
        before = baseline.operations.get(line.operation)
        pairs.append((line.operation, "stretch", _stretch(line), before, limit * _EACH))
    found = [_worse(*pair) for pair in pairs]
    return [breach for breach in found if breach is not None], []


def _differences(setting: Setting, baseline: Baseline) -> str:
    names = ("users", "tenants", "cores")
    other = [name for name in names if getattr(setting, name) != getattr(baseline, name)]
    told = [f"{name} {getattr(baseline, name)}" for name in other]
    return ", ".join([*told, *(["another mix"] if setting.mix != baseline.mix else [])])


def _inverse(value: float | None) -> float | None:
    return 1 / value if value else None


def _worse(
    where: str, what: str, now: float | None, before: float | None, limit: float
) -> Breach | None:
    if now is None or not before or now / before <= limit:
        return None
    text = f"times worse than the baseline's {what} ({before:.2f}, now {now:.2f})"
    if what == "gain":
        text = f"times worse than the baseline's gain ({1 / before:.2f}, now {1 / now:.2f})"
    return Breach(rule="baseline", where=where, value=now / before, limit=limit, text=text)

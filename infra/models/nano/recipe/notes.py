"""Memory and clock: what is noted, recalled and asked about the time.

Owns the wording of those three tools. Knows nothing of conversations.
"""

from __future__ import annotations

from functools import cache

from .vocabulary import Voice, capital, lines, listed

WEEKDAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@cache
def zones() -> list[tuple[str, str]]:
    """Pairs of place name and IANA zone."""
    out = []
    for line in lines("cities.txt"):
        zone, _, names = line.partition(":")
        out += [(name.strip(), zone.strip()) for name in names.split(";")]
    return out


@cache
def keys() -> list[tuple[str, str]]:
    """Pairs of key and the kind of its value."""
    out = []
    for line in lines("notes.txt"):
        kind, _, names = line.partition(":")
        out += [(name.strip(), kind.strip()) for name in names.split(";")]
    return out


HEADS = {
    "number": listed("number count level limit size total rank budget"),
    "code": listed("code pin password key token"),
    "colour": listed("colour shade"),
    "person": listed("dealer helper keeper teacher partner contact doctor guide"),
    "place": listed("place city spot town"),
    "date": listed("date day"),
    "time": listed("time start end"),
    "food": listed("dish snack order soup"),
    "word": listed("name word brand title song"),
}
"""What a key may end in that nobody has thought of."""


def practice(voice: Voice) -> str:
    """One or two practice words as names have them, in the share that asks for some, or none."""
    first = voice.strange()
    if not first or voice.chance(0.6):
        return first
    second = voice.strange() or voice.pool("everyday")
    return first + voice.rng.choice(["'s ", " ", "-"]) + second


def made_up(voice: Voice) -> tuple[str, str]:
    """A key that is put together, so that keys are copied and not known by heart."""
    kind = voice.rng.choice(list(HEADS))
    head = voice.rng.choice(HEADS[kind])
    pool = voice.rng.choice(["everyday", "everyday", "word", "noun", "shade", "adj"])
    first = practice(voice) or voice.pool(pool)
    roll = voice.rng.random()
    if roll < 0.15:
        first = voice.invented()
    elif roll < 0.25:
        first = f"{voice.pool('relative')}'s {first}"
    elif roll < 0.4:
        return first, kind
    return (f"{first}{head}".replace(" ", "") if voice.chance(0.2) else f"{first} {head}"), kind


def key(voice: Voice) -> tuple[str, str]:
    """A key and its kind, respecting the vocabulary split."""
    if voice.chance(max(0.4, 2 * voice.odd)):
        return made_up(voice)
    name = voice.of([name for name, _ in keys()])
    return name, dict(keys())[name]


SHAPES = {
    "person": ["{person}", "{person}", "{first}", "Dr {first}", "Mr {word}"],
    "date": ["{day} {month}", "{month} {day}", "{weekday}", "{day} {month} {year}",
             "the {ord} of {month}"],
    "time": ["{clock}"],
    "word": ["{word}", "{word}", "{adj} {word}", "{brand}", "{invented}"],
    "place": ["{city}"],
}  # fmt: skip


def value(voice: Voice, kind: str) -> str:
    """Something to store."""
    rng = voice.rng
    if kind == "number":
        return str(rng.randint(1, rng.choice([99, 999, 999, 9999])))
    if kind == "code":
        return voice.code() if voice.chance(0.7) else str(rng.randint(1000, 9999))
    if kind == "phone":
        digits = "".join(rng.choice("0123456789") for _ in range(rng.randint(5, 7)))
        return rng.choice([digits, f"0{digits[:3]} {digits[3:]}", f"{digits[:3]}-{digits[3:]}"])
    odd = practice(voice) if kind not in ("date", "time") else ""
    if odd:
        return odd if voice.chance(0.6) else capital(odd) if voice.chance(0.5) else odd.title()
    shapes = SHAPES.get(kind, ["{" + kind + "}"])
    return voice.expand(rng.choice(shapes), {"invented": voice.invented()})


def moment(voice: Voice, zone: str) -> str:
    """What the clock returns (any date will do)."""
    rng = voice.rng
    month = rng.randint(1, 12)
    date = f"{rng.randint(2024, 2029)}-{month:02d}-{rng.randint(1, MONTH_DAYS[month - 1]):02d}"
    clock = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return f"{date} {clock} {rng.choice(WEEKDAYS)} ({zone})"


def place(voice: Voice) -> tuple[str, str, bool]:
    """A place as the user names it, the zone to ask for, and whether the zone exists."""
    roll = voice.rng.random()
    if voice.chance(voice.odd / 3):  # coined, since a common word may be a place
        shape = voice.rng.choice(["{}", "{}", "{} {}", "{}-{}"])
        name = shape.format(voice.coined(), voice.coined())
        return name.title(), name.title(), False
    if roll < 0.1:
        name = voice.pool("imaginary")
        if voice.chance(0.3):
            name = voice.invented().capitalize()
        return name, name.removeprefix("the "), False
    name, zone = voice.rng.choice(zones())
    return (zone, zone, True) if roll < 0.13 else (name, zone, True)

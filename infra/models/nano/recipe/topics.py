"""What the synthetic documents are about: names of topics put together from word pools.

Owns names only: things nobody has heard of, allowances, rooms and teams with everyday words in
front. Knows nothing of attributes and sentences.
"""

from __future__ import annotations

from .vocabulary import Voice, capital


def thing(voice: Voice) -> str:
    """The name of a machine, product or building nobody has heard of."""
    noun = voice.strange() or voice.pool(voice.rng.choice(["noun", "everyday"]))
    odd = voice.strange()
    if odd:
        return f"{capital(odd)} {noun}"
    shape = voice.rng.random()
    if shape < 0.3:
        return f"{voice.pool('brand')} {noun}"
    if shape < 0.6:
        return f"{voice.pool(voice.rng.choice(['adj', 'shade', 'everyday']))} {noun}"
    if shape < 0.7:
        return f"{voice.pool('brand')} {voice.rng.randint(2, 990)} {noun}"
    if shape < 0.86:
        return f"{voice.pool('word')} {noun}"
    return f"{capital(voice.invented())} {noun}"


def made_up(voice: Voice, family: str, heads: list[str]) -> str:
    """A topic of the family that is put together from everyday words."""
    if family == "things":
        return thing(voice)
    if family == "rules":
        return banned(voice)
    head = voice.rng.choice(heads)
    if family == "places" and voice.chance(0.1):
        return f"{voice.pool('room')} {voice.pool(voice.rng.choice(['city', 'brand', 'everyday']))}"
    if head == "-":
        mark = voice.rng.choice(["adj", "shade", "everyday", "material", "everyday"])
        return f"{voice.pool(mark)} {voice.strange() or voice.pool('everyday')}"
    roll = voice.rng.random()
    odd = voice.strange()
    if odd:
        return f"{odd} {head}"
    if roll < 0.55:
        return f"{voice.pool('everyday')} {head}"
    if roll < 0.7:
        return f"{voice.pool('shade')} {voice.pool('everyday')} {head}"
    return f"{voice.pool(voice.rng.choice(['shade', 'adj', 'word', 'brand']))} {head}"


def many(noun: str) -> str:
    """The regular plural."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def banned(voice: Voice) -> str:
    """Something a house rule may be about."""
    noun = many(voice.strange() or voice.pool("everyday"))
    if voice.chance(0.3):
        noun = f"{voice.pool(voice.rng.choice(['shade', 'adj', 'everyday']))} {noun}"
    return f"{noun} {voice.pool('spot')}" if voice.chance(0.25) else noun


def single(topic: str) -> str:
    """A topic as it stands in front of a noun: "visitor badge" of "visitor badges"."""
    if topic.endswith("ies"):
        return topic[:-3] + "y"
    return topic[:-1] if topic.endswith("s") and not topic.endswith("ss") else topic


def related(topic: str, text: str) -> bool:
    """Whether a text names the topic."""
    return topic.lower() in text.lower()

"""Words and how they are drawn.

Owns the word pools in `data/`, the little template language and the split between vocabulary used
for training and vocabulary kept back for evaluation. Knows nothing of intents or of tools.

Template language: `(a|b|c)` chooses, `{name}` draws from a pool, `[...]` marks a span whose final
spelling the caller needs back (a note, the topic of a question), because noise may change it. A
search query is marked with `<...>`, around the question; the marks of its topic stay inside.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from . import ranking


def listed(text: str, mark: str | None = None) -> list[str]:
    """The items of a text that is easier to write and read than a list of strings."""
    return text.split(mark)


DATA = Path(__file__).parent / "data"
CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
SLOT = re.compile(r"\{(\w+)\}")
HELD_EVERY = 8
SYLLABLES = listed(
    "ba ko ri mel tor vin sa qu lex on dra pi zu hel mar net cor ia be lo fen gal nor ti sha wen "
    "ul mo ke dor as cre ple ry ven tan bri os um fa ji"
)
APOSTROPHE = re.compile(r"\b(what|who|where|how|I|that|it|don|can|doesn|isn)'(?=\w\b|ve\b)", re.I)
GERUNDS = dict(
    zip(
        listed("multiply add subtract divide square halve double cube split calculate compute find "
               "check remember note store save keep record tell look raise reduce increase show"),
        listed("multiplying adding subtracting dividing squaring halving doubling cubing splitting "
               "calculating computing finding checking remembering noting storing saving keeping "
               "recording telling looking raising reducing increasing showing"), strict=True
    )
)  # fmt: skip
NEVER_HELD = {"cur", "per", "weekday", "month", "ord", "container", "first", "filler", "clock"}


@cache
def lines(name: str) -> list[str]:
    """The meaningful lines of one data file."""
    text = (DATA / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]


@cache
def pools() -> dict[str, list[str]]:
    """Every word pool by name."""
    out: dict[str, list[str]] = {}
    for line in lines("words.txt"):
        name, _, rest = line.partition(":")
        out[name.strip()] = [word.strip() for word in rest.split(";")]
    return out


@cache
def pieces() -> list[str]:
    """The beginnings and endings of words that are one piece of the tokenizer each."""
    return lines("pieces.txt")[0].split(" ")


@cache
def common() -> list[str]:
    """Words of English that no pool has."""
    return " ".join(lines("common.txt")).split(" ")


@cache
def wordings() -> dict[str, list[str]]:
    """Every list of templates by name."""
    out: dict[str, list[str]] = {}
    name = ""
    for line in lines("wordings.txt"):
        if line.startswith("@ "):
            name = line.removeprefix("@ ")
            out[name] = []
        else:
            out[name].append(line)
    return out


class Voice:
    """A source of random words; `held` says whether kept-back vocabulary may be used.

    `finder` is the search tool: it puts passages in order and marks a sentence in each.
    `odd` is the share of names that are drawn from far more words, an exercise in copying; `hard`
    that of numbers that stand beside others of the same topic, an exercise in telling them apart.
    """

    def __init__(
        self,
        seed: int,
        held: bool = False,
        finder: ranking.Rank | None = None,
        odd: float = 0.0,
        hard: float = 0.0,
    ) -> None:
        self.rng = random.Random(seed)
        self.held = held
        self.odd = odd
        self.hard = hard
        self.finder = finder or ranking.imagined

    def rank(self, query: str, passages: list[ranking.Passage]) -> str:
        """What the search tool says when it finds these passages for the query."""
        return self.finder(self.rng, query, passages)

    def chance(self, share: float) -> bool:
        """True in `share` of the cases."""
        return self.rng.random() < share

    def of(self, items: list[str]) -> str:
        """One of the items, respecting the split: every eighth one is kept back."""
        if len(items) < HELD_EVERY:
            return self.rng.choice(items)
        kept = self.held and self.chance(0.5)
        while True:
            index = self.rng.randrange(len(items))
            if (index % HELD_EVERY == 3) == kept:
                return items[index]

    def pool(self, name: str) -> str:
        """One word of a pool, itself expanded."""
        special = {
            "day": lambda: str(self.rng.randint(1, 28)),
            "year": lambda: str(self.rng.randint(2015, 2029)),
            "small": lambda: str(self.rng.randint(2, 95)),
        }.get(name)
        if special:
            return special()
        items = pools()[name]
        word = self.rng.choice(items) if name in NEVER_HELD else self.of(items)
        return self.expand(word)

    def expand(self, template: str, slots: dict[str, str] | None = None) -> str:
        """Fill a template: choices first, then slots."""
        while True:
            found = CHOICE.search(template)
            if not found:
                break
            pick = self.rng.choice(self.split(found.group(1)))
            template = template[: found.start()] + pick + template[found.end() :]
        given = slots or {}
        return SLOT.sub(lambda m: given.get(m[1]) or self.pool(m[1]), template)

    def worded(self, name: str, slots: dict[str, str] | None = None) -> str:
        """One of the named templates, filled; slots may hold text that must stay as it is."""
        template = self.rng.choice(wordings()[name])
        kept = list((slots or {}).items())
        marks = {key: f"\0{index}\0" for index, (key, _) in enumerate(kept)}
        text = self.expand(template, marks)
        for index, (_, value) in enumerate(kept):
            text = text.replace(f"\0{index}\0", value)
        return text

    @staticmethod
    def split(body: str) -> list[str]:
        """The alternatives of a choice."""
        return body.split("|")

    def invented(self) -> str:
        """A word that is in no dictionary."""
        count = self.rng.choice([2, 2, 2, 3])
        return "".join(self.rng.choice(SYLLABLES) for _ in range(count))

    def coined(self) -> str:
        """A word of pieces as the tokenizer knows them."""
        count = self.rng.choice([2, 2, 2, 3])
        return "".join(self.rng.choice(pieces()) for _ in range(count))

    def strange(self) -> str:
        """A practice word, common or coined, in the share that asks for one, or none."""
        if not self.chance(self.odd):
            return ""
        return self.rng.choice(common()) if self.chance(0.6) else self.coined()

    def code(self) -> str:
        """A code as found on badges, doors and orders."""
        digits = "".join(self.rng.choice("0123456789") for _ in range(self.rng.randint(2, 4)))
        letters = "".join(
            self.rng.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(self.rng.randint(1, 2))
        )
        return self.rng.choice([f"{letters}-{digits}", f"{letters}{digits}", f"{digits}-{letters}"])


def capital(text: str) -> str:
    """First letter upper case."""
    at = text.startswith("<")
    return text[:at] + text[at : at + 1].upper() + text[at + 1 :]


def uncapital(text: str) -> str:
    """First letter lower case, but for "I"."""
    at = text.startswith("<")
    if re.match(r"I\b", text[at:]):
        return text
    return text[:at] + text[at : at + 1].lower() + text[at + 1 :]


def query(text: str) -> str:
    """The text marked as what is searched for."""
    return f"<{' '.join(text.split())}>"


def gerund(text: str) -> str:
    """A command as "-ing" ("adding 2 and 3"); empty where that is not possible."""
    first, _, rest = text.partition(" ")
    joined = re.search(r",| (and|then) [a-z]+ (it|that|the|by|everything)", rest)
    return "" if first not in GERUNDS or joined else f"{GERUNDS[first]} {rest}"


def spans(text: str) -> tuple[str, list[str]]:
    """Remove the span marks; the plain text and the marked spans."""
    found = [whole or part for whole, part in re.findall(r"<([^>]*)>|\[([^\]]*)\]", text)]
    return plain(text), found


def plain(text: str) -> str:
    """The text without any marks."""
    return re.sub(r"[\[\]<>]", "", text)


def topic(span: str) -> str:
    """What a marked question is about, as it is written there."""
    inner = re.search(r"\[([^\]]*)\]", span)
    return inner[1] if inner else span


def typo(voice: Voice, text: str) -> str:
    """One slip of the finger in a word outside the marked spans and without digits."""
    words = [
        m
        for m in re.finditer(r"\b[a-zA-Z]{5,}\b", text)
        if text[: m.start()].count("[") == text[: m.start()].count("]")
    ]
    if not words:
        return text
    hit = voice.rng.choice(words)
    word = hit.group()
    at = voice.rng.randrange(1, len(word) - 1)
    wrong = voice.rng.choice(
        [
            word[:at] + word[at + 1 :],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at] + word[at:],
        ]
    )
    return text[: hit.start()] + wrong + text[hit.end() :]


CONTRACTIONS = [
    ("What is ", "What's "), ("what is ", "what's "), ("Who is ", "Who's "), ("I am ", "I'm "),
    ("Where is ", "Where's "), ("I would ", "I'd "), ("How is ", "How's "), ("do not ", "don't "),
    ("who is ", "who's "), ("where is ", "where's "), ("we are ", "we're "), ("We are ", "We're "),
    ("cannot ", "can't "), ("does not ", "doesn't "),
]  # fmt: skip


def noisy(voice: Voice, text: str, careful: bool = False) -> str:
    """The text as people type it; `careful` leaves out slips (names of places)."""
    text = re.sub(r" +", " ", text).strip()
    text = re.sub(r" ([?.,!;])", r"\1", text)
    if voice.chance(0.25):
        for full, short in CONTRACTIONS:
            text = text.replace(full, short)
    if voice.chance(0.25):
        text = text.rstrip("?.!")
    if voice.chance(0.28):
        text = text.lower()
    elif voice.chance(0.1):
        text = uncapital(text)
    if not careful and voice.chance(0.06):
        text = typo(voice, text)
    return marks(voice, text)


def marks(voice: Voice, text: str) -> str:
    """Punctuation as people leave it out or overdo it."""
    if voice.chance(0.03):
        text = APOSTROPHE.sub(r"\1", text)
    if voice.chance(0.03):
        text = text.replace("?", "??") if voice.chance(0.5) else text.replace(".", "!")
    return text


def aside(voice: Voice, text: str) -> str:
    """The request with a word or two before its last mark: "..., please?", "... these days?"."""
    loose = text.endswith("?") and not re.search(r"\d|\bmy \[|[.;:\]>]. ", text)
    end = -2 if text.endswith((">?", ">.")) and text.count("<") == 1 else -1  # part of the query
    return f"{text[:end]} {voice.worded('loose aside' if loose else 'aside')}{text[end:]}"


def dressed(voice: Voice, text: str) -> str:
    """A request with a greeting in front or a courtesy behind, sometimes."""
    if voice.chance(0.22):
        hello = voice.worded("hello").rstrip() + " "
        low = hello.rstrip()[-1] in ",e:"
        text = hello + (uncapital(text) if low else text)
    if text.endswith(("?", ".")) and voice.chance(0.14):
        text = aside(voice, text)
    elif voice.chance(0.08):
        text = f"{text} {voice.worded('tail')}"
    return text

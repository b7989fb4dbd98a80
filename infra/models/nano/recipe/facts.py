"""The documents that look-ups find.

Owns the facts (topic, attribute, sentence, questions) read from `data/facts*.txt`, and turns them
into search results with distracting sentences and passages. Knows nothing of conversations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

from . import ranking
from .ranking import Passage, Sentence
from .topics import made_up, many, related, single
from .vocabulary import Voice, capital, lines, pools

ENDINGS = ["md", "md", "md", "md", "txt", "txt", "pdf", "docx", "html"]


@dataclass
class Attribute:
    """One thing that can be said about a topic."""

    low: int = 0
    high: int = 0
    step: int = 1
    units: list[str] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    alone: bool = False

    @property
    def priced(self) -> bool:
        """Whether the number is an amount of money."""
        return "{cur}" in self.sentences[0]

    @property
    def numeric(self) -> bool:
        """Whether the sentence carries a number to compute with."""
        return self.high > 0


@dataclass
class Kind:
    """A family of topics that share attributes."""

    name: str
    article: str = ""
    topics: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    attributes: list[Attribute] = field(default_factory=list)


@dataclass
class Fact:
    """One sentence of a document and what leads to it."""

    kind: Kind
    topic: str
    attribute: Attribute
    sentence: str
    number: str


@dataclass
class Found:
    """What a search finds: a fixed text or passages, and the sentence and file that answer.

    What is quoted are the sentences that the tool marks, if the one that answers is among them or
    `marked` is set, where they are the answer whatever they are.
    """

    text: str
    sentence: str = ""
    source: str = ""
    passages: list[Passage] = field(default_factory=list)
    marked: bool = False
    quote: str = ""

    def result(self, voice: Voice, query: str) -> str:
        """What the tool returns for this query."""
        if not self.passages:
            return self.text
        self.text = voice.rank(query, self.passages)
        marked = ranking.highlights(self.text, self.source)
        trusted = self.marked or self.sentence in marked
        self.quote = " ".join(marked) if trusted else self.sentence
        return self.text


def parse_attribute(head: str) -> Attribute:
    """Read the part after ">": the number range and the units of follow-up questions."""
    out = Attribute()
    for part in head.split(" u=")[0].split():
        if part.startswith("n="):
            span, _, step = part[2:].partition("/")
            low, _, high = span.partition("-")
            out.low, out.high, out.step = int(low), int(high), int(step or 1)
        out.alone = out.alone or part == "alone"
    if "u=" in head:
        out.units = [u for u in head.split("u=")[1].strip().split(";") if u]
    return out


@cache
def kinds() -> list[Kind]:
    """Every family in the data files."""
    out: list[Kind] = []
    for line in lines("facts.txt") + lines("facts2.txt") + lines("facts3.txt"):
        mark, _, rest = line.partition(" ")
        if mark == "@":
            out.append(Kind(rest))
        elif mark == "article:":
            out[-1].article = "" if rest == "-" else rest + " "
        elif mark == "topics:":
            out[-1].topics = [topic.strip() for topic in rest.split(";")]
        elif mark == "heads:":
            out[-1].heads = [head.strip() for head in rest.split(";")]
        elif mark == ">":
            out[-1].attributes.append(parse_attribute(rest))
        elif mark in ("S:", "Q:", "E:"):
            attribute = out[-1].attributes[-1]
            target = {"S:": "sentences", "Q:": "questions", "E:": "embedded"}[mark]
            getattr(attribute, target).append(rest)
    return out


def topic_of(voice: Voice, kind: Kind) -> str:
    """A topic of the family, every second time one that is put together."""
    if kind.topics and voice.chance(0.5):
        return voice.of(kind.topics)
    return made_up(voice, kind.name, kind.heads)


def worded(voice: Voice, fact: Fact, options: list[str]) -> str:
    """One of the wordings that fit the topic (those with {s} need a plural), filled."""
    fits = [text for text in options if "{s}" not in text or fact.topic.endswith("s")]
    text = voice.expand(voice.rng.choice(fits), {"q": fact.topic, "s": single(fact.topic)})
    return text if text.startswith(("I ", "[")) else text[:1].lower() + text[1:]


def amount(voice: Voice, attribute: Attribute) -> str:
    """A number in the attribute's range."""
    value = voice.rng.randrange(attribute.low, attribute.high + 1, attribute.step)
    value = (
        max(attribute.low, value)
        if voice.chance(0.6)
        else (attribute.low + value % 60 // attribute.step * attribute.step)
    )
    if attribute.priced and attribute.high >= 500 and voice.chance(0.07):
        return f"{value}.{voice.rng.choice(['50', '5', '95', '99', '25', '90'])}"
    return str(value)


def state(voice: Voice, kind: Kind, topic: str, attribute: Attribute) -> Fact:
    """Put one attribute of a topic into a sentence."""
    number = amount(voice, attribute) if attribute.numeric else ""
    slots = {"t": kind.article + topic, "q": topic, "n": number}
    sentence = voice.expand(voice.rng.choice(attribute.sentences), slots)
    if voice.chance(0.08):
        lead = voice.worded("lead") + " "
        first = sentence.split()[0]
        keep = first == "HR" or (first[1:2].isupper() or first in names())
        sentence = lead + (sentence if keep else sentence[:1].lower() + sentence[1:])
    if voice.chance(0.08):
        trail = voice.worded("trail")
        sentence = sentence.rstrip(".") + ("" if trail[0] == "," else " ") + trail + "."
    sentence = " ".join(sentence.replace(" a a ", " a ").split()).replace(" .", ".")
    return Fact(kind, topic, attribute, capital(sentence), number)


@cache
def names() -> set[str]:
    """Words that keep their capital inside a sentence."""
    out = {person.split()[0] for person in pools()["person"]}
    return out | {"Slack", "Jira", "Workday", "Oslo", "Munich", "Lisbon"}


def draw(voice: Voice, numeric: bool = False) -> Fact:
    """A random fact; `numeric` asks for one to compute with."""
    while True:
        kind = voice.rng.choice(kinds())
        fits = [a for a in kind.attributes if a.numeric or not numeric]
        if fits:
            return state(voice, kind, topic_of(voice, kind), voice.rng.choice(fits))


def noun(voice: Voice, numeric: bool = False) -> tuple[Fact, str]:
    """A fact that can be asked for with a noun phrase, and the phrase."""
    while True:
        fact = draw(voice, numeric)
        options = [e for e in fact.attribute.embedded if e.startswith("the ")]
        if options:
            return fact, worded(voice, fact, options)


def filename(voice: Voice) -> str:
    """A source file."""
    if voice.odd and voice.chance(0.06):
        stem = voice.strange() or voice.invented()
    elif voice.chance(0.06):
        stem = voice.invented() if voice.chance(0.5) else voice.pool("word")
    else:
        stem = voice.pool("filename")
    if voice.chance(0.06):
        stem += "_" + voice.rng.choice(["2024", "2025", "2026", "v2", "en", "draft", "final"])
    return f"{stem}.{voice.rng.choice(ENDINGS)}"


def filenames(voice: Voice, count: int) -> list[str]:
    """Different source files."""
    out: list[str] = []
    while len(out) < count:
        name = filename(voice)
        if name not in out:
            out.append(name)
    return out


def neighbours(voice: Voice, fact: Fact, count: int, numeric: bool = False) -> list[str]:
    """Other sentences about the same topic, none of which answers the same question."""
    if fact.attribute.alone:
        return []
    others = [a for a in fact.kind.attributes if a is not fact.attribute]
    others = [a for a in others if a.numeric or not numeric]
    voice.rng.shuffle(others)
    out = [state(voice, fact.kind, fact.topic, a).sentence for a in others[:count]]
    start = capital(fact.kind.article + fact.topic) + " "
    return [capital("it " + s[len(start) :]) if s.startswith(start) and voice.chance(0.4)
            and fact.kind.article else s for s in out]  # fmt: skip


def rival(voice: Voice, fact: Fact) -> Sentence:
    """A sentence about another topic, often with the very same attribute."""
    while voice.chance(0.3):
        other = draw(voice)
        if not related(fact.topic, other.sentence):
            return Sentence(other.sentence, "other")
    while True:
        topic = topic_of(voice, fact.kind)
        if not related(fact.topic, topic) and not related(topic, fact.topic):
            break
    attribute = fact.attribute if voice.chance(0.6) else voice.rng.choice(fact.kind.attributes)
    text = state(voice, fact.kind, topic, attribute).sentence
    return Sentence(text, "rival" if attribute is fact.attribute else "other")


def passage(voice: Voice, fact: Fact) -> list[Sentence]:
    """The passage that holds the answer."""
    extra = voice.rng.choice([0, 1, 1, 2, 2, 3])
    body: list[Sentence] = []
    if fact.number and voice.hard and voice.chance(voice.hard):
        count = voice.rng.choice([1, 2, 2])
        body += [Sentence(text, "near") for text in neighbours(voice, fact, count, numeric=True)]
    for _ in range(extra):
        roll = voice.rng.random()
        if roll < 0.65:
            body += [Sentence(text, "same topic") for text in neighbours(voice, fact, 1)]
        elif roll < 0.78:
            body.append(Sentence(voice.pool("filler"), "filler"))
        else:
            body.append(rival(voice, fact))
    if body and body[0].role == "near":
        voice.rng.shuffle(body)
    body = clear(fact, list(dict.fromkeys(body)))
    at = voice.rng.randint(0, len(body))
    sentence = fact.sentence
    start = capital(fact.kind.article + fact.topic) + " "
    about = at > 0 and related(fact.topic, body[at - 1].text)
    if about and fact.kind.article and sentence.startswith(start) and voice.chance(0.3):
        sentence = "It " + sentence[len(start) :]
    return [*body[:at], Sentence(sentence, "answer"), *body[at:]]


def clear(fact: Fact, body: list[Sentence]) -> list[Sentence]:
    """Sentences where every "It" follows one about the topic; the others name the topic."""
    start = capital(fact.kind.article + fact.topic)
    out: list[Sentence] = []
    for one in body:
        text = one.text
        if text.startswith("It ") and not (out and related(fact.topic, out[-1].text)):
            text = start + text[2:]
        out.append(Sentence(text, one.role))
    return out


def other_passage(voice: Voice, fact: Fact) -> list[Sentence]:
    """A passage that does not answer."""
    count = voice.rng.choice([1, 1, 1, 2])
    return [
        Sentence(voice.pool("filler"), "filler")
        if index and voice.chance(0.2)
        else rival(voice, fact)
        for index in range(count)
    ]


def search(voice: Voice, fact: Fact, missing: bool = False) -> Found:
    """What the tool returns for a question about the fact."""
    total = voice.rng.choice([1, 1, 2, 2, 2, 3, 3])
    place = voice.rng.randrange(total)
    files = filenames(voice, total)
    found = Found("")
    for index, file in enumerate(files):
        if index == place and not missing:
            found.passages.append(headed(voice, fact, file, passage(voice, fact)))
            found.source = file
            found.sentence = next(
                s.text for s in found.passages[-1].sentences if s.role == "answer"
            )
        else:
            found.passages.append(headed(voice, fact, file, other_passage(voice, fact)))
    return found


def headed(voice: Voice, fact: Fact, file: str, sentences: list[Sentence]) -> Passage:
    """A passage, sometimes with a heading: what it is about, or something like a file's name."""
    heading = ""
    if voice.chance(0.12) and sentences[0].role in ("answer", "same topic", "near"):
        heading = many(fact.topic.split(" ")[-1]) if voice.chance(0.6) else fact.topic
    elif voice.chance(0.15):
        heading = re.sub(r"[-_]", " ", voice.pool("filename"))
    return Passage(file, sentences, capital(heading))

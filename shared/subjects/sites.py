"""Sites: what one keeps of another one, and what it sends there. Decision record 0044.

A site is a system of its own: its facts are in its own RUNS, and only its own services act on
them. A hub keeps a copy of the facts of each of its sites, in the same stream, under the site's
name where its own have a partition. No service owns a partition of that name, so nobody acts on a
copy; whoever reads all partitions (the ledger, budgets) reads the copies too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.contracts.base import SessionRef, check_token
from shared.errors import Permanent
from shared.subjects.addresses import BLOBS, DAY, PARTITIONS, RUNS
from shared.subjects.streams import Stream

SOURCE_HEADER = "Nats-Stream-Source"
"""Where the server says what a copy is of: stream, sequence there, and how it was renamed."""


_CREATED = "$JSC.R.>"
"""Answers to the creation of consumers, of all links; they hold no message."""


@dataclass(frozen=True, slots=True)
class Source:
    """A stream of another domain, and what its subjects are renamed to on the way.

    `delivered` begins the subjects on which its messages come over the link.
    """

    stream: str
    domain: str
    delivered: str
    subjects: str = ""
    renamed: str = ""

    def config(self) -> dict[str, object]:
        """The server's configuration of a source."""
        renaming = {"src": self.subjects, "dest": self.renamed}
        return {
            "name": self.stream,
            "external": {"api": f"$JS.{self.domain}.API", "deliver": self.delivered},
            **({"subject_transforms": [renaming]} if self.subjects else {}),
        }


def check_site(name: str) -> str:
    """The name of a site, which is also its JetStream domain.

    Raises:
        Permanent: `invalid_name`: no token, or a number, which would be a partition.
    """
    check_token(name, "site")
    if name.isdecimal():
        raise Permanent("invalid_name", f"{name!r} would be a partition; name it", field="site")
    return name


SITE_PREFIX = "site-"


def site_user(site: str) -> str:
    """The user as which a site's server joins its hub.

    Raises:
        Permanent: `invalid_name`.
    """
    return f"{SITE_PREFIX}{check_site(site)}"


def site_of(subject: str) -> str:
    """The site whose fact this is a copy of; empty for a fact of our own."""
    place = subject.split(".", 2)[1:2]
    return place[0] if subject.startswith("run.") and place and not place[0].isdecimal() else ""


def copies_filter(site: str) -> str:
    """All facts of a site, as its hub keeps them."""
    return f"run.{check_site(site)}.>"


def copy_filter(site: str, ref: SessionRef) -> str:
    """The facts of one session of a site, as its hub keeps them."""
    return f"run.{check_site(site)}.{ref.tenant}.{ref.session}.>"


def origin_sequence(headers: Mapping[str, str]) -> int | None:
    """The sequence of a copied message in the stream that it comes from."""
    fields = headers.get(SOURCE_HEADER, "").split(" ")
    return int(fields[1]) if len(fields) > 1 and fields[1].isdecimal() else None


def outbox_name(site: str) -> str:
    """The hub's stream of what is for a site."""
    return f"SITE_{check_site(site)}"


def outbox(site: str) -> Stream:
    """What clients of the hub want done at a site: kept until the site has had time to fetch it.

    A stream for each site, so that a site can be allowed to read its own and no other one.
    """
    name = outbox_name(site)
    return Stream(name, (f"site.{site}.tasks.*.*.*",), max_age=30 * DAY)


def site_task_subject(site: str, ref: SessionRef, agent: str) -> str:
    """Where clients of the hub publish a task for a site.

    Raises:
        Permanent: `invalid_name` for a site, tenant, agent or session that is not a token.
    """
    for value, field in ((ref.tenant, "tenant"), (agent, "agent"), (ref.session, "session")):
        check_token(value, field)
    return f"site.{check_site(site)}.tasks.{ref.tenant}.{agent}.{ref.session}"


def copied(site: str) -> dict[str, Source]:
    """What the hub's streams take from a site: its facts, and the large bodies of those."""
    renamed = f"run.{check_site(site)}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}.>"
    up = _delivered(site, "up")
    return {RUNS: Source(RUNS, site, up, "run.*.*.*.>", renamed), BLOBS: Source(BLOBS, site, up)}


def fetched(site: str, hub: str) -> dict[str, Source]:
    """What a site's streams take from the hub: tasks, as if they had been published at the site."""
    renamed = (
        f"run.{{{{partition({PARTITIONS},1,3)}}}}"
        ".{{wildcard(1)}}.{{wildcard(3)}}.task.{{wildcard(2)}}"
    )
    down, subjects = _delivered(site, "down"), f"site.{site}.tasks.*.*.*"
    return {RUNS: Source(outbox_name(site), check_site(hub), down, subjects, renamed)}


def _delivered(site: str, way: str) -> str:
    """A place of the link's own: the server's, `$JS.S.>`, is one for all links, for all to hear."""
    return f"link.{check_site(site)}.{way}"


@dataclass(frozen=True, slots=True)
class LinkPermissions:
    """What may cross a site's link, as its hub enforces it: `publish` is what the site sends."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def link_permissions(site: str, hub: str) -> LinkPermissions:
    """Each side may make the other one's consumers for its sources, and is sent their messages.

    Measured to be enough on server 2.15: `$JSC.R` is the answer to the creation, `$JS.FC` that of
    the delivery's flow control. No other API, no subject of a client, and no other site's messages.
    """
    box = outbox_name(site)
    taken = tuple(subject for stream in copied(site) for subject in _feeding(site, stream))
    sent = (*_feeding(check_site(hub), box), f"{_delivered(site, 'up')}.>")
    received = (*taken, f"{_delivered(site, 'down')}.>")
    return LinkPermissions((*sent, _CREATED), (*received, _CREATED))


def _feeding(domain: str, stream: str) -> tuple[str, ...]:
    """What a source of this stream asks of its domain; the filter, if any, is the subject's end."""
    create = f"$JS.{domain}.API.CONSUMER.CREATE.{stream}"
    return (create, f"{create}.>", f"$JS.FC.{stream}.>")

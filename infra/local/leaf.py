"""Leaf nodes: the part of a server's configuration that joins two sites. Pure text.

The hub accepts a site as a user that may log in over a leaf node alone, and may send and receive
what the copies need and nothing else (`shared.subjects.sites`). The site needs no permission of its
own: what it may do is the hub's to say. Without that rule a task published at one site would run at
both, because a leaf node carries whatever anybody on the other side listens to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson

from infra.local.servers import Joined
from shared.subjects.sites import check_site, link_permissions

SITE_USER = "system"
"""Whom the hub's own programs log in as."""


def hub(name: str, token: str, port: int, sites: Mapping[str, str]) -> Joined:
    """The hub: `sites` are the passwords of those that may join, by their names.

    It advertises no address: a site that was told of it would find a way around a link that is cut.
    """
    own = f"    {{ user: {SITE_USER}, password: {_quoted(token)} }}"
    others = (_site_user(name, site, password) for site, password in sites.items())
    users = "\n".join((own, *others))
    return Joined(
        domain=check_site(name),
        security=f"authorization {{\n  users: [\n{users}\n  ]\n}}\n",
        user=SITE_USER,
        links=f'leafnodes {{ listen: "127.0.0.1:{port}", no_advertise: true }}\n',
    )


def site(name: str, password: str, port: int) -> Joined:
    """A site whose hub listens on a port of this machine."""
    url = f"nats-leaf://{check_site(name)}:{password}@127.0.0.1:{port}"
    return Joined(domain=name, links=f"leafnodes {{ remotes: [{{ url: {_quoted(url)} }}] }}\n")


def _site_user(hub_name: str, name: str, password: str) -> str:
    allowed = link_permissions(name, hub_name)
    return f"""    {{
      user: {_quoted(name)}, password: {_quoted(password)}
      allowed_connection_types: [LEAFNODE]
      permissions: {{
        publish: {{ allow: {_list(allowed.publish)} }}
        subscribe: {{ allow: {_list(allowed.subscribe)} }}
      }}
    }}"""


def _list(subjects: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, subjects))}]"


def _quoted(value: str) -> str:
    return orjson.dumps(value).decode()

"""Locust's side: who is spawned, how many of them, and when."""

from __future__ import annotations

from locust import LoadTestShape, User, task
from locust.env import Environment

from loadtests.drive.desk import Desk
from loadtests.operations import OPERATIONS, Way
from loadtests.profiles import Profile
from loadtests.shapes import users_at

_SPAWN_RATE = 100.0
"""Clients a second: the curve says how many there are, and Locust warns above this."""


class LoadEnvironment(Environment):
    """Locust's environment of one run, with the desk at which its users enlist."""

    def __init__(self, desk: Desk, users: list[type[User]], shape: LoadTestShape) -> None:
        super().__init__(
            user_classes=users,
            shape_class=shape,
            host=desk.plan.url,
            stop_timeout=120.0,
            profile=desk.plan.profile.name,
        )
        self.desk = desk


class _Asking(User):
    abstract = True
    way: Way

    def __init__(self, environment: LoadEnvironment) -> None:
        super().__init__(environment)
        self._pause = environment.desk.plan.profile.pause
        self._client = environment.desk.client(self.way)

    def wait_time(self) -> float:
        """Seconds between two operations."""
        return self._pause

    @task
    def next_operation(self) -> None:
        """The next one of the mix."""
        self._client.next()

    def on_stop(self) -> None:
        """Locust has told it to go."""
        self._client.leave()


class NatsUser(_Asking):
    """Publishes tasks and follows them."""

    abstract = False
    way = "nats"


class HttpUser(_Asking):
    """Uses every face of the ingress."""

    abstract = False
    way = "http"


def user_classes(profile: Profile) -> list[type[User]]:
    """Those that the mix needs, weighted by their part of it."""
    for kind in (NatsUser, HttpUser):
        kind.weight = sum(
            weight for name, weight in profile.mix.items() if OPERATIONS[name].way == kind.way
        )
    return [kind for kind in (NatsUser, HttpUser) if kind.weight]


class Curve(LoadTestShape):
    """The profile's curve, asked by Locust every second."""

    abstract = False

    def __init__(self, profile: Profile) -> None:
        super().__init__()
        self._profile = profile
        self.most = 0
        """The most clients that were asked for."""

    def tick(self) -> tuple[int, float] | None:
        """How many clients there are to be now; none: the end."""
        profile = self._profile
        now = users_at(profile.curve, profile.users, profile.seconds, self.get_run_time())
        if now is None:
            return None
        self.most = max(self.most, now)
        return now, _SPAWN_RATE

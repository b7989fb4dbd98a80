"""The three phases of a run: one client alone, the load, one client alone again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
from locust.html import get_html_report
from locust.stats import stats_history

from loadtests.drive.desk import Client, Desk
from loadtests.drive.users import Curve, LoadEnvironment, user_classes
from loadtests.figures import Book
from loadtests.plan import Bare, Phase
from shared.clock import monotonic
from shared.errors import MillraceError

_WARM, _PINGS, _PING_EVERY, _TOLD_EVERY = 5, 20, 1.0, 10.0


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stderr.write(f"load: {text}\n")
    sys.stderr.flush()


def floor(desk: Desk) -> Phase:
    """Each operation by one client alone. The first time of each counts only where it fails."""
    client = desk.client()
    with _phase(desk) as phase:
        for number in range(_PINGS + _WARM):
            _ping(desk, client, Bare() if number < _WARM else phase.bare)
        for operation in desk.plan.profile.mix:
            desk.book = warm = Book()
            client.do(operation)
            desk.book = phase.book
            if warm.whole(operation).failed_count:
                phase.book.of(operation, client.tenant).merge(warm.whole(operation))
            for _ in range(desk.plan.profile.samples):
                client.do(operation)
        client.leave()
    return phase


class Load:
    """Locust's part of a run."""

    def __init__(self, desk: Desk) -> None:
        profile = desk.plan.profile
        self._desk = desk
        self._curve = Curve(profile)
        self._environment = LoadEnvironment(desk, user_classes(profile), self._curve)
        self._runner = self._environment.create_local_runner()

    @property
    def users(self) -> int:
        """The most clients at the same time."""
        return self._curve.most

    @property
    def crashes(self) -> tuple[str, ...]:
        """Errors of ours that Locust caught: an operation that fails raises none."""
        found = self._runner.exceptions.values()
        return tuple(f"{crash['msg']} ({crash['count']} times)" for crash in found)

    def run(self) -> Phase:
        """Follow the curve to its end; whoever is in the middle of something finishes it."""
        self._desk.report_to(self._environment)
        watcher = self._desk.client()
        with _phase(self._desk) as phase:
            beside = [
                gevent.spawn(stats_history, self._runner),
                gevent.spawn(self._ping_for_ever, watcher, phase.bare),
                gevent.spawn(self._tell_for_ever, phase),
            ]
            self._runner.start_shape()
            curve = self._runner.shape_greenlet
            if curve is not None:
                curve.join()
        gevent.killall(beside)
        watcher.leave()
        return phase

    def html(self) -> str:
        """Locust's own report."""
        return str(get_html_report(self._environment, show_download_link=False))

    def close(self) -> None:
        """End what Locust has running beside."""
        self._runner.quit()

    def _ping_for_ever(self, client: Client, bare: Bare) -> None:
        while True:
            _ping(self._desk, client, bare)
            gevent.sleep(_PING_EVERY)

    def _tell_for_ever(self, phase: Phase) -> None:
        begun = monotonic()
        while True:
            gevent.sleep(_TOLD_EVERY)
            found = [phase.book.whole(operation) for operation in phase.book.figures]
            done = sum(figures.count for figures in found)
            failed = sum(figures.failed_count for figures in found)
            seconds, users = monotonic() - begun, self._runner.user_count
            say(f"{seconds:4.0f} s: {users} clients, {done} operations, {failed} failed")


def _ping(desk: Desk, client: Client, bare: Bare) -> None:
    try:
        bare.http.add(client.visitor.ping())
        if desk.wire is not None:
            begun = monotonic()
            seconds = desk.bridge.call(desk.wire.ping())
            bare.nats.add(seconds)
            bare.bridge.add(monotonic() - begun - seconds)
    except MillraceError:
        return  # the system is away: the operations tell


@contextmanager
def _phase(desk: Desk) -> Iterator[Phase]:
    phase = Phase()
    desk.book = phase.book
    begun, cpu = monotonic(), _cpu()
    yield phase
    phase.seconds, phase.cpu = monotonic() - begun, _cpu() - cpu


def _cpu() -> float:
    times = os.times()
    return times.user + times.system

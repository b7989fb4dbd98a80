"""What a client does over HTTP: one method for each operation, each checked to its last event."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import count

from loadtests import answers
from loadtests.documents import query_of, text_of
from loadtests.drive.http import Http
from loadtests.plan import Plan, Tenant
from loadtests.questions import Question
from loadtests.took import Stopwatch, Took
from shared.clock import monotonic
from shared.errors import Permanent

_COLLECTION = "load"
_WAIT = {"Prefer": "wait=60"}
_PATIENCE = 90.0
Watch = Callable[[str, str], None]
"""Told of every task that was made: tenant and task."""


class Visitor:
    """One client with a connection of its own, in the name of a tenant."""

    def __init__(self, plan: Plan, tenant: Tenant, number: int, watch: Watch) -> None:
        self._plan = plan
        self._tenant = tenant
        self._watch = watch
        self._number = number
        self._name = f"{plan.run}-{number}"
        self._turns = count(number)
        self._sessions = count()
        self._stored, self._sequence = "", 0
        self._http = Http(plan.url, _headers(tenant), _PATIENCE)
        self._does: Mapping[str, Callable[[], Took]] = {
            "chat": self._chat,
            "chat_stream": self._chat_stream,
            "agent_stream": self._agent_stream,
            "task_wait": self._task_wait,
            "task_events": self._task_events,
            "response": self._response,
            "response_background": self._response_background,
            "messages": self._messages,
            "embeddings": self._embeddings,
            "upsert": self._upsert,
            "search": self._search,
        }

    def do(self, operation: str) -> Took:
        """Do it once, and check it.

        Raises:
            Permanent: what is wrong with the answer.
            Transient: `refused`.
        """
        return self._does[operation]()

    def ping(self) -> float:
        """Seconds of a round trip with nothing in it."""
        begun = monotonic()
        self._http.ask("GET", "/healthz")
        return monotonic() - begun

    def leave(self) -> None:
        """Take one's document along, and close the connection."""
        try:
            if self._sequence:
                self._http.ask("DELETE", self._path)
        finally:
            self._http.close()

    @property
    def _path(self) -> str:
        return f"/v1/collections/{_COLLECTION}/documents/{self._name}"

    def _next(self, among: tuple[Question, ...]) -> Question:
        return among[next(self._turns) % len(among)]

    def _body(self, question: Question, *, agent: bool) -> dict[str, object]:
        asked = self._plan.questions
        model = f"agent:{asked.agent_name}" if agent else asked.route
        return {"model": model, "messages": [{"role": "user", "content": question.ask}]}

    def _chat(self) -> Took:
        question = self._next(self._plan.questions.chat)
        begun = monotonic()
        body = self._http.ask("POST", "/v1/chat/completions", self._body(question, agent=False))
        ended = monotonic()
        found = answers.read(body, answers.Completion)
        if len(found.choices) != 1:
            raise Permanent("wrong_answer", f"{len(found.choices)} choices, not one")
        choice = found.choices[0]
        answers.check_end("finish_reason", choice.finish_reason, "stop", "length")
        answers.check_text(question, choice.message.content or "")
        return Took(ended - begun, tokens=found.usage.completion_tokens)

    def _chat_stream(self) -> Took:
        return self._stream(self._next(self._plan.questions.chat), agent=False)

    def _agent_stream(self) -> Took:
        return self._stream(self._next(self._plan.questions.agent), agent=True)

    def _stream(self, question: Question, *, agent: bool) -> Took:
        more: dict[str, object] = {"stream": True, "stream_options": {"include_usage": True}}
        if agent:
            more["metadata"] = {"session": self._session()}
        body = self._body(question, agent=agent) | more
        watch, stream = Stopwatch(monotonic()), answers.ChatStream()
        with closing(self._http.events("POST", "/v1/chat/completions", body)) as events:
            for moment, event in events:
                if stream.take(event.data):
                    watch.piece(moment)
        ended = monotonic()
        if stream.task:
            self._watch(self._tenant.name, stream.task)
        stream.close()
        answers.check_text(question, stream.text)
        return watch.took(ended, stream.tokens)

    def _task(self, question: Question) -> dict[str, object]:
        agent, session = self._plan.questions.agent_name, self._session()
        return {"agent": agent, "session": session, "input": question.ask}

    def _session(self) -> str:
        return f"{self._name}-{next(self._sessions)}"

    def _task_wait(self) -> Took:
        question = self._next(self._plan.questions.agent)
        begun = monotonic()
        body = self._http.ask("POST", "/v1/tasks", self._task(question), _WAIT)
        ended = monotonic()
        found = answers.read(body, answers.TaskEnd)
        self._watch(self._tenant.name, found.task)
        answers.check_end("state", found.state, "completed")
        answers.check_text(question, found.output)
        return Took(ended - begun, tokens=found.totals.usage.output, steps=found.totals.steps)

    def _task_events(self) -> Took:
        question = self._next(self._plan.questions.agent)
        watch, stream = Stopwatch(monotonic()), answers.TaskStream()
        body = self._http.ask("POST", "/v1/tasks", self._task(question))
        accepted = answers.read(body, answers.TaskAccepted)
        self._watch(self._tenant.name, accepted.task)
        with closing(self._http.events("GET", accepted.events)) as events:
            for moment, event in events:
                if stream.take(event.name, event.data):
                    watch.piece(moment)
        ended = monotonic()
        end = stream.close()
        answers.check_text(question, end.output)
        return watch.took(ended, end.totals.usage.output, end.totals.steps)

    def _asks_response(self, question: Question) -> dict[str, object]:
        return {"model": f"agent:{self._plan.questions.agent_name}", "input": question.ask}

    def _response(self) -> Took:
        question = self._next(self._plan.questions.agent)
        begun = monotonic()
        body = self._http.ask("POST", "/v1/responses", self._asks_response(question))
        ended = monotonic()
        found = answers.read(body, answers.Response)
        return self._responded(question, found, Took(ended - begun))

    def _response_background(self) -> Took:
        question = self._next(self._plan.questions.agent)
        asks = self._asks_response(question) | {"background": True}
        watch, stream = Stopwatch(monotonic()), answers.ResponseStream()
        begun = answers.read(self._http.ask("POST", "/v1/responses", asks), answers.Response)
        path = f"/v1/responses/{begun.id}?stream=true"
        with closing(self._http.events("GET", path)) as events:
            for moment, event in events:
                if stream.take(event.data):
                    watch.piece(moment)
        ended = monotonic()
        return self._responded(question, stream.close(), watch.took(ended))

    def _responded(self, question: Question, found: answers.Response, took: Took) -> Took:
        answers.check_end("status", found.status, "completed")
        answers.check_text(question, found.text)
        tokens = found.usage.output_tokens if found.usage else 0
        return Took(took.seconds, took.first, took.gap, tokens)

    def _messages(self) -> Took:
        question = self._next(self._plan.questions.chat)
        body = self._body(question, agent=False) | {"max_tokens": 128}
        begun = monotonic()
        found = answers.read(self._http.ask("POST", "/v1/messages", body), answers.Message)
        ended = monotonic()
        answers.check_end("stop_reason", found.stop_reason, "end_turn", "max_tokens")
        answers.check_text(question, "".join(block.text for block in found.content))
        return Took(ended - begun, tokens=found.usage.output_tokens)

    def _embeddings(self) -> Took:
        text = f"what {self._name} says, number {next(self._turns)}"
        body = {"model": self._plan.questions.embedding_model, "input": text}
        begun = monotonic()
        answer = self._http.ask("POST", "/v1/embeddings", body)
        ended = monotonic()
        found = answers.read(answer, answers.Embeddings).data
        if len(found) != 1 or not math.hypot(*found[0].embedding) > 0:
            raise Permanent("wrong_answer", f"{len(found)} embeddings, or one that is zero")
        return Took(ended - begun)

    def _upsert(self) -> Took:
        text = text_of(self._number, next(self._turns))
        begun = monotonic()
        stored = answers.read(self._http.ask("PUT", self._path, {"text": text}), answers.Stored)
        ended = monotonic()
        if stored.document != self._name or stored.sequence <= self._sequence:
            raise Permanent("wrong_answer", "another document was stored, or an older one")
        self._stored, self._sequence = text, stored.sequence
        return Took(ended - begun)

    def _search(self) -> Took:
        if not self._sequence:
            self._upsert()
        query = query_of(self._number)
        body = {"query": query, "limit": 5, "min_seq": self._sequence}
        begun = monotonic()
        answer = self._http.ask("POST", f"/v1/collections/{_COLLECTION}/search", body)
        ended = monotonic()
        results = answers.read(answer, answers.Found).results
        own = [found.text for found in results if found.document == self._name]
        if not own:
            raise Permanent("wrong_answer", "the client's own document was not found")
        if self._stored not in own:
            raise Permanent("wrong_answer", "the client's document was found as it was before")
        return Took(ended - begun)


def _headers(tenant: Tenant) -> dict[str, str]:
    if tenant.key:
        return {"Authorization": f"Bearer {tenant.key}"}
    return {"X-Millrace-Tenant": tenant.name}

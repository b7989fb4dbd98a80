"""`/v1/usage`, `/v1/requests` and the lists over the ledger's own answers."""

from __future__ import annotations

import csv
import io

import httpx
import pytest

from services.ingress.core.books.usage import usage_csv
from shared.contracts.facts import Usage
from shared.contracts.ledger import UsageReply, UsageSummary
from shared.models import micro_cents
from tests.fakes.ledger_log import START, billed, eventful

ACME = {"X-Millrace-Tenant": "acme"}


async def test_usage_is_grouped_by_several_names_at_once(http: httpx.AsyncClient) -> None:
    body = (await http.get("/v1/usage", params={"by": "agent,model"})).json()
    usage, price = billed(eventful(), "default")
    assert body["by"] == ["agent", "model"]
    assert [(row["agent"], row["model"], row["calls"]) for row in body["rows"]] == [
        ("assistant", "nano", 3),
        ("", "nano", 2),
    ]
    total = body["total"]
    assert (total["input_tokens"], total["output_tokens"]) == (usage.input, usage.output)
    assert (total["price"], micro_cents(total["cost"])) == (price, price)
    assert (body["currency"], body["sequence"], body["more"]) == ("EUR", eventful()[-1].seq, False)
    assert total["latency"]["max_ms"] == 40.0


async def test_a_tenant_sees_its_own_and_nothing_else(http: httpx.AsyncClient) -> None:
    usage = (await http.get("/v1/usage", params={"by": "tenant"}, headers=ACME)).json()
    assert [row["tenant"] for row in usage["rows"]] == ["acme"]
    tasks = (await http.get("/v1/tasks", headers=ACME)).json()["tasks"]
    assert [task["task"] for task in tasks] == ["t1"]
    gone = await http.get("/v1/requests/d1", headers=ACME)
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_request")


async def test_usage_pages_and_filters(http: httpx.AsyncClient) -> None:
    first = (await http.get("/v1/usage", params={"by": "task", "limit": 1})).json()
    assert (len(first["rows"]), first["more"]) == (1, True)
    assert first["total"]["calls"] == 5
    rest = (await http.get("/v1/usage", params={"by": "task", "offset": 1})).json()
    assert (len(rest["rows"]), rest["more"]) == (3, False)
    none = (await http.get("/v1/usage", params={"since": "2199-01-01"})).json()
    assert (none["rows"], none["total"]["calls"], none["total"]["cost"]) == ([], 0, "0.00")


async def test_usage_as_csv_adds_up(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/usage?by=day,model", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(int(row["price"]) for row in rows) == billed(eventful(), "default")[1]
    assert {row["currency"] for row in rows} == {"EUR"}


def test_a_name_is_no_formula_of_a_spreadsheet() -> None:
    row = UsageSummary(key="=1+1", calls=1, usage=Usage(), names={"model": "=1+1"})
    text = usage_csv(UsageReply(rows=(row,)), ("model",), "USD")
    assert "'=1+1" in text


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/usage?by=agent,colour", "by"),
        ("/v1/usage?by=", "by"),
        ("/v1/usage?since=yesterday", "since"),
        ("/v1/usage?limit=0", "limit"),
        ("/v1/requests?status=lost", "status"),
        ("/v1/sessions?before=-1", "before"),
        ("/v1/tasks?since=never", "since"),
    ],
)
async def test_what_is_wrong_is_named(http: httpx.AsyncClient, path: str, field: str) -> None:
    answer = await http.get(path)
    assert answer.status_code in (400, 422), answer.text
    assert field in answer.json()["field"]


async def test_the_request_log_pages_from_new_to_old(http: httpx.AsyncClient) -> None:
    seen: list[str] = []
    before: int | None = 0
    while before is not None:
        body = (await http.get("/v1/requests", params={"limit": 2, "before": before})).json()
        seen += [line["id"] for line in body["requests"]]
        before = body["next"]
    assert seen == ["d2", "d1", "t3", "t2", "t1"]


async def test_a_request_has_everything_that_it_cost(http: httpx.AsyncClient) -> None:
    line = (await http.get("/v1/requests/t1")).json()
    assert (line["kind"], line["status"], line["price"]) == ("task", "completed", 3_000)
    assert (line["cost"], line["currency"]) == ("0.00003", "EUR")
    assert line["usage"] == {"input": 200, "cached": 128, "output": 20}
    slow = (await http.get("/v1/requests", params={"min_ms": 500, "agent": "assistant"})).json()
    assert [one["id"] for one in slow["requests"]] == ["t3"]


async def test_tasks_and_sessions_are_listed(http: httpx.AsyncClient) -> None:
    tasks = (await http.get("/v1/tasks", params={"until": START + 1.5, "limit": 2})).json()
    assert [task["task"] for task in tasks["tasks"]] == ["t2", "t1"]
    assert tasks["next"] == tasks["tasks"][-1]["sequence"]
    sessions = (await http.get("/v1/sessions", params={"state": "running"})).json()
    assert [(one["session"], one["tasks"]) for one in sessions["sessions"]] == [("s1", 3)]
    assert sessions["next"] is None


async def test_a_client_reads_what_it_wrote_or_is_told_to_come_again(
    http: httpx.AsyncClient,
) -> None:
    last = eventful()[-1].seq
    assert (await http.get("/v1/usage", params={"min_seq": last - 1})).status_code == 200
    soon = await http.get("/v1/usage", params={"min_seq": last}, headers={"Prefer": "wait=0"})
    assert (soon.status_code, soon.json()["code"]) == (503, "ledger_behind")
    assert soon.headers["retry-after"] == "1"


async def test_nobody_waits_for_what_nobody_wrote(http: httpx.AsyncClient) -> None:
    never = await http.get("/v1/requests", params={"min_seq": eventful()[-1].seq + 1})
    assert (never.json()["code"], never.json()["field"]) == ("invalid_cursor", "min_seq")
    assert never.status_code in (400, 422)

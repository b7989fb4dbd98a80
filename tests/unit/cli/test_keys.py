"""`millrace keys`: the secret is shown once, and nothing that is kept of it."""

from __future__ import annotations

from shared.contracts.facts import Usage
from shared.contracts.ledger import UsageReply, UsageSummary
from tests.unit.cli.conftest import Cli


def test_the_first_key_is_made_here(cli: Cli) -> None:
    made = cli("keys", "create", "--admin", "--name", "root", "--json")
    assert made.code == 0
    assert made.json()["key"].startswith("mr_")
    assert made.json()["scopes"] == ["admin"]
    shown = cli("keys", "show", made.json()["id"], "--json")
    assert "digest" not in shown.out
    assert made.json()["key"] not in cli("keys", "ls").out
    assert "root" in cli("keys", "ls").out


def test_a_key_is_rotated_and_revoked(cli: Cli) -> None:
    key = cli("keys", "create", "--expires", "30d", "--model", "agent:*", "--json").json()
    turned = cli("keys", "rotate", key["id"], "--overlap", "1h")
    assert turned.code == 0
    assert turned.out.strip() != key["key"]
    assert cli("keys", "revoke", key["id"], "--json").json()["state"] == "revoked"
    unknown = cli("keys", "revoke", "nobody")
    assert unknown.code == 1
    assert "unknown_key" in unknown.err


def test_a_tenants_limits_are_set(cli: Cli) -> None:
    assert cli("keys", "limits", "--requests", "60").code == 0
    assert cli.system.keys.store.allowances["default"].requests_per_minute == 60


def test_budgets_are_amounts_of_money_and_what_is_spent_of_them_is_shown(cli: Cli) -> None:
    made = cli("keys", "create", "--budget-day", "0.5", "--streams", "3", "--json").json()
    assert made["allowance"]["budget_per_day"] == 50_000_000
    assert made["allowance"]["max_streams"] == 3
    row = UsageSummary(
        key=made["id"], calls=2, usage=Usage(), price=12_500_000, names={"key": made["id"]}
    )
    cli.system.used = UsageReply(rows=(row,))
    assert "0.125 of 0.50" in cli("keys", "ls").out
    (shown,) = cli("keys", "ls", "--json").json()
    assert shown["spent"] == {"day": 12_500_000, "month": 12_500_000}
    assert cli.system.queries[-1].since.endswith("-01"), "a month begins on its first day"

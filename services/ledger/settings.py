"""Settings of the ledger, read once in `__main__`."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr

from shared.settings import BusSettings

_PLAIN = re.compile(r"^postgres(ql)?://")
"""How everybody else writes it, without our driver."""


class LedgerSettings(BusSettings):
    """Where the ledger's database is."""

    database_url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL; unset: SQLite in the data folder"
    )

    def url(self) -> str:
        """The database to use."""
        if self.database_url is not None:
            return _PLAIN.sub("postgresql+asyncpg://", self.database_url.get_secret_value())
        return f"sqlite+aiosqlite:///{self.data / 'ledger.db'}"

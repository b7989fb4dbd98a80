"""Settings of the ledger, read once in `__main__`."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import BusSettings


class LedgerSettings(BusSettings):
    """Where the ledger's database is."""

    database_url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL; unset: SQLite in the data folder"
    )

    def url(self) -> str:
        """The database to use."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.data / 'ledger.db'}"

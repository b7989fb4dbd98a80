"""The settings of the retrieval service, read once in `__main__`."""

from __future__ import annotations

from pydantic import Field, SecretStr

from shared.settings import BusSettings


class RetrievalSettings(BusSettings):
    """Where the index is and how documents are cut."""

    milvus_uri: str | None = Field(
        default=None, description="unset: Milvus Lite in the data folder"
    )
    milvus_token: SecretStr | None = Field(default=None, description="user:password, where needed")
    chunk_tokens: int = Field(default=60, ge=16, le=240, description="largest passage, in tokens")

    @property
    def index_uri(self) -> str:
        """The database: a server, or a file of this machine."""
        return self.milvus_uri or str(self.data / "milvus.db")

"""Tables of price books: immutable, effective-dated versions of imported cost maps. Storage only."""

from datetime import datetime

from sqlalchemy import Column, LargeBinary
from sqlmodel import Field, SQLModel

from service.db import columns


class PriceBookVersion(SQLModel, table=True):
    """One imported cost map in compact form; never changed after insertion.

    tenant_id "" = the book of the whole installation; an event is priced by the version in force at its occurred_at.
    """

    __tablename__ = "price_book_version"

    tenant_id: str = Field(sa_column=columns.text(primary_key=True))
    version: str = Field(sa_column=columns.text(primary_key=True))
    effective_from: datetime = Field(sa_column=columns.timestamp())
    imported_at: datetime = Field(sa_column=columns.timestamp(server_default=columns.NOW))
    imported_by: str = Field(sa_column=columns.text())
    origin: str = Field(sa_column=columns.text())
    snapshot_gzip: bytes = Field(sa_column=Column(LargeBinary(), nullable=False))

"""Collects the tables of all slices for Alembic: every `service/<slice>/tables.py`, found by its name."""

import importlib
import pkgutil
from importlib.util import find_spec

from sqlalchemy import MetaData
from sqlmodel import SQLModel

import service


def target_metadata() -> MetaData:
    """Import every slice's tables and return the metadata they are registered in."""
    for found in pkgutil.iter_modules(service.__path__, prefix="service."):
        if found.ispkg and find_spec(f"{found.name}.tables") is not None:
            importlib.import_module(f"{found.name}.tables")
    return SQLModel.metadata

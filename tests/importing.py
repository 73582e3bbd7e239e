"""Runs imports as the command does, without its printing."""

from typing import Any, NamedTuple

from service.db.pools import Pools
from service.imports.commands import has_work, opened_importer
from service.imports.examination import Examination, ImportOrder, ImportOutcome
from service.imports.repository import importing
from service.imports.source_queries import open_source
from service.kit.yaml_text import load_yaml


class Imported(NamedTuple):
    examination: Examination
    outcome: ImportOutcome

    def details(self, topic: str, subject: str = "") -> list[str]:
        """Return what is said of a subject."""
        return [
            remark.detail for remark in self.examination.remarks if remark.topic == topic and subject in remark.subject
        ]


def _quiet(stage: str, more: int, total: int | None) -> None:
    del stage, more, total


async def run_import(
    pools: Pools, tenant_id: str, url: str, *, config: str | None = None, dry_run: bool = False, **order: Any
) -> Imported:
    """Import, and return what was found and what was written (nothing, where there was nothing to do)."""
    document = None if config is None else load_yaml(config, scalars_as_text=True)
    wanted = ImportOrder(tenant_id=tenant_id, author="test", **order)
    async with (
        opened_importer(pools, tenant_id) as importer,
        importing(pools.postgres, tenant_id) as lock,
        open_source(url) as source,
    ):
        examination = await importer.examine(source, document, wanted, _quiet)
        if dry_run or not has_work(examination):
            return Imported(examination, ImportOutcome())
        return Imported(examination, await importer.write(source, wanted, examination, _quiet, lock))

"""Every setting of a Tallygate server: frozen groups read from `TALLYGATE_*` variables; numbers bounded, units last.

A setting is described once, beside its field; `tallygate settings` prints them, and the README table is made so.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024

Role = Literal["all", "ingest", "check"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "console"]

Port = Annotated[int, Field(ge=1, le=65535)]


def _group(prefix: str) -> SettingsConfigDict:
    return SettingsConfigDict(env_prefix=prefix, frozen=True, extra="forbid", env_ignore_empty=True)


class HttpSettings(BaseSettings):
    """Where and how HTTP is served."""

    model_config = _group("TALLYGATE_")

    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: Port = Field(4100, description="port to listen on")
    role: Role = Field("all", description="which requests this server takes: `all`, `ingest` or `check`")
    processes: int = Field(1, ge=1, le=256, description="server processes that share the port")
    max_body_mib: int = Field(256, ge=1, le=4096, description="largest accepted body, also after decompression")
    max_in_flight_mib: int = Field(
        1024, ge=1, le=65536, description="bytes of bodies a process holds at once; beyond it requests get 503"
    )
    drain_timeout_seconds: int = Field(
        20, ge=1, le=28, description="time running requests get to finish after SIGTERM; the server is gone within 30 s"
    )

    @property
    def max_body_bytes(self) -> int:
        """Return the largest accepted body in bytes."""
        return self.max_body_mib * MIB

    @property
    def max_in_flight_bytes(self) -> int:
        """Return how many bytes of bodies a process may hold at once."""
        return self.max_in_flight_mib * MIB


class PostgresSettings(BaseSettings):
    """The truth."""

    model_config = _group("TALLYGATE_DATABASE_")

    url: SecretStr | None = Field(
        None, description="`postgresql://…` of an external PostgreSQL >= 15; unset: the embedded one"
    )
    pool_min_connections: int = Field(2, ge=0, le=100, description="connections a process keeps open")
    # One is kept by a pass over all budgets, one by the outbox while its rows are observed; observing takes another.
    pool_max_connections: int = Field(10, ge=3, le=500, description="connections a process opens at most")
    pool_wait_ms: int = Field(5_000, ge=10, le=60_000, description="longest wait for a free connection; then 503")
    connect_timeout_seconds: int = Field(5, ge=1, le=60, description="longest wait for a new connection")
    statement_timeout_ms: int = Field(30_000, ge=100, le=3_600_000, description="longest run of one statement")
    migrate_on_start: bool | None = Field(
        None, description="bring the schema to this version at start; unset: only that of the embedded database"
    )


class RedisSettings(BaseSettings):
    """The fast copy: counters and holds."""

    model_config = _group("TALLYGATE_REDIS_")

    url: SecretStr | None = Field(
        None, description="`redis://…`, `rediss://…` of an external Redis >= 7 or Valkey; unset: the embedded one"
    )
    cluster: bool = Field(
        default=False, description="the address names nodes of a Redis/Valkey Cluster, with commas between them"
    )
    max_connections: int = Field(64, ge=1, le=10_000, description="connections a process opens at most")
    connect_timeout_ms: int = Field(1_000, ge=10, le=60_000, description="longest wait for a new connection")
    command_timeout_ms: int = Field(1_000, ge=10, le=60_000, description="longest wait for an answer outside a check")


class EmbeddedSettings(BaseSettings):
    """The engines Tallygate brings along."""

    model_config = _group("TALLYGATE_")

    data_dir: Path = Field(
        Path(".tallygate"), description="directory of the embedded engines, their logs and the first admin token"
    )


class AccessSettings(BaseSettings):
    """The first token."""

    model_config = _group("TALLYGATE_")

    admin_token: SecretStr | None = Field(
        None, min_length=16, description="bootstrap token (operator and admin); changing it revokes the former one"
    )


class IngestSettings(BaseSettings):
    """How events become charges."""

    model_config = _group("TALLYGATE_INGEST_")

    batch_wait_ms: int = Field(3, ge=0, le=1_000, description="longest wait of a micro-batch for its usual company")
    batch_max_events: int = Field(500, ge=1, le=10_000, description="most events in one transaction")
    queue_max_events: int = Field(
        20_000, ge=100, le=10_000_000, description="events waiting in a process; beyond it 503"
    )
    publish_wait_ms: int = Field(
        25, ge=0, le=5_000, description="longest wait for the counters after a commit, before the answer"
    )


class CheckSettings(BaseSettings):
    """How requests are decided."""

    model_config = _group("TALLYGATE_CHECK_")

    deadline_ms: int = Field(
        50, ge=5, le=10_000, description="a check is answered within this time, by policy if need be"
    )


class PricesSettings(BaseSettings):
    """Where newer prices come from, and when they differ from gateways' own."""

    model_config = _group("TALLYGATE_PRICES_")

    url: str | None = Field(
        None, min_length=1, description="cost map that is imported for the whole installation now and then; unset: none"
    )
    interval_hours: int = Field(24, ge=1, le=744, description="time between two downloads of `TALLYGATE_PRICES_URL`")
    max_map_mib: int = Field(32, ge=1, le=256, description="largest cost map, also after decompression")
    download_timeout_seconds: int = Field(60, ge=1, le=600, description="longest download of a cost map")
    allow_private_addresses: bool = Field(
        default=False, description="download cost maps also from private and loopback addresses, and by plain http"
    )
    divergence_tolerance_percent: Decimal = Field(
        Decimal(1), ge=0, le=1_000, description="a gateway's figure diverges when it is further from our cost than this"
    )

    @property
    def max_map_bytes(self) -> int:
        """Return the largest cost map in bytes."""
        return self.max_map_mib * MIB


class AlertsSettings(BaseSettings):
    """When alerts are looked for, and how they are delivered."""

    model_config = _group("TALLYGATE_ALERTS_")

    interval_seconds: int = Field(
        60, ge=1, le=3_600, description="time between two searches for alerts that come with time, not with events"
    )
    delivery_timeout_seconds: int = Field(10, ge=1, le=60, description="longest wait for the receiver of a webhook")
    max_deliveries: int = Field(64, ge=1, le=1_000, description="deliveries a process makes at once")
    max_deliveries_per_host: int = Field(8, ge=1, le=1_000, description="of these, to one host")
    give_up_hours: int = Field(
        72, ge=1, le=720, description="a delivery is tried again for so long, then it has failed"
    )
    deliveries_kept_days: int = Field(90, ge=1, le=3_650, description="ended deliveries are listed for so long")
    allow_private_addresses: bool = Field(
        default=False, description="deliver also to private and loopback addresses, and by plain http"
    )


class LogSettings(BaseSettings):
    """What is written about it."""

    model_config = _group("TALLYGATE_LOG_")

    level: LogLevel = Field("info", description="`debug`, `info`, `warning` or `error`")
    format: LogFormat = Field("auto", description="`json`, `console`, or `auto`: console on a terminal, else JSON")
    access: bool = Field(default=True, description="one line per request")


class Settings(BaseModel):
    """All groups. `Settings()` reads the environment; a test passes the groups it wants otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    http: HttpSettings = Field(default_factory=HttpSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    redis: RedisSettings = Field(default_factory=RedisSettings)
    embedded: EmbeddedSettings = Field(default_factory=EmbeddedSettings)
    access: AccessSettings = Field(default_factory=AccessSettings)
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    checks: CheckSettings = Field(default_factory=CheckSettings)
    prices: PricesSettings = Field(default_factory=PricesSettings)
    alerts: AlertsSettings = Field(default_factory=AlertsSettings)
    logs: LogSettings = Field(default_factory=LogSettings)

    @property
    def database_url(self) -> str:
        """Return the address of PostgreSQL, the embedded one included once it runs (see `with_engines`)."""
        assert self.postgres.url is not None, "no TALLYGATE_DATABASE_URL, and no embedded PostgreSQL was started"
        return self.postgres.url.get_secret_value()

    @property
    def redis_url(self) -> str:
        """Return the address of Redis, the embedded one included once it runs (see `with_engines`)."""
        assert self.redis.url is not None, "no TALLYGATE_REDIS_URL, and no embedded Valkey was started"
        return self.redis.url.get_secret_value()

    def with_engines(self, *, database_url: str, redis_url: str) -> "Settings":
        """Return the same settings with the addresses of running engines."""
        return self.model_copy(
            update={
                "postgres": self.postgres.model_copy(update={"url": SecretStr(database_url)}),
                "redis": self.redis.model_copy(update={"url": SecretStr(redis_url)}),
            }
        )


@dataclass(frozen=True, slots=True)
class SettingDescription:
    """One row of the settings table."""

    variable: str
    default: str
    meaning: str


def describe_settings() -> Iterator[SettingDescription]:
    """Yield every variable with its default, bounds and meaning, in the order of the groups."""
    for group in Settings.model_fields.values():
        group_class = group.annotation
        assert isinstance(group_class, type)
        assert issubclass(group_class, BaseSettings)
        prefix = group_class.model_config.get("env_prefix", "")
        for name, field in group_class.model_fields.items():
            yield SettingDescription(
                variable=f"{prefix}{name}".upper(), default=_default_text(field.default), meaning=_meaning(field)
            )


def unknown_variables() -> list[str]:
    """Return the `TALLYGATE_*` variables of the environment that name no setting: a typing error, most often."""
    known = {description.variable for description in describe_settings()}
    return sorted(
        name
        for name in os.environ
        if name.startswith("TALLYGATE_") and not name.startswith("TALLYGATE_TEST_") and name not in known
    )


def export(values: dict[str, str]) -> None:
    """Set variables for the server processes that are about to be started: they read their settings from there."""
    os.environ.update(values)


def metrics_directory() -> str | None:
    """Return where the processes of one server put their metrics together (prometheus-client's own variable)."""
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


def _default_text(default: Any) -> str:
    if default is None:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _meaning(field: FieldInfo) -> str:
    bounds = [f"{bound.ge}" for bound in field.metadata if hasattr(bound, "ge")]
    bounds += [f"{bound.le}" for bound in field.metadata if hasattr(bound, "le")]
    meaning = field.description or ""
    return f"{meaning} ({bounds[0]} to {bounds[1]})" if len(bounds) == 2 else meaning

"""Delivers alerts: claims what is due, signs and sends it, notes what became of it.

At least once, with the same `webhook-id` each time: a receiver may see a delivery again when this process ends between
the answer and the note of it. Every address is judged at every attempt, redirects are not followed, answers are not
read. A host that is slow or dead takes no more than its share of what is under way.
"""

import asyncio
import ssl
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from random import Random
from typing import Final

import httpcore
import psycopg
import structlog
from psycopg_pool import PoolTimeout

from service.alerts import delivery_repository as repository
from service.alerts import metrics
from service.alerts.attempts import Attempt, delay_seconds, judge_answer
from service.alerts.delivery_repository import ClaimedDelivery
from service.alerts.schemas import delivery_document
from service.alerts.signature import sign
from service.alerts.template import Body, BodyTooLarge, render
from service.alerts.webhook_repository import disable_gone
from service.db.pools import PostgresPool
from service.kit.clock import utc_now
from service.kit.stopping import stop
from service.outbound import AddressJudge, AddressRefused, AddressUnknown, JudgedBackend
from service.settings import AlertsSettings

_log = structlog.get_logger(__name__)

_POLL_SECONDS: Final = 1.0
_LEASE_MARGIN_SECONDS: Final = 30.0
_SETTING: Final = "TALLYGATE_ALERTS_ALLOW_PRIVATE_ADDRESSES"
_DATABASE_TROUBLE: Final = (psycopg.Error, PoolTimeout)


def judge_of(settings: AlertsSettings) -> AddressJudge:
    """Return what decides which addresses webhooks may name."""
    return AddressJudge(allow_private=settings.allow_private_addresses, setting=_SETTING)


class Sender:
    """One instance per process; `start` begins, `wake` looks for work at once, `close` leaves the rest to others."""

    def __init__(self, pool: PostgresPool, settings: AlertsSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._judge = judge_of(settings)
        self._ssl = httpcore.default_ssl_context()
        self._give_up_after = timedelta(hours=settings.give_up_hours)
        self._in_flight: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._chance = Random()

    def start(self) -> None:
        """Deliver until `close`."""
        self._worker = asyncio.create_task(self._work_for_ever())

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    async def close(self) -> None:
        """Stop; what is under way is given back and delivered by another process, or the next one."""
        await stop(self._worker)
        for task in list(self._tasks):
            await stop(task)

    async def _work_for_ever(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self._take_up()
            except _DATABASE_TROUBLE as error:
                _log.warning("deliveries_not_claimed", error=type(error).__name__)
            except Exception:  # noqa: BLE001 — logged with its trace; the next look must come
                _log.exception("deliveries_not_claimed")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _POLL_SECONDS)

    async def _take_up(self) -> None:
        room = self._settings.max_deliveries - len(self._tasks)
        if room <= 0:
            return
        async with self._pool.connection() as connection:
            claimed = await repository.claim_deliveries(
                connection,
                in_flight=+self._in_flight,
                per_host=self._settings.max_deliveries_per_host,
                most=room,
                lease_seconds=self._settings.delivery_timeout_seconds + _LEASE_MARGIN_SECONDS,
            )
            # At once: whatever fails from here on, what was claimed is leased and would wait for the lease to end.
            for delivery in claimed:
                self._in_flight[delivery.host] += 1
                task = asyncio.create_task(self._deliver(delivery))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            metrics.OLDEST_PENDING.set(await repository.read_oldest_pending_seconds(connection))

    async def _deliver(self, delivery: ClaimedDelivery) -> None:
        try:
            attempt = await self._attempt(delivery)
            await self._note(delivery, attempt)
        except asyncio.CancelledError:
            await self._give_back(delivery)
            raise
        except _DATABASE_TROUBLE as error:
            _log.warning("delivery_not_noted", delivery_id=str(delivery.delivery_id), error=type(error).__name__)
        except Exception:  # noqa: BLE001 — logged with its trace; it comes up again when the lease ends
            _log.exception("delivery_not_noted", delivery_id=str(delivery.delivery_id))
        finally:
            self._in_flight[delivery.host] -= 1
            # There is room for one more, of this host or of another.
            self.wake()

    async def _attempt(self, delivery: ClaimedDelivery) -> Attempt:
        """Send a delivery once; whatever goes wrong is told, never raised."""
        try:
            document = delivery_document(delivery.event, delivery.alert, delivery.created_at)
            body = render(delivery.template, document, escapes_markup=delivery.escapes_markup)
            async with asyncio.timeout(self._settings.delivery_timeout_seconds):
                return await self._send(delivery, body)
        except TimeoutError:
            return _failed(f"no answer within {self._settings.delivery_timeout_seconds} s")
        except (AddressRefused, AddressUnknown, BodyTooLarge) as error:
            return _failed(f"not sent: {error}")
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError) as error:
            return _failed(f"{type(error).__name__} while talking to the receiver")
        except Exception as error:  # noqa: BLE001 — logged with its trace, told in the list, tried again
            _log.exception("delivery_failed", delivery_id=str(delivery.delivery_id))
            return _failed(f"an error on our side: {type(error).__name__}")

    async def _send(self, delivery: ClaimedDelivery, body: Body) -> Attempt:
        self._judge.check_url(delivery.url)
        now = utc_now()
        timestamp = int(now.timestamp())
        headers = {
            "user-agent": "tallygate",
            "content-type": body.content_type,
            "content-length": str(len(body.content)),
            "connection": "close",
            "webhook-id": str(delivery.delivery_id),
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(delivery.secret, str(delivery.delivery_id), timestamp, body.content),
        }
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._ssl, network_backend=JudgedBackend(self._judge), max_connections=1
            ) as pool,
            pool.stream("POST", delivery.url, headers=list(headers.items()), content=body.content) as response,
        ):
            # Leaving the block closes the connection: the answer's body is never read.
            answered = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return judge_answer(response.status, answered, now)

    async def _note(self, delivery: ClaimedDelivery, attempt: Attempt) -> None:
        """Write down how an attempt ended."""
        outcome: str = attempt.verdict
        async with self._pool.connection() as connection, connection.transaction():
            match attempt.verdict:
                case "delivered":
                    await repository.end_delivery(connection, delivery, "delivered", attempt)
                case "gone":
                    await repository.end_delivery(connection, delivery, "failed", attempt)
                    await disable_gone(connection, delivery.tenant_id, delivery.webhook_id)
                case "again":
                    delay = delay_seconds(delivery.attempts, attempt, self._chance.random())
                    goes_on = await repository.put_off(
                        connection, delivery, attempt, delay_seconds=delay, give_up_after=self._give_up_after
                    )
                    outcome = "again" if goes_on else "failed"
        metrics.ATTEMPTS.labels(outcome).inc()

    async def _give_back(self, delivery: ClaimedDelivery) -> None:
        with suppress(*_DATABASE_TROUBLE):
            async with self._pool.connection() as connection:
                await repository.release(connection, delivery)


def _failed(error: str) -> Attempt:
    return Attempt(verdict="again", error=error)

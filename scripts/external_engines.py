"""Exits with 0 when a PostgreSQL and a Redis answer on this machine's usual ports."""

import os
import sys

import psycopg
import redis

DATABASE_URL = os.environ.get("TALLYGATE_TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS_URL = os.environ.get("TALLYGATE_TEST_REDIS_URL", "redis://127.0.0.1:6379")

try:
    psycopg.connect(DATABASE_URL, connect_timeout=2).close()
    with redis.Redis.from_url(REDIS_URL, socket_connect_timeout=2, socket_timeout=2) as client:
        client.ping()
except (psycopg.Error, redis.RedisError) as error:
    sys.exit(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")

"""Which errors of PostgreSQL are about the content of a row, not about the state of the database."""

from typing import Final

import psycopg

# Whoever writes many rows at once writes halves of them after one of these, down to the row that is refused: trying
# again would end the same way for ever. By class of SQLSTATE:
#   22, 23, 0A  data exceptions, broken constraints, what PostgreSQL does not support; also a NUL, refused by the driver
#   21          two rows that meet in one statement
#   54          too large for an index, a page, a document, or nested too deeply. The driver calls these operational
#               errors, as it does what comes and goes: lost connections (08, 57P), full disks and memory (53), waits
#               (55P03), canceled statements (57014), deadlocks (40), read-only servers (25), broken files (58, XX).
ROW_ERRORS: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    psycopg.NotSupportedError,
    psycopg.errors.CardinalityViolation,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.StatementTooComplex,
)

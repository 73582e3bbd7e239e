"""The engines Tallygate brings along: a real PostgreSQL and a real Valkey from wheels, on Unix sockets only.

They are plain child processes of the supervisor: they end with it, whatever ends it, and the next start recovers.
No permission of a directory that is not ours is ever changed; started by root, they run as an unprivileged account.
"""

from service.db.embedded.failure import EngineFailed
from service.db.embedded.supervisor import EmbeddedEngines, EngineUrls

__all__ = ["EmbeddedEngines", "EngineFailed", "EngineUrls"]

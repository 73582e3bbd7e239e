from tests.api.checks.conftest import app_and_client, other_world, world

__all__ = ["app_and_client", "other_world", "world"]

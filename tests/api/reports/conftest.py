from tests.api.checks.conftest import app_and_client, world

__all__ = ["app_and_client", "world"]

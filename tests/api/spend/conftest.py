from tests.api.spend.reading_app import client, headers_of, read

__all__ = ["client", "headers_of", "read"]

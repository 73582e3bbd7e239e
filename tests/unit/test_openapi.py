from typing import Any

import yaml

from service.app import create_app
from service.openapi import openapi_yaml


def test_description_is_the_same_text_for_the_same_application():
    assert openapi_yaml(create_app()) == openapi_yaml(create_app())


def test_every_operation_has_an_id_a_summary_and_problem_documents_for_what_it_refuses():
    document = yaml.safe_load(openapi_yaml(create_app()))
    operations = [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in {"get", "put", "post", "delete", "patch"}
    ]
    assert len({operation["operationId"] for _, _, operation in operations}) == len(operations)
    for method, path, operation in operations:
        assert operation.get("summary"), f"{method} {path} has no summary"
        for status, response in operation["responses"].items():
            if path.startswith("/v1/") and status.startswith(("4", "5")) and not _stops_a_call(path, response):
                assert "application/problem+json" in response["content"], f"{method} {path} {status}"


def test_every_way_to_prove_oneself_is_described():
    document = yaml.safe_load(openapi_yaml(create_app()))
    described = document["components"]["securitySchemes"]
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    named = {name for operation in operations for way in operation.get("security", []) for name in way}
    assert named <= set(described)
    assert {"gateway", "client_key"} <= named


def _stops_a_call(path: str, response: dict[str, Any]) -> bool:
    """A denial is no problem of its caller's: it has the shape end clients know, or, for nginx, headers alone."""
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    is_made_for_end_clients = "StoppedAnswer" in (schema.get("title", ""), schema.get("$ref", "").rpartition("/")[2])
    return path == "/v1/check/nginx" or (path.startswith("/v1/check") and is_made_for_end_clients)

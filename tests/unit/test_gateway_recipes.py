"""The configurations of deploy/gateways, by their form: complete, whole, and without a hole for forged identities."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.access.tokens import TRUSTABLE_HEADERS
from service.checks.dialects.client_headers import KEY_HEADERS

RECIPES = Path(__file__).parents[2] / "deploy/gateways"
FOLDERS = sorted(path.name for path in RECIPES.iterdir() if path.is_dir())
FILES = {
    "nginx": "tallygate.conf.template",
    "caddy": "Caddyfile",
    "envoy": "envoy.yaml",
    "traefik": "dynamic.yaml",
    "apisix": "apisix.yaml",
    "agentgateway": "config.yaml",
    "portkey": "config.json",
    "litellm": "config.yaml",
}
# Settings of the adapter are said where it lies.
LONGER = {"litellm": 90}
NEVER_FROM_CLIENTS = {*TRUSTABLE_HEADERS, "x-ai-eg-model"}
KEYS = {name.decode() for name in KEY_HEADERS}


def recipe(name: str) -> str:
    return (RECIPES / name / FILES[name]).read_text()


def parsed(name: str) -> Any:
    return yaml.safe_load(recipe(name))


def lowered(names: Any) -> set[str]:
    return {str(name).lower() for name in names}


@pytest.mark.parametrize("name", FOLDERS)
def test_every_recipe_has_its_file_and_a_readme_of_ten_lines_that_says_what_happens_without_tallygate(name: str):
    assert recipe(name)
    readme = (RECIPES / name / "README.md").read_text()
    assert 8 <= len(readme.splitlines()) <= LONGER.get(name, 16)
    assert "POST /v1/tokens" in readme
    assert "cannot be reached" in readme


def test_envoy_drops_claims_shows_keys_and_waits_two_hundred_milliseconds():
    (listener,) = parsed("envoy")["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    mutation, ext_authz, router = manager["http_filters"]
    assert router["name"] == "envoy.filters.http.router"
    removed = {each["remove"] for each in mutation["typed_config"]["mutations"]["request_mutations"]}
    assert removed >= NEVER_FROM_CLIENTS | {"x-tallygate-token"}
    settings = ext_authz["typed_config"]
    shown = {each["exact"] for each in settings["allowed_headers"]["patterns"]}
    assert shown == KEYS | {"x-request-id"}
    assert settings["failure_mode_allow"] is False
    service = settings["http_service"]
    assert service["path_prefix"] == "/v1/check/authz"
    assert service["server_uri"]["timeout"] == "0.2s"
    (token,) = service["authorization_request"]["headers_to_add"]
    assert token["key"] == "x-tallygate-token"


def test_traefik_drops_claims_asks_with_the_token_and_keeps_it_to_itself():
    http = parsed("traefik")["http"]
    middlewares = http["middlewares"]
    first, second, third = middlewares["tallygate"]["chain"]["middlewares"]
    marked = {name.lower(): value for name, value in middlewares[first]["headers"]["customRequestHeaders"].items()}
    assert {name for name, value in marked.items() if value == ""} >= NEVER_FROM_CLIENTS
    assert marked["x-tallygate-token"]
    ask = middlewares[second]["forwardAuth"]
    assert ask["address"].endswith("/v1/check/authz")
    assert lowered(ask["authRequestHeaders"]) == KEYS | {"x-request-id", "x-tallygate-token"}
    assert middlewares[third]["headers"]["customRequestHeaders"] == {"X-Tallygate-Token": ""}
    assert http["routers"]["llm"]["middlewares"] == ["tallygate"]


def test_apisix_shows_keys_alone_and_drops_claims():
    text = recipe("apisix")
    assert text.endswith("#END\n")
    plugins = parsed("apisix")["routes"][0]["plugins"]
    assert lowered(plugins["proxy-rewrite"]["headers"]["remove"]) >= NEVER_FROM_CLIENTS | {"x-tallygate-token"}
    ask = plugins["forward-auth"]
    assert ask["uri"].endswith("/v1/check/authz")
    assert lowered(ask["request_headers"]) == KEYS | {"x-request-id", "content-type"}
    assert lowered(ask["extra_headers"]) == {"x-tallygate-token"}
    assert lowered(ask["client_headers"]) >= {"retry-after", "content-type"}
    assert ask["allow_degradation"] is False


def test_agentgateway_shows_keys_alone_and_drops_claims():
    policies = parsed("agentgateway")["binds"][0]["listeners"][0]["routes"][0]["policies"]
    assert set(policies["requestHeaderModifier"]["remove"]) >= NEVER_FROM_CLIENTS | {"x-tallygate-token"}
    ask = policies["extAuthz"]
    assert set(ask["includeRequestHeaders"]) == KEYS | {"x-request-id"}
    assert ask["protocol"]["http"]["path"] == '"/v1/check/authz" + request.path'
    assert set(ask["protocol"]["http"]["addRequestHeaders"]) == {"x-tallygate-token"}


def test_portkey_denies_by_a_webhook():
    (hook,) = json.loads(recipe("portkey"))["before_request_hooks"]
    assert (hook["deny"], hook["async"]) == (True, False)
    parameters = hook["checks"][0]["parameters"]
    assert parameters["webhookURL"].endswith("/v1/check/portkey")
    assert set(parameters["headers"]) == {"x-tallygate-token"}


def test_nginx_drops_claims_on_both_ways():
    ways = re.findall(r"location [^{]*\{(.*?)\n    \}", recipe("nginx"), re.DOTALL)
    passed_on, asked, _ = ways
    for way in (passed_on, asked):
        cleared = set(re.findall(r'proxy_set_header (\S+)\s+"";', way))
        assert lowered(cleared) >= set(TRUSTABLE_HEADERS)
    assert 'proxy_set_header X-AI-EG-Model "";' in asked
    assert 'proxy_set_header X-Tallygate-Token "${TALLYGATE_TOKEN}";' in asked


def test_caddy_drops_claims_before_it_asks():
    text = recipe("caddy")
    assert text.index("request_header -X-Tallygate-*") < text.index("forward_auth")
    assert text.index("request_header -X-Ai-Eg-Model") < text.index("forward_auth")

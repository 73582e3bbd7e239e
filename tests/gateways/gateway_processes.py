"""Real gateways, run with the configurations of deploy/gateways, their addresses and the token filled in."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.faults.server_process import free_port

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "deploy/gateways"
_WHERE = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", str(ROOT / ".gateways/bin")])

_NGINX = """
worker_processes 1;
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/tallygate.conf;
}}
"""


@dataclass(frozen=True)
class Places:
    """What a configuration is filled in with; ports on 127.0.0.1."""

    directory: Path
    port: int
    upstream: int
    tallygate: int
    token: str


def _fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _nginx(places: Places) -> tuple[list[str], dict[str, str]]:
    values = {
        "${LISTEN}": f"127.0.0.1:{places.port}",
        "${UPSTREAM}": f"127.0.0.1:{places.upstream}",
        "${TALLYGATE}": f"127.0.0.1:{places.tallygate}",
        "${TALLYGATE_TOKEN}": places.token,
    }
    recipe = (RECIPES / "nginx/tallygate.conf.template").read_text()
    (places.directory / "tallygate.conf").write_text(_fill(recipe, values))
    user = "user root;" if os.getuid() == 0 else ""
    configuration = places.directory / "nginx.conf"
    configuration.write_text(_NGINX.format(directory=places.directory, user=user))
    return ["nginx", "-p", str(places.directory), "-c", str(configuration)], {}


def _caddy(places: Places) -> tuple[list[str], dict[str, str]]:
    environment = {
        "LISTEN": f"http://127.0.0.1:{places.port}",
        "UPSTREAM": f"127.0.0.1:{places.upstream}",
        "TALLYGATE": f"127.0.0.1:{places.tallygate}",
        "TALLYGATE_TOKEN": places.token,
        "XDG_DATA_HOME": str(places.directory),
        "XDG_CONFIG_HOME": str(places.directory),
    }
    return ["caddy", "run", "--config", str(RECIPES / "caddy/Caddyfile"), "--adapter", "caddyfile"], environment


def _envoy(places: Places) -> tuple[list[str], dict[str, str]]:
    recipe = yaml.safe_load((RECIPES / "envoy/envoy.yaml").read_text().replace("TALLYGATE_TOKEN", places.token))
    resources = recipe["static_resources"]
    (listener,) = resources["listeners"]
    listener["address"]["socket_address"] = {"address": "127.0.0.1", "port_value": places.port}
    ports = {"llm": places.upstream, "tallygate": places.tallygate}
    for cluster in resources["clusters"]:
        (endpoints,) = cluster["load_assignment"]["endpoints"]
        (endpoint,) = endpoints["lb_endpoints"]
        address = {"address": "127.0.0.1", "port_value": ports[cluster["name"]]}
        endpoint["endpoint"]["address"]["socket_address"] = address
    configuration = places.directory / "envoy.yaml"
    configuration.write_text(yaml.safe_dump(recipe))
    return ["envoy", "-c", str(configuration), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"], {}


GATEWAYS: dict[str, Callable[[Places], tuple[list[str], dict[str, str]]]] = {
    "nginx": _nginx,
    "caddy": _caddy,
    "envoy": _envoy,
}


def find_gateway(name: str) -> str | None:
    """Return where a gateway is installed."""
    return shutil.which(name, path=_WHERE)


@contextmanager
def running_gateway(name: str, directory: Path, *, upstream: int, tallygate: int, token: str) -> Iterator[str]:
    """Run a gateway and yield its address; what it wrote is shown when it fails."""
    places = Places(directory, free_port(), upstream, tallygate, token)
    command, environment = GATEWAYS[name](places)
    binary = find_gateway(name)
    assert binary is not None, f"{name} is not installed: `make test-gateways` says how"
    log = directory / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [binary, *command[1:]], env=os.environ | environment, cwd=directory, stdout=written, stderr=written
        )
    try:
        yield f"http://127.0.0.1:{places.port}"
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

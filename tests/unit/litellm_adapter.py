"""LiteLLM's adapter, imported without LiteLLM."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ADAPTER_PATH = Path(__file__).parents[2] / "deploy/gateways/litellm/tallygate_litellm.py"


def _load() -> Any:
    """Import the adapter, with an empty class where LiteLLM's would be."""
    stub = ModuleType("litellm.integrations.custom_logger")
    stub.CustomLogger = type("CustomLogger", (), {})  # type: ignore[attr-defined]
    stubs = {"litellm": ModuleType("litellm"), "litellm.integrations": ModuleType("litellm.integrations")}
    names = stubs | {"litellm.integrations.custom_logger": stub}
    kept = {name: sys.modules[name] for name in names if name in sys.modules}
    sys.modules.update(names)
    try:
        specification = importlib.util.spec_from_file_location("tallygate_litellm", ADAPTER_PATH)
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(kept)


adapter = _load()

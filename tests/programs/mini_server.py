"""A server of tools for agents that takes a second to start, and then tells what it was given.

``python mini_server.py`` speaks the Model Context Protocol on its standard input and output.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

#: How it is started.
COMMAND = (sys.executable, str(Path(__file__).resolve()))
_TOOL = {"name": "create", "description": "makes it", "inputSchema": {"type": "object", "properties": {}}}


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            server = {"name": "mini", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}
        case "tools/list":
            return {"tools": [_TOOL]}
        case "tools/call":
            return {"content": [{"type": "text", "text": f"made with {os.environ['TOKEN']}"}]}
    return {}


def main() -> None:
    """Answers request after request."""
    time.sleep(1)
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": _answer(asked)}), flush=True)


if __name__ == "__main__":
    main()

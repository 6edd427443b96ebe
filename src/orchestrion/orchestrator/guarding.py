"""Use cases about the server's callers: their tokens, and requests that are sent twice."""

from __future__ import annotations

import os
from typing import Any

from orchestrion.ops import requests, tokens
from orchestrion.ops.requests import Kept, Sent
from orchestrion.orchestrator.maintaining import MaintenanceCases


class GuardingCases(MaintenanceCases):
    """Who may call the server."""

    def create_token(self, name: str, role: str = "read", *, days: float | None = None) -> dict[str, Any]:
        """A key to the server; ``token`` is shown this once. Raises InvalidInput, Conflict."""
        return tokens.create(self.store, name, role, days)

    def tokens(self) -> list[dict[str, Any]]:
        """All keys: name, role, status, and when each was made and used."""
        return tokens.listing(self.store)

    def revoke_token(self, named: str) -> dict[str, Any]:
        """From now on a key (its name or number) opens nothing. Raises NotFound."""
        return tokens.revoke(self.store, named)

    def holder_of(self, token: str) -> dict[str, Any]:
        """Name and role of a token that a caller showed. Raises InvalidInput (``unauthenticated``)."""
        return tokens.holder_of(self.store, token)

    # -- requests that are sent twice -------------------------------------------------------------

    def begin_request(self, key: str, fingerprint: str) -> tuple[Sent, Kept | None]:
        """A request of this caller with a key of its own: the answer of before, or None to do it now.

        Raises InvalidInput (``invalid_key``, ``key_reused``), Conflict (``in_progress``, ``already_done``).
        """
        requests.check_key(key)
        origin = self.store.origin
        sent = Sent(origin.actor, key, fingerprint, self._holder(), origin.correlation or "")
        return sent, requests.begin(self.store, sent, self._is_gone)

    def finish_request(self, sent: Sent, answer: Kept) -> None:
        """Keeps the answer of a request that succeeded."""
        requests.finish(self.store, sent, answer)

    def give_up_request(self, sent: Sent) -> None:
        """A request that was refused may be sent anew with its key."""
        requests.give_up(self.store, sent)

    def forget_requests(self) -> int:
        """Drops answers that are older than a day; how many."""
        return requests.forget(self.store)

    def _holder(self) -> str:
        from orchestrion.runs import processes

        return f"{self.host.id}/{os.getpid()}/{processes.start_time(os.getpid()) or 0}"

    def _is_gone(self, holder: str, for_ms: int) -> bool:
        """Whether the process that did a request will not answer it any more."""
        from orchestrion.runs import processes

        host, pid, start = holder.rsplit("/", 2)
        if host != self.host.id:
            return for_ms > requests.GONE_MS
        return not processes.is_alive(int(pid), float(start))

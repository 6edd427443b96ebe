"""Use cases about the server's callers: its key, their tokens and sessions, and requests that are sent twice."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrion.core import private
from orchestrion.core.errors import EnvironmentProblem, NotFound
from orchestrion.ops import key, logins, requests, tokens
from orchestrion.ops.requests import Kept, Sent
from orchestrion.orchestrator.maintaining import MaintenanceCases

#: A server of this machine answers within so long, in seconds.
_PATIENCE_S = 3.0
#: What lets a key be kept.
_KEEPING = "check the folder's owner, permissions and space"


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

    # -- the server of this machine, and its page ----------------------------------------------

    def provide_key(self) -> Path:
        """The file with the key to servers of this machine, made if it is not there. Raises EnvironmentProblem."""
        try:
            return key.provide(self.project.store_dir)
        except OSError as error:
            is_bent = isinstance(error, private.NotPlain)
            raise EnvironmentProblem(
                f"the key of the server cannot be kept in {self.project.store_dir}: {error.strerror}",
                hint=f"look at {error.filename} and delete it" if is_bent else _KEEPING,
                code="no_key",
            ) from error

    def is_key(self, shown: str) -> bool:
        """Whether a caller showed the key."""
        return key.is_key(self.project.store_dir, shown)

    def note_address(self, address: str) -> None:
        """Writes down where a server of this machine listens, beside other servers' addresses. Raises OSError."""
        private.replace(self._address_file(address), address)

    def forget_address(self, address: str) -> None:
        """No server of this machine listens there any more."""
        with suppress(OSError):
            self._address_file(address).unlink(missing_ok=True)

    def page_address(self) -> str:
        """Where a server of this machine listens, the one that began last. Raises NotFound (``no_server``)."""
        for address in self._addresses():
            if _answers(address):
                return address
        raise NotFound("no server of this project listens here", hint="`orchestrion serve`", code="no_server")

    def make_link(self, address: str) -> str:
        """The page at ``address``, as an address that lets a browser in once, within an hour."""
        return f"{address}enter?link={logins.link(self.store)}"

    def follow_link(self, link: str) -> str:
        """The browser's session that a link opens. Raises InvalidInput (``link_used``)."""
        return logins.follow(self.store, link)

    def log_in(self, token: str) -> str:
        """The browser's session of whoever shows a token. Raises InvalidInput (``unauthenticated``)."""
        return logins.begin(self.store, token)

    def visitor_of(self, session: str) -> dict[str, Any] | None:
        """Name and role of the token that a browser's session is of, None both if of the key; None: it is over."""
        return logins.visitor(self.store, session)

    def log_out(self, session: str) -> None:
        """A browser's session opens nothing any more."""
        logins.end(self.store, session)

    def _addresses(self) -> list[str]:
        """Where servers said that they listen, the latest first; one that was killed could not take it back."""
        found = []
        for file in self.project.store_dir.glob("address*"):
            with suppress(OSError):  # its server ends at this moment
                found.append((file.lstat().st_mtime_ns, private.read(file)))
        return [address for _, address in sorted(found, reverse=True) if address.startswith("http")]

    def _address_file(self, address: str) -> Path:
        return self.project.store_dir / f"address-{re.sub(r'[^0-9A-Za-z.]+', '-', address).strip('-')}"

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


def _answers(address: str) -> bool:
    """Whether a server lives there."""
    from urllib.request import urlopen  # only who opens the page needs it

    try:
        with urlopen(f"{address}livez", timeout=_PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):  # nobody listens there, or it is no address
        return False

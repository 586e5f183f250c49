"""What this machine says of hosts: logins in netrc, proxies in the environment. Each is looked up once per host."""

from __future__ import annotations

import netrc
import os
from functools import cache
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from neurofm.errors import UserError


class Surroundings:
    """Logins and proxies by host. What it returns may be secret: never printed or kept."""

    def __init__(self) -> None:
        self.login = cache(self._login)
        self.proxy = cache(self._proxy)
        self._netrc: netrc.netrc | None = None

    def _login(self, host: str) -> tuple[str, str] | None:
        """Return name and password that netrc has for exactly this machine (not its ``default``).

        Raises
        ------
        UserError
            If netrc is there and cannot be read.
        """
        if self._netrc is None:
            try:
                self._netrc = netrc.netrc(os.environ.get("NETRC"))
            except FileNotFoundError:
                return None
            except (netrc.NetrcParseError, OSError) as error:
                # The parser's message may quote the line, and with it a password.
                where = os.environ.get("NETRC") or "~/.netrc"
                problem = f"{where}: not readable as netrc ({type(error).__name__})."
                raise UserError(problem, mend="correct it; only you may be able to read it (chmod 600)") from None
        found = self._netrc.hosts.get(host)
        return (found[0], found[2]) if found and found[0] and found[2] else None

    def _proxy(self, scheme: str, host: str) -> str | None:
        """Return the proxy for a host: HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as other programs read them."""
        proxy = getproxies().get(scheme)
        return proxy if proxy and urlsplit(proxy).scheme == "http" and not proxy_bypass(host) else None

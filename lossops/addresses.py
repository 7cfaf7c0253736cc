"""Locations of data and addresses of services: what is secret in them, and whether they leave this machine."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, urlsplit

__all__ = ["check_location", "is_local", "without_secrets"]

_SECRET = re.compile(
    r"(secret|passw|token|signature|credential|api[_-]?key|access[_-]?key|account[_-]?key|^sig$|^key$|^sas$)",
    re.IGNORECASE,
)
_USER = re.compile(r"(?<=://)[^/?#\s@]*:[^/?#\s]*@")  # the container of abfss://container@account stays
_PARAMETER = re.compile(r"(?<=[?&])([^=&#\s]+)=([^&#\s'\"]+)")
_HIDDEN = "***"


def without_secrets(text: str) -> str:
    """Return a text with what is secret in its URLs hidden: user and password, keys, tokens and signatures."""
    return _PARAMETER.sub(_without_value, _USER.sub(f"{_HIDDEN}@", text))


def _without_value(match: re.Match[str]) -> str:
    return f"{match[1]}={_HIDDEN}" if _SECRET.search(match[1]) else match[0]


def check_location(location: str) -> None:
    """Check that a path or URL holds no credentials: it is stored in configs, reports and flow runs for all to read.

    Raises:
        ValueError: it does; the message hides them.
    """
    if "://" not in location:
        return
    parts = urlsplit(location)
    named = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if _SECRET.search(name)]
    # A user name alone is part of many addresses: the container of abfss://container@account.
    if ":" in parts.netloc.rpartition("@")[0] or named:
        allowed = "credentials in the environment, such as AWS_SECRET_ACCESS_KEY, never in the URL"
        raise ValueError(f"{without_secrets(location)!r} holds credentials; allowed: {allowed}")


def is_local(address: str) -> bool:
    """Whether an address such as ``tcp://127.0.0.1:8786`` stays on this machine."""
    host = urlsplit(address).hostname or ""
    if address.startswith("inproc://") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

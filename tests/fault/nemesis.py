"""Who chooses which fault is made, on whom, and when."""

from __future__ import annotations

from tests.fault.fault import Fault

#: Every kind there is.
KINDS: tuple[type[Fault], ...] = ()

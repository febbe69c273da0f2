"""Namespaces of the public interface: `ct.tasks`, `ct.interventions`, `ct.exchange`; and `ct.Site`."""

from __future__ import annotations

import interventions as interventions
import tasks as tasks
from crosstime.crosscoders import exchange as exchange
from interventions import Site as Site

__all__ = ["Site", "exchange", "interventions", "tasks"]

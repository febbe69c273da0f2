"""Controller of an NDIF server 0.1.2 that runs with nnsight 0.8.1.

NDIF passes `trust_remote_code` to two class methods that no longer take it, since nnsight moved it into the model key.
"""

from __future__ import annotations

import ray
from ndif.services.ray.deployments.controller.controller import _ControllerActor
from nnsight.modeling.mixins.remotable import Remotable


def _without_trust(name: str) -> None:
    original = getattr(Remotable, name).__func__

    def wrapper(cls, *args, trust_remote_code=None, **kwargs):
        return original(cls, *args, **kwargs)

    setattr(Remotable, name, classmethod(wrapper))


for _name in ("describe_checkpoint", "max_tp_size"):
    _without_trust(_name)


class OnCpu(_ControllerActor):
    """A plain class, so that Ray's workers import this module and with it the two patches."""


@ray.remote(num_cpus=0.1, num_gpus=0, max_restarts=-1, resources={"head": 1})
class Controller(OnCpu):
    """The actor named by NDIF_CONTROLLER_IMPORT_PATH."""

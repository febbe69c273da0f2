"""What can be wrong with an intervention: one class hierarchy, one clear sentence each."""

from __future__ import annotations


class InterventionError(ValueError):
    """Base of every error that `interventions` raises on purpose."""


class ArchitectureError(InterventionError):
    """A model whose parts cannot be found, or whose parts are not what its table entry says."""


class SiteError(InterventionError):
    """A layer or component that the model does not have."""


class CheckpointLoadError(InterventionError):
    """A model that cannot be opened from where the caller said."""


class FeatureError(InterventionError):
    """A feature that the dictionary does not have."""


class ShapeError(InterventionError):
    """Tensors whose sizes do not fit each other or the model."""


class MemoryBudgetError(InterventionError):
    """Even the smallest batch does not fit into memory."""


class RemoteError(InterventionError):
    """Base of what can go wrong when a model runs on a server."""


class NoServerError(RemoteError):
    """Nothing answers at the host."""


class NotNdifError(RemoteError):
    """Something answers at the host, but not an NDIF server."""


class KeyRefusedError(RemoteError):
    """The server does not accept the API key, or asks for one."""


class NotDeployedError(RemoteError):
    """The server does not have the model, and does not load it."""


class RevisionUnknownError(RemoteError, CheckpointLoadError):
    """There is no such revision of the repository."""


class TimeLimitError(RemoteError):
    """A job took longer than the server, or the caller, allows."""


class ServerError(RemoteError):
    """A job failed on the server; the message is the server's own."""


class ServerMemoryError(ServerError, MemoryError):
    """A job did not fit into the server's memory; smaller batches are tried."""


class NoGradientsError(RemoteError):
    """The server runs requests in a sandbox, which has no gradients."""


class MixedModelsError(RemoteError):
    """A request that reaches into a second model; a server would silently run both on one."""

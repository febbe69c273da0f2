"""The errors of `interventions`, as one class hierarchy."""

from __future__ import annotations


class InterventionError(ValueError):
    """Base class of all errors that `interventions` raises deliberately."""


class ArchitectureError(InterventionError):
    """The parts of a model cannot be found, or are not what its table entry says."""


class SiteError(InterventionError):
    """The model does not have this layer or component."""


class CheckpointLoadError(InterventionError):
    """A checkpoint cannot be opened."""


class FeatureError(InterventionError):
    """The dictionary does not have this feature."""


class ShapeError(InterventionError):
    """The shapes of tensors do not match each other or the model."""


class MemoryBudgetError(InterventionError):
    """Even the smallest batch does not fit into memory."""


class RemoteError(InterventionError):
    """Base class of the errors of a model that runs on a server."""


class NoServerError(RemoteError):
    """No server answers at the host."""


class NotNdifError(RemoteError):
    """Something answers at the host, but not an NDIF server."""


class KeyRefusedError(RemoteError):
    """The server does not accept the API key, or asks for one."""


class NotDeployedError(RemoteError):
    """The server does not have the model and does not load it."""


class RevisionUnknownError(RemoteError, CheckpointLoadError):
    """The repository has no such revision."""


class TimeLimitError(RemoteError):
    """A job took longer than the server or the caller allows."""


class ServerError(RemoteError):
    """A job failed on the server; the message is the server's."""


class ServerMemoryError(ServerError, MemoryError):
    """A job did not fit into the server's memory; it is repeated with smaller batches."""


class NoGradientsError(RemoteError):
    """The server runs requests in a sandbox, where there are no gradients."""


class MixedModelsError(RemoteError):
    """A request reaches into a second model; a server would silently run both on one."""

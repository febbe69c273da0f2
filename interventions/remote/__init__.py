"""Running a model somewhere else: on an NDIF server, or here the way a server would.

The crosscoder never leaves this machine. A request is a few lines of source, token ids and activations of width D.
The response is the activations at the requested sites, one number for each prompt, or one gradient.
"""

from interventions.remote.remote import Remote
from interventions.remote.traffic import Traffic

__all__ = ["Remote", "Traffic"]

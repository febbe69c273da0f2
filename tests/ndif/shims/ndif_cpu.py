"""Model actors of an NDIF server without a GPU: trusted (in process) and sandboxed (in a separate process)."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path

import ray
from ndif.services.ray.deployments.modeling.base import BaseModelDeployment
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel


def wait_as_for_a_gpu() -> None:
    """Sleep for the seconds that a test has written into the work folder, as a forward pass on a GPU would take."""
    path = Path(os.environ["CROSSTIME_NDIF_WORK"], "forward_seconds")
    if path.is_file():
        time.sleep(float(path.read_text()))


class OnCpu(BaseModelDeployment):
    """Loads models to the CPU, without the features that need CUDA."""

    # Moving a model between GPU and main memory needs CUDA, so an evicted model is discarded
    CACHEABLE = False

    def load_from_disk(self):
        model = HuggingFaceModel.from_model_key(
            self.model_key, dispatch=True, dtype=self.dtype_name, device="cpu", **self.kwargs
        )
        model._module.requires_grad_(False)
        return model

    def execute(self, request):
        wait_as_for_a_gpu()
        return super().execute(request)

    def cleanup(self):
        self.kill_switch.clear()
        self.kill_reason = self.execution_ident = None
        self.model.interleaver.cancel()
        gc.collect()


class OnCpuInSandbox(SandboxModelDeployment, OnCpu):
    """Runs every request in a separate process, as a server does with requests that it does not trust."""

    def execute(self, request):
        wait_as_for_a_gpu()
        return self.run_in_runner(request, None)

    def execution_scope(self, request):
        return contextlib.nullcontext()


# Ray pickles a decorated class by value, so the base classes are not decorated and workers import this module
@ray.remote(num_cpus=0.1, max_restarts=-1)
class Trusted(OnCpu):
    """The actor named by NDIF_MODEL_IMPORT_PATH."""


@ray.remote(num_cpus=0.1, max_restarts=-1)
class Sandboxed(OnCpuInSandbox):
    """The sandboxed actor named by NDIF_MODEL_IMPORT_PATH."""

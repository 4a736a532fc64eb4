"""The demonstration: sensor, executor, workers and notifier on a private node."""

from attune_executor.demo.scenario import run_demo

__all__ = ["run_demo"]

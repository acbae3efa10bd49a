"""Metrics: numbers in memory that all workers of a machine share, and that outlive each of them.

`recorder` counts, `catalogue` says what, `cells` and `folder` keep the numbers, `exposition` shows them to Prometheus.
"""

from tusd_py.metrics.catalogue import Jobs
from tusd_py.metrics.recorder import Metrics

__all__ = ["Jobs", "Metrics"]

"""How much computing time this process may still take: set anew for each file.

The parent's clock is what ends a slow file; this holds where the parent cannot.
"""

from __future__ import annotations

import resource

_SLACK_SECONDS = 5


def limit_cpu(more_seconds: float) -> None:
    """A last resort beside the parent's clock: the kernel ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + more_seconds) + _SLACK_SECONDS
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, most))

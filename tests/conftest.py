from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings

# Tests start hundreds of processes: where no byte code is written, each compiles all it imports.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

pytest_plugins = ["fluidpy.testing.plugin"]

# The same examples in every run, so that a change is judged by what it changes; `make soak` looks
# for others. A busy machine is no failure: no example has a deadline, to be drawn or to be tried.
ANY_SPEED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", ANY_SPEED, derandomize=True)
settings.register_profile("random", ANY_SPEED, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

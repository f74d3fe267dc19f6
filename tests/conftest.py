from __future__ import annotations

pytest_plugins = ["fluidpy.testing.plugin"]

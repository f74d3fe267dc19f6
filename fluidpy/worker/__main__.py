"""`python -m fluidpy.worker`: see `process`."""

from __future__ import annotations

import sys

from fluidpy.worker.process import main

sys.exit(main(sys.argv[1:]))

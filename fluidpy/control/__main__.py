"""`python -m fluidpy.control`: see `daemon`."""

from __future__ import annotations

import sys

from fluidpy.control.daemon import main

sys.exit(main(sys.argv[1:]))

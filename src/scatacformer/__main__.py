"""``python -m scatacformer``, the same as the command ``scatacformer``."""

from __future__ import annotations

import sys

from scatacformer.cli import main

if __name__ == "__main__":
    sys.exit(main())

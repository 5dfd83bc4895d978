"""``python -m ems_fast``: the command line, also for ``torchrun -m ems_fast``."""

import sys

from ems_fast.cli.parser import main

sys.exit(main())

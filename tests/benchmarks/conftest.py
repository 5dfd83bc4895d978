from __future__ import annotations

import sys
from pathlib import Path

# What is tested here is not installed.
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

"""Names that mean something to what shows them."""

from __future__ import annotations

HOSTILE = "<script>alert(1)</script>|a\nb: [c](d) `e` _f_"

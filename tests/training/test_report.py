from __future__ import annotations

from pathlib import Path

from support.names import HOSTILE

from ems_fast.runs.folder import RunFolder
from ems_fast.training.report import write_report


def test_names_are_text(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "<img src=x>")
    folder.create()
    model = {"languages": ["en", HOSTILE], "layers": 1, "width": 8, "vocab_size": 300}
    folder.write_config({"model": model, "data": {"pairs": 2}})
    rows = [{"set": HOSTILE, "languages": f"en-{HOSTILE}", "accuracy": 0.5}]
    folder.log("evaluation", step=1, accuracy={HOSTILE: 0.5}, rows=rows)
    write_report(folder)
    page = folder.report.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 4

"""Pairs as a translation memory."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from ems_fast.files.atomic import replacing
from ems_fast.text.languages import check_pair

# Characters that no XML 1.0 document can hold, not even as references.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_tmx(
    path: str | Path,
    pairs: Iterable[tuple[str, str, float]],
    source_lang: str,
    target_lang: str,
) -> None:
    """Write (source, target, score) as TMX 1.4b, the score as a property; appears when whole.

    Characters that XML cannot hold become spaces.

    Raises:
        InputError: no language codes, both the same, or the file cannot be written.
    """
    languages = check_pair(source_lang, target_lang, str(path))
    codes = [quoteattr(code.replace("_", "-")) for code in languages]
    with (
        replacing(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4">\n<header '
            f'creationtool="ems-fast" creationtoolversion={quoteattr(version("ems-fast"))} '
            f'segtype="block" o-tmf="ems-fast" adminlang="en" srclang={codes[0]} '
            'datatype="plaintext"/>\n<body>\n'
        )
        for source, target, score in pairs:
            file.write(f'<tu><prop type="score">{score:.6f}</prop>')
            for code, text in zip(codes, (source, target), strict=True):
                segment = escape(_FORBIDDEN.sub(" ", text))
                file.write(f"<tuv xml:lang={code}><seg>{segment}</seg></tuv>")
            file.write("</tu>\n")
        file.write("</body>\n</tmx>\n")

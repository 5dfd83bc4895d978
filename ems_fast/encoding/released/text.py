"""The text that the authors' released checkpoint was trained on: lower-cased and tokenised.

Which tool splits which language follows the released inference code: Juman++ for Japanese, jieba
for Chinese, the Moses tokenizer (without escaping) for all others.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
from collections.abc import Sequence
from types import ModuleType

from ems_fast.errors import InputError
from ems_fast.text.languages import normalize_language

_CHINESE = ("zh", "wuu", "yue")
_INSTEAD = "or split the text yourself and load the checkpoint with preprocessing=None"


def preprocess_released(sentences: Sequence[str], language: str | None) -> list[str]:
    """Lower-case sentences of one language, and put single spaces between their tokens.

    Raises:
        InputError: no language, or what splits it is not installed.
    """
    if language is None:
        raise InputError(
            "language: got None, but the released checkpoint reads text that was split by a tool "
            f"for its language; give it, as in encode(sentences, language='de'), {_INSTEAD}"
        )
    language = normalize_language(language)
    lowered = [sentence.lower().strip() for sentence in sentences]
    if language in _CHINESE:
        jieba = _tool("jieba", language)
        return [" ".join(jieba.cut(sentence)) for sentence in lowered]
    if language == "ja":
        return _jumanpp(lowered)
    moses = _tool("sacremoses", language).MosesTokenizer(language)
    return [" ".join(moses.tokenize(sentence, escape=False)) for sentence in lowered]


def _tool(package: str, language: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(
            f"language: {language!r} needs the package {package}, which is not installed; "
            f"pip install 'ems-fast[released]', {_INSTEAD}"
        ) from error


def _jumanpp(sentences: list[str]) -> list[str]:
    program = shutil.which("jumanpp")
    if program is None:
        raise InputError(
            "language: 'ja' needs Juman++, and there is no program jumanpp in PATH; install it "
            f"(https://github.com/ku-nlp/jumanpp), {_INSTEAD}"
        )
    # A line is a sentence to Juman++, and one that is empty or begins with # is none.
    lines = [" ".join(sentence.splitlines()) for sentence in sentences]
    asked = [line for line in lines if line.strip()]
    text = "".join(f"{'＃' + line[1:] if line[0] == '#' else line}\n" for line in asked)
    done = subprocess.run([program], input=text, capture_output=True, encoding="utf-8", check=False)
    split = _juman_sentences(done.stdout)
    if done.returncode or len(split) != len(asked):
        raise InputError(
            f"language: 'ja' needs Juman++, but {program} failed ({done.stderr.strip()[:200]}; "
            f"{len(split)} of {len(asked)} sentences); see that it runs by itself, {_INSTEAD}"
        )
    answers = iter(split)
    return [next(answers) if line.strip() else "" for line in lines]


def _juman_sentences(output: str) -> list[str]:
    """Morphemes of each sentence: a line begins with the morpheme, EOS ends a sentence."""
    sentences: list[str] = []
    morphemes: list[str] = []
    for line in output.splitlines():
        if line == "EOS":
            sentences.append(" ".join(morphemes))
            morphemes = []
        elif line and not line.startswith(("@ ", "# ", "\\ ")):  # other readings, notes, spaces
            morphemes.append(line.split(" ", 1)[0])
    return sentences

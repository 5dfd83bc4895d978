"""Is a text in the language it is said to be in? By py3langid, which brings its model along."""

from __future__ import annotations

from typing import Any

from ems_fast.corpus.cleaning import effective_length
from ems_fast.errors import BackendError
from ems_fast.text.languages import normalize_language

# Shorter texts have names, numbers and loan words enough to be of any language.
MIN_LENGTH = 12
# How much likelier another language must be, in natural logarithms.
MIN_EVIDENCE = 10.0
# Languages so near that no short text tells them apart.
_NEAR = ({"bs", "hr", "sr"}, {"id", "ms", "jv"}, {"da", "nb", "nn", "no"}, {"gl", "pt"})


class LanguageIdentifier:
    """What py3langid, from the extra ``filter``, knows of 97 languages.

    Raises:
        BackendError: it is not installed.
    """

    def __init__(self) -> None:
        try:
            from py3langid.langid import MODEL_FILE
            from py3langid.langid import LanguageIdentifier as Identifier
        except ImportError as error:
            raise BackendError(
                "languages: identifying them needs py3langid; pip install 'ems-fast[filter]'"
            ) from error
        self._identifier: Any = Identifier.from_model_file(MODEL_FILE, norm_probs=False)
        self._known = frozenset(map(str, self._identifier.labels))
        self._names: dict[str, frozenset[str]] = {}

    def is_other(self, text: str, language: str) -> bool:
        """Whether `text` is, by strong evidence, not in `language`; no for one it cannot know."""
        if effective_length(text) < MIN_LENGTH:
            return False
        names = self._names.get(language)
        if names is None:
            names = self._names[language] = self._accepted(language)
        if not names:
            return False
        best, likeliest = self._identifier.classify(text)
        if best in names:
            return False
        ranked = self._identifier.rank(text)
        return bool(likeliest - max(s for name, s in ranked if name in names) > MIN_EVIDENCE)

    def _accepted(self, language: str) -> frozenset[str]:
        """The names that count as `language`; none if it is not known."""
        name = normalize_language(language)
        near = next((group for group in _NEAR if name in group), {name})
        return frozenset(near) & self._known if name in self._known else frozenset()

"""Fitted TF-IDF vectorizers, read back from a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aloll_cli.foreign import Unreadable, dict_of, integer

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from aloll_cli.arrays import FloatArray


def restored(vectorizer: TfidfVectorizer, vocabulary: Any, idf: FloatArray) -> TfidfVectorizer:
    """A vectorizer with the features that it was fitted to.

    Args:
        vectorizer: a new one.
        vocabulary: the place of each of V terms, from JSON.
        idf: (V,) their inverse document frequencies.

    Raises:
        Unreadable: the two do not belong together.
    """
    dict_of(integer)(vocabulary, "")
    if sorted(vocabulary.values()) != list(range(idf.size)) or idf.ndim != 1:
        raise Unreadable(f"has {len(vocabulary)} terms that do not belong to the {idf.size} weights beside it")
    fitted: TfidfVectorizer = vectorizer.set_params(vocabulary=vocabulary)
    fitted.idf_ = idf
    return fitted

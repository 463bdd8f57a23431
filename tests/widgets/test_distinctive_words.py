"""The words of texts are those of scikit-learn's counter."""

from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from seqlab.widgets.distinctive_words import WORD, _words


def test_words_are_those_of_scikit_learn() -> None:
    texts = ["Whole milk, WHOLE cream 2%", "", "12 34", "Crème fraîche x milk_2 don't", "milk"]
    counter = CountVectorizer(binary=True, token_pattern=WORD, dtype=np.float64)
    expected = counter.fit_transform(texts).toarray()
    vocabulary, has = _words(texts)
    assert vocabulary.tolist() == counter.get_feature_names_out().tolist()
    np.testing.assert_array_equal(has.toarray(), expected)
    assert _words(["12", ""])[1].shape == (2, 0)

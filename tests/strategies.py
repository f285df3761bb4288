"""Data that hypothesis draws for several tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


@st.composite
def labeled_scores(draw):
    """Labels with both classes and scores with many ties."""
    n = draw(st.integers(4, 30))
    y = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    score = draw(st.lists(st.integers(-5, 5), min_size=n, max_size=n))
    return np.array(y, dtype=int), np.array(score, dtype=float)


def odd_text():
    """Cells and words as people and programs write them, and any text."""
    words = [
        "",
        " ",
        "0",
        "1",
        "-1",
        "1.0",
        "0,5",
        "1e999",
        "nan",
        "NaN",
        "inf",
        "NA",
        "-",
        "+",
        "yes",
        "no",
        "007",
        "7",
        "1_0",
        "٣",
    ]
    words += [
        "=1+1",
        "@a",
        "\t",
        "a\nb",
        '"',
        "'",
        "a;b",
        "a,b",
        "../a.png",
        "/etc",
        "~",
        "C:\\a",
        "N+",
        "US",
        "pre",
        "North",
    ]
    words += [
        "1 2 3 4",
        "4 3 2 1",
        "0.1 0.1",
        "0.1",
        "<b>",
        "$x$",
        "${x}",
        "{x}",
        "%s",
        "\x00",
        "\ufeff",
        "\u2028",
        "ä",
        "a" * 300,
    ]
    words += ["2024-02-30", "12:30:99", "0x1f", "[1, 2", "{a: 1}", "!!binary aa", "*a", "&a b", "null", "True", "~"]
    return st.one_of(st.sampled_from(words), st.text(max_size=12), st.floats().map(str), st.integers().map(str))

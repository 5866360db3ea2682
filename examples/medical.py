"""A medical table for `tabular.toml`: breast tumours, 30 measurements each, benign or malignant (inside scikit-learn).

569 patients: a fifth is open data for the autoencoder, three tenths are the test set, the rest lies at hospitals. The
table names no hospital, so which patients are where is drawn (`[partition]`), with uneven shares of the two classes.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer

from fedagg_edge.datasets import Dataset


def load(public_fraction: float = 0.2, test_fraction: float = 0.3, seed: int = 0) -> Dataset:
    """Return the table, float32 (30,) a patient; `seed` draws who is public and who is test."""
    table = load_breast_cancer()
    x, y = table.data.astype(np.float32), table.target.astype(np.int64)
    public, test, private = np.split(
        np.random.default_rng(seed).permutation(len(x)),
        np.cumsum([round(public_fraction * len(x)), round(test_fraction * len(x))]),
    )
    return Dataset(
        name="breast-cancer",
        classes=2,
        train_x=x[private],
        train_y=y[private],
        test_x=x[test],
        test_y=y[test],
        public_x=x[public],
        class_names=tuple(str(name) for name in table.target_names),
    )

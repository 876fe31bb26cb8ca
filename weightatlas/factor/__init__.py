"""One-sided non-negative matrix factorization of weights: arrays in, :class:`~weightatlas.records.Factors` out."""

from .factorizing import factorize as factorize

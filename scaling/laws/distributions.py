"""Probabilities of the normal, t and F distributions, by scipy.special.

scipy.special takes as long to import as all of `scaling.laws`, so it is imported at the first call.
"""

from __future__ import annotations


def normal_cdf(x):
    """Return the chance of a normal value below x."""
    from scipy import special

    return special.ndtr(x)


def normal_quantile(chance):
    """Return the value below which a normal one lies with this chance."""
    from scipy import special

    return special.ndtri(chance)


def t_quantile(chance, freedom):
    """Return the value below which Student's t of these degrees of freedom lies."""
    from scipy import special

    return special.stdtrit(freedom, chance)


def t_above(x, freedom):
    """Return the chance of a t above x."""
    from scipy import special

    return special.stdtr(freedom, -x)


def f_above(x, above, below):
    """Return the chance of an F above x, with degrees of freedom of numerator and denominator."""
    from scipy import special

    return special.fdtrc(above, below, x)

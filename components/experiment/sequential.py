"""Intervals and p-values that stay valid however often the data is evaluated.

Robbins' normal mixture, as the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
"Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics 52, 2024,
arXiv:2103.06476), theorem 2.2: with t observations of standard deviation sigma, and rho > 0 fixed beforehand,

    mean +- sigma sqrt( 2 (t rho^2 + 1) / (t^2 rho^2) * log( sqrt(t rho^2 + 1) / alpha ) )

covers the truth at all times t at once with probability 1 - alpha, once the normal approximation is good. It is also
the inversion of the mixture sequential probability ratio test with a normal prior of variance (rho sigma)^2 on the
effect (Johari, Koomen, Pekelis and Walsh, "Always valid inference", Operations Research 70, 2022). Here t is the number
of observations of both arms, and sigma^2 is t times the variance of the difference.
"""

from __future__ import annotations

import math

from scipy import special

from tfx_cassandra.components.errors import invalid

_MAX_SHIFT = 1e100  # standard errors; the square of more may overflow


def tuned(observations: int, alpha: float) -> float:
    """Returns rho^2 for which the interval is narrowest at a number of observations.

    rho^2 = (-W(-alpha^2 / e) - 1) / t with the lower branch of Lambert's W (the paper, appendix B.2). The interval is
    valid for any rho^2 that is chosen before the data is seen.

    Raises:
      ValueError: `observations` is below one, or alpha is not between 0 and 1.
    """
    if observations < 1:
        raise invalid('planned_units', observations, 'at least 1')
    if not 0 < alpha < 1:
        raise invalid('alpha', alpha, 'between 0 and 1')
    return float(-special.lambertw(-(alpha**2) / math.e, -1).real - 1) / observations


def radius(stderr: float, observations: int, rho2: float, alpha: float) -> float:
    """Returns half the width of the confidence sequence.

    Args:
      stderr: Standard error of the difference.
      observations: Observations of both arms.
      rho2: The square of the tuning parameter.
      alpha: Probability that the sequence ever misses the truth.
    """
    scaled = observations * rho2
    return stderr * math.sqrt((scaled + 1) / scaled * (2 * math.log(1 / alpha) + math.log1p(scaled)))


def p_value(difference: float, stderr: float, observations: int, rho2: float) -> float:
    """Returns the smallest alpha whose confidence sequence excludes zero: the always-valid p-value."""
    if stderr == 0:
        return 1.0 if difference == 0 else 0.0
    scaled = observations * rho2
    shift = min(abs(difference) / stderr, _MAX_SHIFT)
    exponent = shift**2 * scaled / (2 * (scaled + 1))
    return min(1.0, math.exp(0.5 * math.log1p(scaled) - exponent))

"""The neuron: every scalar formula of the engine, once, for all backends.

Plain functions of one neuron at one step. Each backend compiles them for its device (see
``backends/*/compile.py``) and supplies the loops around them. Three conventions follow from that:

* No formula calls another, so that a backend can compile each on its own. Exponentials are
  handed in by the backend, which owns a fast form of them.
* Bounds are comparisons, not min and max: on a GPU these would turn a NaN into a bound, and hide it.
* No literal but those in the constant tuples: a Python float would silently promote float32 work to
  float64. :func:`constants` and :func:`plasticity_constants` build the tuples in the run's dtype.

Sources: Zhang, Geng, Li (2024) for equation numbers in brackets; TSSL-BP from Zhang and Li (2020);
SpiKL-IP from Zhang and Li (2019).
"""

from typing import NamedTuple

import numpy as np


BOUNDS = 0.5, 8.0    # of R and tau, in units of tau_m, whatever moves them


class Constants(NamedTuple):
    """What the formulas of one layer need, all of the run's dtype."""

    zero: float
    one: float
    decay_s: float      # 1 - 1/tau_s, per step
    v_th: float         # threshold, unit of psc
    cap: float          # largest 1/dv in TSSL-BP: slope_cap / v_th
    inv_width: float    # 1/h, h = surrogate_width * v_th
    below_silent: float # the largest number under 1/4: a psc not above it counts as silent


class PlasticityConstants(NamedTuple):
    """What SpiKL-IP needs, all of the run's dtype."""

    decay_cal: float    # 1 - 1/tau_cal
    inv_tau_cal: float
    gamma: float        # learning rate
    inv_mu: float       # 1 / target mean rate (spikes per step)
    two: float
    one: float
    v_th: float
    rate_floor: float   # y tau at or below it: the rate law says nothing (0.64)
    drift: float        # 0.1 gamma, what a nearly silent neuron moves by
    low: float          # bounds of R and tau
    high: float


def constants(dtype, tau_s, v_th, slope_cap, surrogate_width):
    """Return the :class:`Constants` of a layer.

    Parameters
    ----------
    dtype : numpy dtype of the run
    tau_s : synaptic time constant, steps
    v_th : threshold, unit of psc
    slope_cap : c of TSSL-BP (mathematics 5), the bound on 1/dv in units of 1/v_th
    surrogate_width : h of the logistic surrogate in units of v_th
    """
    real = np.dtype(dtype).type
    return Constants(
        zero=real(0), one=real(1), decay_s=real(1 - 1 / tau_s), v_th=real(v_th),
        cap=real(slope_cap / v_th), inv_width=real(1 / (surrogate_width * v_th)),
        below_silent=np.nextafter(real(0.25), real(0)),
    )


def plasticity_constants(dtype, tau_m, tau_cal, v_th, gamma, mu):
    """Return the :class:`PlasticityConstants` of a layer.

    Parameters
    ----------
    dtype : numpy dtype of the run
    tau_m : membrane time constant at the start of the run, steps; R and tau stay in BOUNDS times it
    tau_cal : time constant of the calcium trace, steps
    v_th : threshold, unit of psc
    gamma : learning rate
    mu : target mean rate, spikes per step
    """
    real = np.dtype(dtype).type
    return PlasticityConstants(
        decay_cal=real(1 - 1 / tau_cal), inv_tau_cal=real(1 / tau_cal), gamma=real(gamma),
        inv_mu=real(1 / mu), two=real(2), one=real(1), v_th=real(v_th), rate_floor=real(0.64),
        drift=real(0.1 * gamma), low=real(BOUNDS[0] * tau_m), high=real(BOUNDS[1] * tau_m),
    )


# ---- forward: one step of a leaky integrate-and-fire neuron [1-4] ------------------------------------


def filtered(k, trace, received):
    """The synaptic filter [1], of a neuron's input current as of its output psc."""
    return k.decay_s * trace + received


def membrane(k, inv_tau, gain, u, c):
    """Membrane potential before reset [2]; ``gain`` is R/tau."""
    return (k.one - inv_tau) * u + gain * c


def fires(k, v):
    """Whether the neuron spikes [4]."""
    return v > k.v_th


def after_reset(k, v, spike):
    """Membrane potential after the hard reset [3]; ``spike`` is 0 or 1, or in between when smooth."""
    return v * (k.one - spike)


# ---- backward: TSSL-BP as a recursion (mathematics 5) -------------------------------------------------------
#
# A neuron that spikes at t is moved in time by a change of v[t]: the spike's effect A[t] (through its
# psc on everything later) and, through the reset it no longer or newly meets, v[t]/tau times the effect
# at t+1; both times the rate at which v crosses the threshold, 1/dv, bounded by `cap`. A neuron that
# does not spike only leaks its effect on. Neurons silent for a while (psc < 1/4) get a logistic
# surrogate instead; that replacement does not enter the recursion.


def timing_error(k, v, u_before, inv_tau_next, effect, error_next):
    """delta0[t] of mathematics 5 from delta0[t+1]; ``effect`` is A[t]."""
    rate = k.one / (v - u_before)
    rate = k.cap if rate > k.cap else rate
    moved = rate * (effect + v * (error_next * inv_tau_next))
    leaked = (k.one - inv_tau_next) * error_next
    return moved if v > k.v_th else leaked


def surrogate_error(k, effect, slope):
    """delta[t] of a silent neuron; ``slope`` is the logistic derivative at (v - v_th)/h."""
    return effect * slope * k.inv_width


# ---- backward: a surrogate gradient through time, beside TSSL-BP (mathematics 5, the end) ---------------------


def through_time_error(k, v, effect, slope, inv_tau_next, error_next):
    """delta[t] from delta[t+1]; ``slope`` is the logistic derivative at (v - v_th)/h. The reset is left out."""
    kept = k.zero if v > k.v_th else (k.one - inv_tau_next) * error_next
    return effect * slope * k.inv_width + kept


# ---- backward: a neuron's own R and tau (mathematics 5, "Time constants and thresholds") -----------------------


def by_resistance(k, inv_tau, u_before, v, error):
    """What a step adds to the gradient of ln R: R scales v but for what is left of u; ``error`` is delta[t]."""
    return error * (v - (k.one - inv_tau) * u_before)


def by_time_constant(u_before, v, error):
    """What a step adds to the gradient of ln tau; ``error`` is delta[t]."""
    return error * (u_before - v)


# ---- the smooth variant (mathematics 12a): a real derivative, to check everything around the spikes ---------


def smooth_error(k, v, spike, inv_tau_next, effect, error_next):
    """delta[t] of the smooth network, reset differentiated exactly; ``spike`` is the logistic at v."""
    slope = spike * (k.one - spike) * k.inv_width
    return slope * effect + (k.one - inv_tau_next) * error_next * ((k.one - spike) - v * slope)


# ---- SpiKL-IP [24-26], with the signs and the exponent of mathematics 8 and 9 -------------------------------


def calcium(p, phi, spike):
    """Intracellular calcium [25], the trace of a neuron's own spikes."""
    return p.decay_cal * phi + spike


def plastic_resistance(p, R, tau, y, excess):
    """R after one step of descent on the KL divergence.

    ``y`` is the rate phi/tau_cal; ``excess`` is Wc = v_th / (exp(1/(tau y)) - 1), and is not used
    where y tau is at or below the floor.
    """
    pull = (p.two * y * tau * p.v_th - excess - p.v_th - tau * p.v_th * y * y * p.inv_mu) / (R * excess)
    moved = R + p.gamma * pull if y * tau > p.rate_floor else R + p.drift
    return p.low if moved < p.low else p.high if moved > p.high else moved


def plastic_time_constant(p, tau, y):
    """tau after one step of descent on the KL divergence."""
    moved = tau + p.gamma * (y * p.inv_mu - p.one) / tau if y * tau > p.rate_floor else tau - p.drift
    return p.low if moved < p.low else p.high if moved > p.high else moved

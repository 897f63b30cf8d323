"""What is known in closed form of the small models: marginals, surrogates, and the gap between them."""

from __future__ import annotations

import math
from itertools import product

import torch
from torch import Tensor
from torch.distributions import (
    MultivariateNormal,
    kl_divergence,
)

from tests.small_models import Bits, LinearGaussian


def gaussian_kl(p: MultivariateNormal, q: MultivariateNormal) -> float:
    return kl_divergence(p, q).item()


def exact_surrogate(teacher: LinearGaussian, student: LinearGaussian) -> float:
    """E_eps KL(p_T(y | eps) || p_S(y | eps)) in closed form ([U] Eq. 4)."""
    (a_t, m_t, s_t), (a_s, m_s, s_s) = teacher.given_noise(), student.given_noise()
    inverse = torch.linalg.inv(s_s)
    difference, shift = a_t - a_s, m_t - m_s
    spread = torch.trace(inverse @ s_t) + torch.trace(difference.T @ inverse @ difference) + shift @ inverse @ shift
    return (0.5 * (spread - len(m_t) + torch.logdet(s_s) - torch.logdet(s_t))).item()


def exact_gap(teacher: LinearGaussian, student: LinearGaussian) -> float:
    """E_y KL(p_T(eps | y) || p_S(eps | y)) in closed form, by Gaussian conditioning ([U] App. B)."""

    def posterior(model: LinearGaussian) -> tuple[Tensor, Tensor, Tensor]:
        a, m, s = model.given_noise()
        covariance = torch.linalg.inv(torch.eye(a.shape[1], dtype=a.dtype) + a.T @ torch.linalg.inv(s) @ a)
        gain = covariance @ a.T @ torch.linalg.inv(s)
        return gain, -gain @ m, covariance  # eps | y ~ N(gain y + offset, covariance)

    (g_t, o_t, c_t), (g_s, o_s, c_s) = posterior(teacher), posterior(student)
    y = teacher.joint("target")
    inverse = torch.linalg.inv(c_s)
    gain, offset = g_t - g_s, o_t - o_s
    mean = gain @ y.mean + offset
    spread = torch.trace(inverse @ c_t) + torch.trace(gain.T @ inverse @ gain @ y.covariance_matrix)
    return (0.5 * (spread + mean @ inverse @ mean - len(mean) + torch.logdet(c_s) - torch.logdet(c_t))).item()


def exact_bits_surrogate(teacher: Bits, student: Bits) -> float:
    """E_u KL(p_T(y | u) || p_S(y | u)) by enumerating both sides' bits, which share u and are 1 where u < p."""

    def coupled(p: Tensor, q: Tensor) -> list[tuple[tuple[float, ...], tuple[float, ...], float]]:
        single = []
        for a, b in zip(p.tolist(), q.tolist()):
            single.append([(1.0, 1.0, min(a, b)), (1.0, 0.0, max(a - b, 0.0)), (0.0, 1.0, max(b - a, 0.0)),
                           (0.0, 0.0, 1.0 - max(a, b))])  # fmt: skip
        return [(tuple(s[0] for s in row), tuple(s[1] for s in row), math.prod(s[2] for s in row))
                for row in product(*single)]  # fmt: skip

    total, dtype = 0.0, teacher.z2.dtype
    for t2, s2, w2 in coupled(torch.sigmoid(teacher.z2), torch.sigmoid(student.z2)):
        p = torch.sigmoid(2.0 * teacher.z1(torch.tensor(t2, dtype=dtype)))
        q = torch.sigmoid(2.0 * student.z1(torch.tensor(s2, dtype=dtype)))
        for t1, s1, w1 in coupled(p, q):
            log_p = torch.log_softmax(2.0 * teacher.y(torch.tensor(t1, dtype=dtype)), -1)
            log_q = torch.log_softmax(2.0 * student.y(torch.tensor(s1, dtype=dtype)), -1)
            total += w2 * w1 * (log_p.exp() * (log_p - log_q)).sum().item()
    return total

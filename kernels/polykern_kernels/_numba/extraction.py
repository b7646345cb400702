"""Loops over condensed trees; parents have smaller ids than their children."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def clusters(parent, child, lambdas, sizes, above, birth, death, stability, members):
    n = parent[0]
    above[0], birth[0], members[0] = -1, 0.0, n
    death[:] = 0.0
    stability[:] = 0.0
    at, leaving = np.zeros(len(above)), np.zeros(len(above), np.int64)
    for row in range(len(parent)):
        p, now = parent[row] - n, lambdas[row]
        if child[row] >= n:
            c = child[row] - n
            above[c], birth[c], members[c], at[c] = p, now, sizes[row], now
        death[p] = max(death[p], now)
        if now != at[p]:
            stability[p] += (at[p] - birth[p]) * leaving[p]
            at[p], leaving[p] = now, 0
        leaving[p] += sizes[row]
    for c in range(len(above)):
        stability[c] += (at[c] - birth[c]) * leaving[c]


@njit(cache=True, nogil=True)
def _families(above, first, count):
    """The children of a cluster have consecutive ids."""
    first[:] = 0
    count[:] = 0
    for c in range(len(above) - 1, 0, -1):
        first[above[c]] = c
        count[above[c]] += 1


@njit(cache=True, nogil=True)
def excess_of_mass(above, stability, members, single, most, chosen, credit):
    C = len(above)
    first, count = np.empty(C, np.int64), np.empty(C, np.int64)
    _families(above, first, count)
    for c in range(C - 1, -1, -1):
        held, size = 0.0, members[c]
        parts = credit[first[c] : first[c] + count[c]]
        for part in np.sort(parts) if count[c] > 2 else parts:
            held += part
        if c == 0:
            size = 0
            for kid in range(first[c], first[c] + count[c]):
                size += members[kid]
        chosen[c] = not (held > stability[c] or size > most)
        credit[c] = stability[c] if chosen[c] else held
    if not single:
        chosen[0], credit[0] = False, stability[0]
    covered = np.zeros(C, np.bool_)
    for c in range(1, C):
        covered[c] = covered[above[c]] or chosen[above[c]]
        if covered[c]:
            chosen[c] = False


@njit(cache=True, nogil=True)
def leaves(above, chosen):
    first, count = np.empty(len(above), np.int64), np.empty(len(above), np.int64)
    _families(above, first, count)
    for c in range(1, len(above)):
        chosen[c] = count[c] == 0
    chosen[0] = False


@njit(cache=True, nogil=True)
def lift(above, birth, single, limit, chosen):
    """Chosen clusters born above the limit go up to the first that is not, or to the top."""
    C = len(above)
    stop, lifted = np.zeros(C, np.int64), np.zeros(C, np.bool_)
    for c in range(1, C):
        if birth[c] <= limit or (above[c] == 0 and not single):
            stop[c] = c
        else:
            stop[c] = stop[above[c]]
        if chosen[c]:
            lifted[stop[c]] = True
    chosen[:] = lifted


@njit(cache=True, nogil=True)
def label(parent, child, lambdas, above, death, chosen, floor, owner, strength):
    """owner int64 (n): the chosen cluster of each point or -1; strength float64 (n)."""
    n = parent[0]
    own = np.empty(len(above), np.int64)
    own[0] = 0 if chosen[0] else -1
    for c in range(1, len(above)):
        own[c] = c if chosen[c] else own[above[c]]
    for row in range(len(parent)):
        i = child[row]
        if i >= n:
            continue
        c = own[parent[row] - n]
        owner[i], strength[i] = -1, 0.0
        if c >= 0 and lambdas[row] >= floor:
            owner[i] = c
            strength[i] = min(lambdas[row], death[c]) / death[c]


@njit(cache=True, nogil=True)
def outliers(parent, child, lambdas, above, death, scores):
    n = parent[0]
    reach = death.copy()
    for c in range(len(above) - 1, 0, -1):
        reach[above[c]] = max(reach[above[c]], reach[c])
    for row in range(len(parent)):
        if child[row] < n:
            most = reach[parent[row] - n]
            scores[child[row]] = (most - lambdas[row]) / most

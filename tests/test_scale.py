"""The model of runs of several processes: its work is that of the plans, and its terms add up."""

from itertools import combinations

import pytest
import torch

from polykern.clustering.panels import Panels
from polykern.launch import Launch
from polykern.ranks import Ranks
from polykern_benches.scale import Link, Load, boruvka, captured, mapped, neighbours, table


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_work_of_the_slowest_rank(size: int) -> None:
    shards = [range(k, 23, size) for k in range(size)]
    assert captured(23 * 10, 10, size).work == 10 * max(map(len, shards))
    bands = [range(128 * k, 1500, 128 * size) for k in range(size)]
    assert mapped(1500, size).work == 128 * 1500 * max(map(len, bands))


@pytest.mark.parametrize("size", [2, 5])
def test_pairs_are_dealt_out_evenly(size: int) -> None:
    n, words = 6000, torch.zeros(6000, 1, dtype=torch.int32)
    pairs = []
    for rank in range(size):
        panels = Panels.of(words, 15, Ranks(Launch(rank, size)), None)
        sides = [panels.rows(p).stop - panels.rows(p).start for p in range(len(panels))]
        diagonal = range(len(panels))[rank::size]
        others = list(combinations(range(len(panels)), 2))[rank::size]
        pairs.append(sum(sides[p] ** 2 / 2 for p in diagonal) + sum(sides[x] * sides[y] for x, y in others))
    assert sum(pairs) == pytest.approx(n * n / 2)
    assert max(pairs) == pytest.approx(neighbours(n, 4, size).work, rel=0.1)


def test_terms_add_up() -> None:
    load = Load(work=10, apart=4, calls=3, wire=100, memory=0)
    assert load.seconds(2, 0.5, Link(1, 50)) == 20 + 2 + 3 + 2


def test_one_process_sends_nothing_and_a_thousand_are_no_slower() -> None:
    for load in (captured(10**6, 100, 1), mapped(4096, 1), neighbours(10**6, 384, 1), boruvka(10**6, 384, 1)):
        assert load.wire == 0
    rows = table(10**9, 384, 1e9, 1e5, 1e6, 1e6, Link(3e-5, 2.5e10))
    for kind in ("capture", "neighbours", "boruvka", "map"):
        seconds = [r["seconds"] for r in rows if r["run"] == kind]
        assert seconds == sorted(seconds, reverse=True)
        assert len(seconds) == 4

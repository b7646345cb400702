"""Factorisations, nearest rows, dictionaries of codes and steering: known answers and slow references."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import NMF
from torch import nn

import polykern as pk
from polykern.errors import UsageError
from polykern.factors import dictionaries, factorisation
from polykern.factors.boolean import cover, covering, union
from polykern.factors.nearest import boundaries_crossed, concentration, cosines
from polykern.factors.steering import Mask, concept_bits, steer
from polykern.points import codes_of
from polykern.tail import Tail
from polykern_kernels import pack
from tests.worlds import random_network

Bits = NDArray[np.bool_]


def parts(n: int = 300, units: int = 30, k: int = 6, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    w, h = rng.gamma(0.4, size=(n, k)), rng.gamma(0.4, size=(k, units))
    return np.maximum(0, w @ h + 0.05 * rng.standard_normal((n, units)))


def planted(seed: int = 0, n: int = 2200, k: int = 8, bits: int = 96) -> tuple[Bits, Bits, Bits]:
    """Rows with 5% of their bits flipped, the same without, and the sets that they are unions of."""
    rng = np.random.default_rng(seed)
    sets = rng.random((k, bits)) < 0.15
    clean = (rng.random((n, k)) < 0.3).astype(float) @ sets > 0
    return clean ^ (rng.random(clean.shape) < 0.05), clean, sets


# --- factorisations -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 6, 10])
def test_nmf_is_that_of_scikit_learn_and_torch_comes_within_a_percent(k: int) -> None:
    x = parts()
    found = factorisation.nmf(x, k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make: Any = NMF
        model = make(k, init="nndsvda", solver="cd", max_iter=400, random_state=0).fit(x)
    assert found.error == pytest.approx(model.reconstruction_err_**2, rel=1e-9)
    ours = factorisation.nmf(x, k, backend="torch")
    assert (ours.components >= 0).all()
    assert (ours.weights >= 0).all()
    assert ours.error == pytest.approx(((x - ours.weights @ ours.components) ** 2).sum())
    assert ours.error <= 1.01 * found.error


def test_more_units_than_rows_start_from_the_same_singular_vectors() -> None:
    x = parts(40, 90)
    ours, theirs = (factorisation.nmf(x, 5, backend=b) for b in ("torch", "sklearn"))
    assert ours.error <= 1.01 * theirs.error


@pytest.mark.gpu
def test_nmf_on_a_device_comes_within_a_percent() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x = parts(2000, 200, 20)
    found = factorisation.nmf(x, 20, device="cuda")
    assert found.backend == "torch"
    assert found.error <= 1.01 * factorisation.nmf(x, 20).error


def test_nmf_of_an_exact_product_is_the_product() -> None:
    rng = np.random.default_rng(1)
    h = np.kron(np.eye(3), np.ones(4))  # disjoint parts: the factorisation is unique
    x = rng.gamma(0.5, size=(200, 3)) @ h
    for backend in ("sklearn", "torch"):
        found = factorisation.nmf(x, 3, backend=backend)
        near = cosines(found.components, h.astype(np.float64))
        assert np.sort(near.max(1)) == pytest.approx(np.ones(3), abs=1e-3)


def test_pca_is_the_svd_of_centred_rows_in_both_senses() -> None:
    x = parts()
    found = factorisation.pca(x, 4)
    assert found.components.shape == (8, 30)
    assert found.components[1::2] == pytest.approx(-found.components[::2])
    _, s, vh = np.linalg.svd(x - x.mean(0), full_matrices=False)
    assert np.abs((found.components[::2] * vh[:4]).sum(1)) == pytest.approx(np.ones(4))
    assert found.error == pytest.approx((s[4:] ** 2).sum())
    assert (found.components[::2].max(1) >= -found.components[::2].min(1)).all()
    back = found.mean + found.weights @ found.components
    assert ((x - back) ** 2).sum() == pytest.approx(found.error)


@pytest.mark.parametrize(
    ("rows", "k", "how", "message"),
    [
        (-parts(), 3, {}, "NMF of negative numbers"),
        (parts(5), 6, {}, "6 components of 5 rows of 30 units"),
        (parts(), 31, {}, "31 components"),
        (parts(), 0, {}, "0 components"),
        (np.zeros((9, 4)), 2, {}, "all zero"),
        (np.full((9, 4), np.nan), 2, {}, "finite"),
        (parts(), 2, {"backend": "cuml"}, "no backend 'cuml'"),
    ],
)
def test_nmf_refuses(rows: NDArray[np.float64], k: int, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        factorisation.nmf(rows, k, **how)


# --- nearest rows -------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [False, True])
def test_concentration_by_hand(noise: bool) -> None:
    rng = np.random.default_rng(0)
    near, labels = rng.random((200, 5)), rng.integers(-1, 4, 200)
    found = concentration(near, labels, noise=noise, share=0.1, permutations=50)
    kept = [i for i in range(200) if noise or labels[i] >= 0]
    most = max(1, round(0.1 * len(kept)))
    for k in range(5):
        nearest = sorted(kept, key=lambda i: -near[i, k])[:most]
        count = [sum(labels[i] == c for i in nearest) for c in range(4)]
        share = np.array([c / sum(count) for c in count if c])
        assert found.purity[k] == max(count) / most
        assert found.entropy[k] == pytest.approx(-(share * np.log2(share)).sum())
        assert count[found.majority[k]] == max(count)
    assert found.rows == most
    assert found.median.value == np.median(found.purity)


def test_concentration_knows_signal_from_chance() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 5, 1000)
    signal = np.eye(5)[labels] + 0.3 * rng.standard_normal((1000, 5))
    found, none = concentration(signal, labels), concentration(rng.random((1000, 5)), labels)
    assert found.purity == pytest.approx(np.ones(5))
    assert found.median.value > found.chance
    assert none.median.value <= none.chance
    with pytest.raises(UsageError, match="every row is noise"):
        concentration(signal, np.full(1000, -1))


def test_cosines_of_nothing_are_zero() -> None:
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert cosines(x, np.array([[1.0, 0.0], [0.0, 0.0]])).tolist() == [[0.6, 0.0], [0.0, 0.0]]


def test_boundaries_crossed_are_the_crossings_of_the_segment() -> None:
    rng = np.random.default_rng(0)
    z, h = rng.standard_normal((50, 12)) + 0.5, rng.standard_normal((4, 12))
    count = boundaries_crossed(z, h)
    model = nn.Sequential(nn.ReLU()).eval()
    mean = z.mean(0)
    for k in range(4):
        axis = h[k] / np.linalg.norm(h[k])
        t = (z - mean) @ axis
        ends = [torch.from_numpy(mean + end * axis) for end in (t.min(), t.max())]
        assert len(pk.sampled_crossings(model, *ends, samples=257)) == count[k] > 0
    two = boundaries_crossed(z, h, (0.0, 1.0))
    assert two.tolist() == (count + boundaries_crossed(z - 1, h)).tolist()


# --- dictionaries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_factors_are_recovered(seed: int) -> None:
    """F1 above 0.95 at 5% flips, and fewer wrong bits than k-means with as long an encoding."""
    bits, clean, sets = planted(seed)
    learned, held = bits[:1800], bits[1800:]
    book = dictionaries.dictionary(learned, len(sets))
    assert dictionaries.agreement(book.supports, sets) > 0.95
    found = dictionaries.score(book, learned, held)
    assert found.length is not None
    centres = int(2 ** np.ceil(found.length))
    other = dictionaries.score(dictionaries.dictionary(learned, centres, method="kmeans"), learned, held)
    assert other.length is not None
    assert other.length >= found.length
    assert found.error < other.error
    assert (book.decode(book.encode(held)) != clean[1800:]).mean() < 0.01


def test_a_union_is_what_it_says_and_turns_only_help() -> None:
    bits, _, sets = planted(n=300)
    wrong = [cover(bits, 8, rounds=r).wrong for r in (1, 2, 5, 60)]
    assert wrong == sorted(wrong, reverse=True)
    found = cover(bits, 8)
    slow = np.array([[any(u and f[d] for u, f in zip(uses, found.features, strict=True)) for d in range(96)]
                     for uses in found.uses[:20]])  # fmt: skip
    assert (union(found.uses[:20], found.features) == slow).all()
    assert found.wrong == (union(found.uses, found.features) != bits).sum()
    every = np.array([[(k >> j) & 1 for j in range(8)] for k in range(256)], bool)
    least = np.array([(union(every, sets) != row).sum(1).min() for row in bits[:60]])
    mine = (union(covering(bits[:60], sets), sets) != bits[:60]).sum(1)
    assert mine.sum() <= 1.02 * least.sum()
    assert (mine >= least).all()


@pytest.mark.parametrize("method", dictionaries.METHODS)
def test_every_method_rebuilds_rows_it_never_saw(method: str) -> None:
    bits = planted(n=700)[0]
    learned, held = bits[:500], bits[500:]
    classes = np.arange(200) % 3
    book = pk.dictionary(learned, 8, method=method, seed=3)
    found = dictionaries.score(book, learned, held, classes)
    nothing = np.minimum(held.mean(0), 1 - held.mean(0)).sum()
    assert found.error < 0.9 * nothing
    encoding = book.encode(held)
    assert found.error == pytest.approx(
        np.mean([(book.decode(e[None])[0] != b).sum() for e, b in zip(encoding, held, strict=True)])
    )
    assert found.active == pytest.approx((encoding != 0).sum() / 200)
    share = [max(np.abs(encoding[classes == c, j]).sum() for c in range(3)) / np.abs(encoding[:, j]).sum()
             for j in range(8) if encoding[:, j].any()]  # fmt: skip
    assert found.purity == pytest.approx(np.mean(share))
    pairs = [(a & b).sum() / max(1, (a | b).sum()) for i, a in enumerate(book.supports) for b in book.supports[:i]]
    assert found.overlap == pytest.approx(np.mean(pairs))
    again = pk.dictionary(learned, 8, method=method, seed=3)
    assert np.array_equal(again.features, book.features)
    if method == "topk":
        assert (encoding > 0).sum(1).max() <= 4
    if method == "kmeans":
        assert found.length == 3.0
        assert (encoding.sum(1) == 1).all()


def test_agreement_is_f1_one_to_one() -> None:
    sets = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)
    assert dictionaries.agreement(sets[::-1], sets) == 1.0
    assert dictionaries.agreement(np.array([[1, 0, 0, 0], [0, 0, 1, 1]], bool), sets) == pytest.approx(
        (2 / 3 + 1) / 2
    )
    assert dictionaries.agreement(sets[:1], sets) == 0.5


def test_dictionaries_refuse() -> None:
    bits = planted(n=50)[0]
    refused: tuple[tuple[Any, dict[str, Any], str], ...] = (
        ((bits.astype(int), 3), {}, "bits are bool"),
        ((bits, 3), {"method": "fourier"}, "no dictionary 'fourier'"),
        ((bits, 51), {}, "51 components"),
        ((bits, 51), {"method": "kmeans"}, "51 centres of 50 rows"),
        ((bits, 3), {"method": "topk", "active": 0}, "0 active features"),
    )
    for args, how, message in refused:
        with pytest.raises(UsageError, match=message):
            pk.dictionary(*args, **how)


# --- steering -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_points_own_mask_is_the_identity(seed: int) -> None:
    world = random_network(seed)
    x = world.points(9)
    tail = Tail(world.model, world.sample)
    with torch.no_grad():
        plain = torch.cat([world.model(x[:4]), world.model(x[4:8]), world.model(x[8:])])
    assert torch.equal(steer(tail, x, Mask.own(codes_of(tail, x)), batch=4), plain)
    assert torch.equal(steer(tail, x, Mask.none(tail.layout), batch=4), plain)


def test_anothers_mask_gives_its_affine_map() -> None:
    """All bits forced to those of another point: the output is that point's affine map at this one."""
    torch.manual_seed(0)
    for activation in (nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU(7), nn.ReLU6(), nn.Hardtanh(-0.5, 0.5)):
        model = nn.Sequential(nn.Linear(5, 7), activation, nn.Linear(7, 7), nn.ReLU(), nn.Linear(7, 3))
        model = model.double().eval().requires_grad_(False)
        x, y = torch.randn(2, 1, 5, dtype=torch.float64)
        tail = Tail(model, x)
        own = Mask.own(codes_of(tail, y))
        jacobian = torch.autograd.functional.jacobian(lambda p, model=model: model(p[None])[0], y[0])
        wanted = model(y)[0] + jacobian @ (x - y)[0]
        torch.testing.assert_close(steer(tail, x, own)[0], wanted, atol=1e-12, rtol=0)


def test_forced_neurons_by_hand() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)).eval().requires_grad_(False)
    x = torch.randn(5, 4)
    tail = Tail(model, x[:1])
    z = model[0](x)
    mask = Mask(tail.layout, torch.tensor([1, 4]), torch.tensor([True, False]))
    hidden = z.clone().relu()
    hidden[:, 1], hidden[:, 4] = z[:, 1], 0.0
    assert torch.equal(steer(tail, x, mask), model[2](hidden))
    smooth = nn.Sequential(model[0], nn.GELU(), model[2]).eval()
    hidden = torch.nn.functional.gelu(z)
    hidden[:, 1] = torch.where(z[:, 1] > 0, hidden[:, 1], z[:, 1])
    hidden[:, 4] = torch.where(z[:, 4] > 0, 0.0, hidden[:, 4])
    found = steer(smooth, x, Mask(Tail(smooth, x[:1]).layout, mask.bits, mask.on))
    assert torch.equal(found, model[2](hidden))


def test_bits_of_a_concept() -> None:
    subject = pk.load("digits")
    inputs = torch.stack([subject.examples.at(k).input for k in range(40)])
    tail = Tail(subject.model, subject.sample, select="relu4")
    codes, concept = codes_of(tail, inputs), np.arange(40) % 4 == 0
    mask = concept_bits(codes, concept, tau=0.2)
    bits = pack.unpack(codes.words, 128).numpy()
    apart = bits[concept].mean(0) - bits[~concept].mean(0)
    assert mask.bits.tolist() == np.flatnonzero(np.abs(apart) > 0.2).tolist()
    assert mask.on.tolist() == (apart[mask.bits] > 0).tolist()
    drawn = mask.shuffled(1)
    assert len(drawn) == len(mask) == len(set(drawn.bits.tolist()))
    assert int(drawn.on.sum()) == int(mask.on.sum())
    with pytest.raises(UsageError, match="true of some codes"):
        concept_bits(codes, np.ones(40, bool))
    with pytest.raises(UsageError, match="layouts"):
        steer(Tail(subject.model, subject.sample, select="relu3"), inputs, mask)
    with pytest.raises(UsageError, match="ascend"):
        Mask(codes.layout, torch.tensor([3, 2]), torch.tensor([True, True]))
    with pytest.raises(UsageError, match="a mask for 3 points"):
        steer(tail, inputs, Mask(codes.layout, torch.tensor([2]), torch.ones(3, 1, dtype=torch.bool)))

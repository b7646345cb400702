"""Spectra: exact exponents of exact power laws, moments that do not care for chunks, codes counted exactly."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import polykern as pk
from polykern.cli.app import run
from polykern.errors import CorruptError, UsageError
from polykern.models import Example
from polykern.spectra import ActivationMoments, CodeMoments, capacity, channels, depth, fit, powerlaw
from polykern.spectra.compute import eigenvalues, held_out, measured, spectrum
from polykern_kernels import pack
from tests.engine.folders import told
from tests.engine.refusals import refused
from tests.engine.stores import planted, written


def gaussian_code(n: int, d: int = 1600, alpha: float = 1.0, seed: int = 0) -> NDArray[np.float64]:
    """Rows of independent columns with variances k^-alpha: any rotation has the same spectrum."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) * np.arange(1, d + 1) ** (-alpha / 2)


def sampled(n: int) -> NDArray[np.float64]:
    x = gaussian_code(n)
    x -= x.mean(0)
    return np.linalg.eigvalsh(x @ x.T if n < x.shape[1] else x.T @ x)[::-1].clip(0)


# --- power laws --------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.49, 3.0])
@pytest.mark.parametrize(("first", "last"), [(11, 500), (5, 30), (101, 500)])
@pytest.mark.parametrize("weighted", [True, False])
def test_an_exact_power_law_is_recovered(alpha: float, first: int, last: int, weighted: bool) -> None:
    found = fit(7.0 * np.arange(1, 1001) ** -alpha, first, last, weighted=weighted)
    assert found.alpha == pytest.approx(alpha, abs=1e-10)
    assert found.r2 == pytest.approx(1, abs=1e-10)


def test_the_fit_is_the_weighted_least_squares_of_the_paper() -> None:
    """By the normal equations of log lambda = c - alpha log n with weights 1/n."""
    values = np.sort(np.random.default_rng(0).gamma(2, size=700))[::-1]
    n = np.arange(11, 501)
    design = np.stack([np.ones(len(n)), -np.log(n)], 1)
    solved = np.linalg.solve(design.T @ (design / n[:, None]), design.T @ (np.log(values[10:500]) / n))
    assert fit(values, 11, 500).alpha == pytest.approx(solved[1], abs=1e-10)


@pytest.mark.parametrize(
    ("n", "weighted", "plain"), [(800, 0.958, 1.031), (1600, 0.962, 0.991), (5000, 0.981, 0.987)]
)
def test_few_rows_bias_the_exponent_as_much_as_is_known(n: int, weighted: float, plain: float) -> None:
    values = sampled(n)
    assert fit(values, 11, 500).alpha == pytest.approx(weighted, abs=0.03)
    assert fit(values, 11, 500, weighted=False).alpha == pytest.approx(plain, abs=0.03)


def test_the_window_follows_the_rank() -> None:
    assert powerlaw.window(5000) == (11, 500)
    assert powerlaw.window(100) == (11, 50)
    with pytest.raises(UsageError, match="no window of ranks"):
        powerlaw.window(23)
    with pytest.raises(UsageError, match="3 of 40 eigenvalues above rounding"):
        fit([3.0, 2.0, 1.0, *[0.0] * 37], 11, 20)


def test_ranks_in_numbers() -> None:
    flat, one = np.ones(40), np.array([5.0, *[0.0] * 39])
    assert powerlaw.participation_ratio(flat) == pytest.approx(40)
    assert powerlaw.effective_rank(flat) == pytest.approx(40)
    assert powerlaw.participation_ratio(one) == powerlaw.effective_rank(one) == pytest.approx(1)


def test_the_bound_is_told_with_what_it_does_not_say() -> None:
    assert powerlaw.critical(8) == 1.25
    assert powerlaw.beside_bound(1.3, 1.4, 8).startswith("above")
    assert powerlaw.beside_bound(1.0, 1.1, 8).startswith("below")
    told = powerlaw.beside_bound(1.2, 1.3, 8)
    assert told.startswith("not apart from")
    assert told.endswith("smoothness itself is not shown")


# --- moments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chunks_and_order_of_merging_change_nothing(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(1)
    rows = torch.from_numpy(3 + gaussian_code(3000, 40)).to(dtype)
    documents = rng.integers(0, 200, len(rows))
    parts = [ActivationMoments(40) for _ in range(3)]
    for k, index in enumerate(np.array_split(rng.permutation(len(rows)), 17)):
        parts[k % 3].add(rows[torch.from_numpy(index)], documents[index])
    a, b, c = parts
    c.merge(a)
    c.merge(b)
    want = np.cov(rows.double().numpy().T, ddof=0)
    assert np.abs(c.read().numpy() - want).max() < 1e-10
    raw = c.read(centred=False).numpy()
    assert np.abs(raw - (rows.double().T @ rows.double() / len(rows)).numpy()).max() < 1e-10


def test_the_rounding_of_rows_is_no_rank() -> None:
    """60 columns that are images of 30 numbers: float16 fills the other 30 with noise, which counts as none."""
    rng = np.random.default_rng(7)
    low = torch.from_numpy(rng.normal(size=(4000, 30)) @ rng.normal(size=(30, 60)))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        moments = ActivationMoments(60)
        moments.add(low.to(dtype))
        values = eigenvalues(moments.read())
        assert powerlaw.positive(values, moments.noise()) == 30
    assert powerlaw.positive(values) <= 31
    half = ActivationMoments(60)
    half.add(low.half())
    assert powerlaw.positive(eigenvalues(half.read())) == 60
    with pytest.raises(UsageError, match="30 of 60 eigenvalues above rounding"):
        fit(eigenvalues(half.read()), 11, 40, noise=half.noise())


def test_leaving_a_group_out_is_leaving_its_documents_out() -> None:
    rng = np.random.default_rng(2)
    rows, documents = torch.from_numpy(rng.normal(size=(500, 6))), rng.integers(0, 50, 500)
    moments = ActivationMoments(6, groups=5)
    moments.add(rows, documents)
    weights = np.array([1.0, 1, 0, 1, 2])
    kept = np.repeat(np.arange(500), weights[documents % 5].astype(int))
    want = np.cov(rows.numpy()[kept].T, ddof=0)
    assert np.abs(moments.read(weights).numpy() - want).max() < 1e-12


def test_a_state_goes_on_where_it_was() -> None:
    rows = torch.from_numpy(gaussian_code(300, 12))
    whole, first = ActivationMoments(12, 4), ActivationMoments(12, 4)
    documents = np.arange(300)
    whole.add(rows, documents)
    first.add(rows[:100], documents[:100])
    again = ActivationMoments.of(first.state_dict())
    again.add(rows[100:], documents[100:])
    assert torch.allclose(again.read(), whole.read(), atol=1e-14)


def test_codes_have_the_spectrum_of_their_bits() -> None:
    rng = np.random.default_rng(3)
    z = torch.from_numpy(rng.normal(size=(700, 70)) @ rng.normal(size=(70, 70)))
    documents = rng.integers(0, 30, 700)
    codes, floats = CodeMoments(70, 8), ActivationMoments(70, 8)
    codes.add(pack.signs(z)[0], documents)
    floats.add((z > 0).double(), documents)
    weights = rng.integers(0, 3, 8).astype(float)
    for w in (None, weights):
        assert np.abs(codes.read(w).numpy() - floats.read(w).numpy()).max() < 1e-14
    assert np.abs(eigenvalues(codes.read()) - eigenvalues(floats.read())).max() < 1e-12
    other = CodeMoments(70, 8)
    other.add(pack.signs(z)[0], documents)
    other.merge(codes)
    assert torch.equal(other.totals, 2 * codes.totals)


def test_the_held_out_spectrum_is_the_variance_along_the_other_halfs_axes() -> None:
    rows, documents = gaussian_code(1600, seed=5), np.arange(1600)
    moments = ActivationMoments(1600, 2)
    moments.add(torch.from_numpy(rows), documents)
    halves = [rows[k::2] - rows[k::2].mean(0) for k in (0, 1)]
    axes = np.linalg.svd(halves[0], full_matrices=False)[2]
    want = (halves[1] @ axes.T).var(0)
    found = held_out(moments)
    assert np.abs(found[:700] - want[:700]).max() < 1e-8
    assert 0.9 < fit(found, 11, 500).alpha < 1.15


def test_what_is_no_number_is_refused() -> None:
    moments = ActivationMoments(3)
    with pytest.raises(CorruptError, match="first in row 1"):
        moments.add(torch.tensor([[0.0, 0, 0], [0, float("nan"), 0]]))
    with pytest.raises(UsageError, match="nothing to take a covariance of"):
        moments.read()
    with pytest.raises(UsageError, match="do not merge"):
        moments.merge(ActivationMoments(4))


# --- whole spectra -----------------------------------------------------------------------------------


def test_a_subjects_spectrum_is_that_of_its_channels_at_every_place() -> None:
    subject = pk.load("digits")
    found = spectrum(subject, ["relu3"])
    batch = torch.stack([subject.examples.at(k).input for k in range(len(subject.examples))])
    with torch.no_grad():
        z = subject.model[:6](batch).double()  # type: ignore[index]
    rows = z.permute(0, 2, 3, 1).reshape(-1, 64).numpy()
    want = np.linalg.eigvalsh(np.cov(rows.T, ddof=0))[::-1]
    assert np.abs(found.sites["relu3"].values / want - 1).max() < 1e-4  # float32 passes, batched differently
    bits = np.linalg.eigvalsh(np.cov((rows > 0).T.astype(float), ddof=0))[::-1]
    assert np.abs(found.sites["relu3 (codes)"].values - bits).max() < 1e-3
    site = found.sites["relu3"]
    assert (site.rows, site.documents, site.enough) == (4752, 297, True)
    assert site.interval.low < site.fit.alpha < site.interval.high


def test_an_interval_covers_the_truth() -> None:
    """20 data sets of 100 documents of 20 equal rows each: alpha of the population inside at least 16 times."""
    d, inside = 48, 0
    for seed in range(20):
        rows = torch.from_numpy(gaussian_code(100, d, 1.0, seed)).float()
        held = Rows(rows[:, :, None].expand(-1, -1, 20))
        site = spectrum(held.subject(), codes=False, first=2, last=20).sites[""]
        assert (site.documents, site.rows) == (100, 2000)
        inside += site.interval.low <= 1.0 <= site.interval.high
    assert inside >= 16


class Rows:
    """Examples that are the pre-activations themselves: a row each, or columns (width, places) of several."""

    noun, targets = "row", None

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, index: int) -> Example:
        return Example(self.rows[index], str(index), None)

    def subject(self) -> pk.Subject:
        return pk.Subject(nn.ReLU(), "rows", "of a test", self.rows[:1], self)  # type: ignore[arg-type]


def test_the_command_writes_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["spectrum", "--out", str(out), "--site", "relu3", "--dimension", "8", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    kept = told(out / "spectrum.json")
    assert said["found"] == kept
    assert kept["numbers"]["relu3"]["beside_bound"].startswith("above 1 + 2/d = 1.25")
    assert (out / "spectra.png").stat().st_size > 10_000
    lines = (out / "eigenvalues.csv").read_text().splitlines()
    assert lines[0] == "site,rank,eigenvalue,held_out"
    assert len(lines) == 1 + 64 + 64
    carried = [line.split(",") for line in (out / "capacities.csv").read_text().splitlines()]
    assert carried[0] == ["site", "channel", "noise", "bits", "low", "high"]
    assert len(carried) == 1 + 2 * len(channels.NOISE) + len(channels.FLIPS)
    at = kept["numbers"]["relu3"]["capacity"]["gaussian"]["1"]
    assert [row[3:] for row in carried if row[1:3] == ["gaussian", "1.0"]] == [
        [str(at[end]) for end in ("value", "low", "high")]
    ]
    assert kept["numbers"]["relu3 (codes)"]["entropy"]["tree"]["value"] < 64
    assert (out / "capacities.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--site", "relu9"], "relu9"),
        (["--ranks", "9", "3"], "--ranks 9 3 is no window"),
        (["--site", "relu1"], "9 positive eigenvalues"),
        (["--dimension", "0"], "--dimension must be positive"),
    ],
)
def test_what_does_not_fit_is_one_line(
    words: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert what in refused(capsys, "spectrum", "--out", str(tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_calls_that_do_not_fit_are_refused_before_anything_is_run(tmp_path: Path) -> None:
    subject = pk.load("digits")
    for how, said in (({"level": 95.0}, "between 0 and 1, got 95"), ({"dimension": 0.0}, "positive dimension")):
        with pytest.raises(UsageError, match=said):
            spectrum(subject, **how)  # type: ignore[arg-type]
    store = written(tmp_path / "a.codes", planted(50)[0])
    with pytest.raises(UsageError, match="there is nothing to measure"):
        spectrum(store, codes=False)


def test_constant_activations_have_no_spectrum() -> None:
    held = Rows(torch.ones(50, 30))
    with pytest.raises(UsageError, match="is constant over all 50 rows"):
        spectrum(held.subject(), [""])


# --- capacity ----------------------------------------------------------------------------------------


def test_capacities_are_their_closed_forms() -> None:
    assert capacity.gaussian([3.0, 15.0], 1.0) == pytest.approx(0.5 * (2 + 4))
    assert capacity.white([3.0, 15.0], 1.0) == pytest.approx(np.log2(10))
    assert capacity.binary_symmetric(100, 0.5) == pytest.approx(0)
    assert capacity.binary_symmetric(100, 0.0) == capacity.binary_symmetric(100, 1.0) == 100
    assert capacity.binary_symmetric(1, 0.11) == pytest.approx(0.5, abs=1e-3)
    noise = [capacity.gaussian(np.arange(1, 9.0), s) for s in (0.1, 0.5, 2.0)]
    assert noise == sorted(noise, reverse=True)
    assert all(capacity.white(np.arange(1, 9.0), s) >= g for s, g in zip((0.1, 0.5, 2.0), noise, strict=True))


def test_the_entropy_of_a_code_counts_copies_once() -> None:
    """Three independent fair bits, one of them twice and one negated: 3 bits, exactly, in all 8 patterns."""
    a = np.array([[k >> j & 1 for j in range(3)] for k in range(8)], float)
    bits = np.concatenate([a, a[:, :1], 1 - a[:, 1:2]], 1)
    total = torch.from_numpy(bits.T @ bits).long()
    found = capacity.code_entropy(total, 8)
    assert found == pytest.approx((5, 2, 3))


def test_channels_of_a_spectrum_are_the_closed_forms_over_the_noise() -> None:
    values = np.arange(8, 0, -1.0)
    carried, even = channels.gaussian(values, [values, values, values])
    scale = values.mean() ** 0.5
    for noise, bits in carried.points():
        assert bits.value == pytest.approx(capacity.gaussian(values, noise * scale))
        assert (bits.low, bits.high) == pytest.approx((bits.value, bits.value))  # leaving out changes nothing
    assert [b.value for b in even.bits] == pytest.approx([4 * np.log2(1 + x**-2) for x in channels.NOISE])
    assert (np.diff([b.value for b in carried.bits]) < 0).all()
    flipped = channels.binary(100)[0]
    assert flipped.at(0.5).value == pytest.approx(0)
    assert flipped.at(0.1).value == pytest.approx(capacity.binary_symmetric(100, 0.1))
    with pytest.raises(UsageError, match=r"no noise 0\.7 on the grid"):
        carried.at(0.7)


def test_intervals_of_capacity_are_by_groups_of_documents() -> None:
    rows, documents = torch.from_numpy(gaussian_code(600, 40)), np.arange(600)
    moments = ActivationMoments(40, 4)
    moments.add(rows, documents)
    site = measured("rows", moments, 600)
    rest = [np.linalg.eigvalsh(np.cov(rows[documents % 4 != g].T.numpy(), ddof=0))[::-1] for g in range(4)]
    sigma = site.values.mean() ** 0.5
    found = [capacity.gaussian(r, sigma) for r in rest]
    error = np.sqrt(3 / 4 * ((np.array(found) - np.mean(found)) ** 2).sum())
    at = site.channels[0].at(1.0)
    assert at.high - at.value == pytest.approx(at.value - at.low)
    assert at.high - at.value == pytest.approx(3.182446 * error, rel=1e-5)  # t of 3 degrees of freedom, 95 %


def test_bounds_of_the_entropy_of_measured_codes() -> None:
    """Four fair bits, two of them copies: 4 bits alone, 2 less by the tree; every group has all patterns."""
    a = np.array([[k >> j & 1 for j in range(2)] for k in range(4)] * 40)
    moments = CodeMoments(4, 4)
    moments.add(pack.signs(torch.from_numpy(np.concatenate([a, a], 1) - 0.5))[0], np.repeat(np.arange(40), 4))
    site = measured("codes", moments, 40, first=1, last=2)
    assert site.entropy is not None
    ends = {name: (e.low, e.value, e.high) for name, e in vars(site.entropy).items()}
    for name, bits in (("independent", 4), ("tree", 2), ("redundancy", 2)):
        assert ends[name] == pytest.approx((bits, bits, bits))
    assert [c.name for c in site.channels] == [channels.BINARY]


# --- by block ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "what", "block"),
    [
        ("output:layers.3", "block, output", 3),
        ("input:layers.12.mlp.down_proj", "mlp.down_proj, input", 12),
        ("encoder.layer.3.intermediate (codes)", "intermediate (codes)", 3),
        ("output:transformer.h.47", "block, output", 47),
    ],
)
def test_the_block_of_a_site(name: str, what: str, block: int) -> None:
    assert depth.place_of(name) == (what, block)


def test_a_layer_without_a_number_has_no_block() -> None:
    assert depth.place_of("relu3") is None


class Blocks(nn.Module):
    """Two blocks that are a ReLU each."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.ReLU(), nn.ReLU()])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 40) -> (n, 40)."""
        for layer in self.layers:
            x = 2 * layer(x) - 1
        return x


def test_sites_of_blocks_are_drawn_by_block(tmp_path: Path) -> None:
    held = Rows(torch.from_numpy(gaussian_code(300, 40)).float())
    subject = pk.Subject(Blocks(), "blocks", "of a test", held.rows[:1], held)  # type: ignore[arg-type]
    found = spectrum(subject, codes=False)
    assert list(found.sites) == ["layers.0", "layers.1"]
    assert depth.has_depth(found)
    assert found.plot(tmp_path / "a.png", "exponents").stat().st_size > 10_000
    assert not depth.has_depth(spectrum(held.subject(), codes=False))

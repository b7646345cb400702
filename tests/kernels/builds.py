"""Every Triton kernel with the constants that it is compiled with ahead of time."""

import dataclasses
from typing import Any

ARCHITECTURES = (80, 90, 100)


@dataclasses.dataclass(frozen=True)
class Build:
    """One kernel with its constants.

    family     stem of the device module
    kernel     name of the jitted function
    types      pointer parameter -> type; every other run-time parameter is an int32
    constants  constexpr parameters; an integer 1 is one too, as a launch makes it
    launched   constexpr parameters whose value is the device module's constant of the same name
    options    what the launcher passes to the compiler, beside the device module's OPTIONS
    popcount   whether its work is popcounts
    multiples  run-time integers that a launch finds to be multiples of 16
    budget     instructions a pass of its longest loop may take, or all of them where there is none, before it
               waits for them and not for memory; such a kernel loads 16 bytes at a time
    least, most  the architectures that it is launched on
    gluon      whether it is written in Gluon, for 1-bit tensor cores
    """

    family: str
    kernel: str
    variant: str
    types: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    launched: tuple[str, ...] = ()
    popcount: bool = False
    multiples: tuple[str, ...] = ()
    budget: int = 0
    least: int = 80
    most: int = 100
    gluon: bool = False

    @property
    def architectures(self) -> tuple[int, ...]:
        """Those that it is launched on."""
        return tuple(a for a in ARCHITECTURES if self.least <= a <= self.most and (a <= 90 or not self.gluon))

    @property
    def name(self) -> str:
        return f"{self.kernel}-{self.variant}"


def _signs(element: str, kinks: int, each: bool, aligned: bool) -> Build:
    wide = "*fp32" if element in ("fp16", "bf16") else f"*{element}"
    types = {"x_ptr": f"*{element}", "floor_ptr": wide, "words_ptr": "*i32", "ones_ptr": "*i32", "nans_ptr": "*i64"}
    constants = {"KINKS": kinks, "EACH": each, "ALIGNED": aligned, "ALONE": aligned}
    variant = f"{element}-{kinks}{'each' if each else ''}{'' if aligned else '-split'}"
    launched = ("BLOCK_R", "BLOCK_W")
    # a processor issues 128 instructions of threads a clock, and its share of 4.3 TB/s is 16.5 bytes: 8 for each;
    # a pass reads 16 elements a thread and writes a bit for each and each threshold
    moved = 16 * {"bf16": 2, "fp32": 4, "fp64": 8}[element] + 2 * kinks
    multiples, budget = (("UNITS", "WORDS", "SPAN"), 8 * moved) if aligned else ((), 0)
    return Build("pack", "pack_signs_kernel", variant, types, constants, {}, launched, True, multiples, budget)


def _grid(element: str, kinks: int, activate: bool) -> Build:
    real = f"*{element}"
    types = {
        "anchor_ptr": real,
        "delta_ptr": "*fp32" if activate else real,
        "out_ptr": "*fp32" if activate else real,
        "kinks_ptr": real,
        "tilts_ptr": real,
        "margin_ptr": "*i32",
        "nans_ptr": "*i64",
        "words_ptr": "*i32",
    }
    constants = {"KINKS": kinks, "ACTIVATE": activate}
    launched = ("BLOCK_P", "BLOCK_U", "CHUNK_U")
    variant = f"{element}-{kinks}-{'step' if activate else 'tally'}"
    return Build("grid", "grid_step_kernel", variant, types, constants, {}, launched)


def _program(kernel: str, pixels: int, warps: int) -> Build:
    types = {
        **dict.fromkeys(("tolerance_ptr", "coefficient_ptr", "base_margin_ptr", "scratch_ptr"), "*fp64"),
        **dict.fromkeys(("first_ptr", "key_ptr", "start_ptr", "base_digest_ptr"), "*i64"),
        **dict.fromkeys(("digest_ptr", "uncertain_ptr"), "*i64"),
        **dict.fromkeys(("target_ptr", "field_ptr", "term_ptr", "symbols_ptr", "scale_ptr"), "*i32"),
        **dict.fromkeys(("base_winner_ptr", "classes_ptr", "right_ptr", "down_ptr"), "*i32"),
        **{"margin_ptr": "*fp32", "kind_ptr": "*i8", "signs_ptr": "*u8"},
    }
    return Build("program", kernel, str(pixels), types, {"PIX": pixels}, {"num_warps": warps})


def _neighbours(kernel: str, jaccard: bool) -> Build:
    real = "*fp64" if jaccard else "*i32"
    types = {
        **dict.fromkeys(("a_ptr", "b_ptr", "a_ones_ptr", "b_ones_ptr"), "*i32"),
        **{"skip_ptr": "*i64", "radii_ptr": real, "out_ptr": "*i64" if "within" in kernel else real},
    }
    variant, sizes = "jaccard" if jaccard else "hamming", {"JACCARD": jaccard, "BLOCK_M": 32}
    return Build("neighbours", kernel, variant, types, sizes, {}, ("BLOCK_N",), popcount=True)


def _blocks(kernel: str, minima: str, held: str, **constants: Any) -> Build:
    types = {
        **dict.fromkeys(("a_ptr", "b_ptr", "a_ones_ptr", "b_ones_ptr", "chosen_ptr"), "*i32"),
        **{"minima_ptr": minima, "held_ptr": held, "out_ptr": held, "skip_ptr": "*i64"},
    }
    rescan = "rescan" in kernel
    launched = ("BLOCK", "BLOCK_W") if rescan else ("MINIMA",)
    options = {} if rescan else {"num_warps": max(1, min(8, constants["WIDE"] // 256))}
    variant = "-".join([minima[1:], held[1:], *(str(c) for c in constants.values())])
    return Build("blocks", kernel, variant, types, constants, options, launched, popcount=rescan)


def _tile(way: str, family: str, kernel: str, variant: str = "any", **constants: Any) -> Build:
    minima = "*i16" if constants.get("LONE") == 2**15 - 1 else "*i32"
    b1 = way == "b1"
    types = {
        **dict.fromkeys(("a_ptr", "b_ptr"), "*i32" if b1 else "*i8"),
        **dict.fromkeys(("a_ones_ptr", "b_ones_ptr", "a_core_ptr", "b_core_ptr"), "*i32"),
        **dict.fromkeys(("a_component_ptr", "b_component_ptr", "b_name_ptr", "near_ptr", "radii_ptr"), "*i32"),
        **{"rows_ptr": minima, "columns_ptr": minima, "skip_ptr": "*i64", "edge_ptr": "*i64"},
        "out_ptr": "*i64" if kernel == "within" else "*i32",
    }
    name, options = f"{way}_{kernel}_kernel", {"num_warps": 8} if b1 else {}
    return Build(f"{way}_{family}", name, variant, types, constants, options, gluon=b1)


def _tiles(way: str) -> tuple[Build, ...]:
    """All kernels around a tile of products."""
    minima = (
        ("rows", 2**15 - 1, False, False),
        ("rows-long", 2**31 - 1, False, False),
        ("both", 2**15 - 1, True, False),
        ("half", 2**15 - 1, True, True),
        ("half-long", 2**31 - 1, True, True),
    )
    return (
        _tile(way, "hamming", "pairwise"),
        *(
            _tile(way, "neighbours", "minima", variant, LONE=lone, BOTH=both, HALF=half)
            for variant, lone, both, half in minima
        ),
        _tile(way, "neighbours", "within"),
        _tile(way, "foreign", "foreign"),
    )


def _foreign(jaccard: bool) -> Build:
    real = "*fp64" if jaccard else "*i32"
    types = {
        **dict.fromkeys(("a_ptr", "b_ptr", "a_ones_ptr", "b_ones_ptr", "b_name_ptr", "point_ptr"), "*i32"),
        **dict.fromkeys(("a_component_ptr", "b_component_ptr"), "*i32"),
        **dict.fromkeys(("a_core_ptr", "b_core_ptr", "near_ptr", "bound_ptr", "weight_ptr"), real),
    }
    variant, launched = "jaccard" if jaccard else "hamming", ("BLOCK_N", "BLOCK_M")
    name = "foreign_nearest_kernel"
    return Build("foreign", name, variant, types, {"JACCARD": jaccard}, {}, launched, popcount=True)


def _forms(kernel: str, variant: str = "any", *launched: str, **constants: Any) -> Build:
    types = {
        **dict.fromkeys(("rows_ptr", "low_ptr", "high_ptr", "out_low_ptr", "out_high_ptr", "size_ptr"), "*fp64"),
        **dict.fromkeys(("slope_ptr", "jump_ptr", "weight_ptr", "coefficient_ptr", "rise_ptr"), "*fp64"),
        **dict.fromkeys(("floor_ptr", "ceiling_ptr"), "*fp64"),
        **dict.fromkeys(("ptr_ptr", "source_ptr", "tile_ptr", "rank_ptr", "fresh_ptr", "keys_ptr"), "*i64"),
        **dict.fromkeys(("members_ptr", "winner_ptr", "unit_ptr", "minus_ptr", "first_ptr"), "*i64"),
        **{"on_ptr": "*u8", "symbol_ptr": "*i32", "term_ptr": "*i32"},
        "out_ptr": {"surviving": "*u8", "key_sums": "*i64"}.get(kernel, "*fp64"),
    }
    return Build("forms", f"forms_{kernel}_kernel", variant, types, constants, {}, launched)


def _profiles(kernel: str, launched: tuple[str, ...], variant: str, **ones: int) -> Build:
    types = {
        **dict.fromkeys(("rows_ptr", "edges_ptr", "group_ptr"), "*i64"),
        **dict.fromkeys(("words_ptr", "weights_ptr"), "*i32"),
        "out_ptr": "*i64" if "sums" in kernel else "*i32",
    }
    return Build("profiles", kernel, variant, types, ones, launched=launched)


def _narrow_step(kinks: int, gain: bool, relu: bool, apart: bool = False, **ones: int) -> Build:
    types = {
        **dict.fromkeys(("delta_ptr", "out_ptr"), "*fp16"),
        **dict.fromkeys(("gain_ptr", "constants_ptr"), "*fp32"),
        **{"anchor_ptr": "*fp64", "margin_ptr": "*i32", "nans_ptr": "*i64", "words_ptr": "*i32"},
    }
    constants = {"KINKS": kinks, "GAIN": gain, "RELU": relu, "APART": apart, **ones}
    launched = ("BLOCK_P", "BLOCK_U", "CHUNK_P")
    channels = f"-of-{ones['CHANNELS']}" if ones else ""
    variant = f"{'relu' if relu else kinks}{'-gain' if gain else ''}{channels}{'-apart' if apart else ''}"
    multiples = ("CHANNELS", "PITCH", "OUT_PITCH", "STRIDE", "UNITS") if apart else ()
    return Build("narrow", "narrow_step_kernel", variant, types, constants, {}, launched, multiples=multiples)


def _narrow_count(variant: str, **ones: int) -> Build:
    types = {**_RASTER, "digest_ptr": "*i64", "OFFSET": "i64" if variant == "far" else "i32"}
    name, options = "narrow_count_kernel", {"num_warps": 1}
    return Build("narrow", name, variant, types, ones, options, ("BLOCK_W",), popcount=True)


def _narrow_pool(size: int, **known: int) -> Build:
    types = {
        **dict.fromkeys(("anchor_ptr", "pooled_ptr"), "*fp64"),
        **{"delta_ptr": "*fp16", "out_ptr": "*fp16", "rivals_ptr": "*i32", "inverse_ptr": "*fp32"},
    }
    launched = ("BLOCK_S", "BLOCK_C", "CHUNK_P")
    variant, options = f"{size}{'-of-832' if known else ''}", {"num_warps": 8}
    return Build("narrow", "narrow_pool_kernel", variant, types, {"SIZE": size, **known}, options, launched)


def _linear_signs(kinks: int, activated: bool, multiples: tuple[str, ...] = (), **ones: int) -> Build:
    types = {
        **dict.fromkeys(("x_ptr", "weight_ptr", "bias_ptr", "floor_ptr", "pieces_ptr", "out_ptr"), "*fp32"),
        **{"words_ptr": "*i32", "nans_ptr": "*i64"},
    }
    constants = {"KINKS": kinks, "BIAS": True, "ACTIVATED": activated, **ones}
    variant = f"{kinks}{'-activated' if activated else ''}{'' if multiples else '-one' if ones else '-unaligned'}"
    options, launched = {"num_warps": 8}, ("BLOCK_N", "BLOCK_U", "BLOCK_K")
    return Build("linear", "linear_signs_kernel", variant, types, constants, options, launched, False, multiples)


def _linear_step(
    kinks: int, relu: bool, tile: tuple[int, int, int], multiples: tuple[str, ...] = (), **ones: int
) -> Build:
    types = {
        **dict.fromkeys(("delta_ptr", "weight_ptr", "out_ptr"), "*fp16"),
        **{"anchor_ptr": "*fp64", "constants_ptr": "*fp32", "margin_ptr": "*i32"},
        **{"nans_ptr": "*i64", "words_ptr": "*i32"},
    }
    sizes = dict(zip(("BLOCK_N", "BLOCK_U", "BLOCK_K"), tile, strict=True))
    options = {"num_warps": 4 if tile[0] == 64 else 8, "num_stages": 3, "enable_fp_fusion": False}
    variant = (
        f"{'relu' if relu else kinks}-{tile[0]}x{tile[1]}{'' if multiples else '-one' if ones else '-unaligned'}"
    )
    most = 90 if tile[1] == 128 else 100
    constants = {"KINKS": kinks, "RELU": relu, **sizes, **ones}
    return Build(
        "linear", "linear_step_kernel", variant, types, constants, options, (), False, multiples, most=most
    )


def _covariance(element: str, large: bool, multiples: tuple[str, ...]) -> Build:
    types = {"x_ptr": f"*{element}", "products_ptr": "*fp64"}
    constants = {"BLOCK_I": 128, "BLOCK_J": 256 if large else 128, "BLOCK_R": 64 if large else 32}
    variant = f"{element}-{'large' if large else 'small'}"
    options = {"num_warps": 8, "num_stages": 3}
    name = "covariance_products_kernel"
    least = 90 if large else 80
    return Build("covariance", name, variant, types, constants, options, ("GROUP",), False, multiples, least=least)


_CODES = {"a_ptr": "*i32", "b_ptr": "*i32", "out_ptr": "*i32"}
_RASTER = {"words_ptr": "*i32", "right_ptr": "*i32", "down_ptr": "*i32"}

BUILDS = (
    Build("hamming", "hamming_pairwise_kernel", "tile", _CODES, {}, {}, ("BLOCK_N", "BLOCK_M"), popcount=True),
    Build("hamming", "hamming_aligned_kernel", "16x64", _CODES, {"BLOCK_N": 16, "BLOCK_W": 64}, popcount=True),
    *(
        Build(
            "hamming",
            "hamming_neighbours_kernel",
            variant,
            _RASTER,
            {"ADD": add, "BLOCK_X": 16, "BLOCK_W": 64, **ones},
            popcount=True,
        )
        for variant, add, ones in (
            ("write", False, {}),
            ("add", True, {}),
            ("one-column", True, {"WIDTH": 1, "WORDS": 1}),
        )
    ),
    *(_foreign(jaccard) for jaccard in (False, True)),
    Build("digest", "digest_keys_kernel", "512", {"out_ptr": "*i64"}, {"BLOCK": 512}),
    *(
        Build(
            "digest",
            "digest_fingerprints_kernel",
            variant,
            {"words_ptr": "*i32", "out_ptr": "*i64"},
            ones,
            launched=("BLOCK_R", "BLOCK_W", "CHUNK_W"),
        )
        for variant, ones in (("any-bit", {}), ("second-bit", {"OFFSET": 1, "WORDS": 1, "ROWS": 1}))
    ),
    *(_signs(element, 1, False, True) for element in ("bf16", "fp32", "fp64")),
    _signs("bf16", 2, False, True),
    _signs("fp32", 2, True, False),
    Build("pack", "pack_unpack_kernel", "1024", {"words_ptr": "*i32", "out_ptr": "*u8"}, {"BLOCK": 1024}),
    Build(
        "pack",
        "pack_transpose_kernel",
        "8x16",
        {"words_ptr": "*i32", "out_ptr": "*i32"},
        {"BLOCK_R": 8, "BLOCK_W": 16},
        multiples=("WORDS", "SIZE"),
        budget=8 * 2 * 32 * 4,  # 32 words a thread, read and written
    ),
    Build("pack", "pack_place_kernel", "256", {"part_ptr": "*i32", "out_ptr": "*i32"}, {"BLOCK": 256}),
    _grid("fp32", 1, True),
    *(_grid("fp64", *case) for case in ((1, True), (2, True), (2, False))),
    *(
        _neighbours(f"neighbours_{kernel}_kernel", jaccard)
        for kernel in ("minima", "within")
        for jaccard in (False, True)
    ),
    *(_blocks("blocks_rescan_kernel", "*i32", held, JACCARD=held == "*fp64") for held in ("*i32", "*fp64")),
    *(
        _blocks("blocks_choose_kernel", minima, held, WIDE=wide)
        for minima, held, wide in (("*i16", "*i32", 16), ("*i32", "*i32", 1), ("*fp64", "*fp64", 512))
    ),
    *_tiles("b1"),
    *_tiles("dot"),
    *(
        _profiles(kernel, launched, variant, **ones)
        for kernel, launched in (
            ("profiles_counts_kernel", ("BLOCK_R", "BLOCK_W")),
            ("profiles_sums_kernel", ("SUMMED", "SUM_W")),
        )
        for variant, ones in (("any", {}), ("one-bit", {"WORDS": 1, "BITS": 1}))
    ),
    *(_forms(kernel, "any", "BLOCK_U") for kernel in ("ranges", "rescale")),
    *(_forms(kernel, "any", "WIDE_U") for kernel in ("surviving", "key_sums")),
    *(_forms(kernel, "any", "BLOCK_N") for kernel in ("winner", "rise")),
    *(_forms("terms", variant, "BLOCK_N", FILL=fill) for variant, fill in (("count", False), ("fill", True))),
    *(
        _forms("convolve", variant, "BLOCK_O", "BLOCK_P", "BLOCK_K", **ones)
        for variant, ones in (("any", {}), ("one-channel", {"STRIDE_Y": 1, "STRIDE_X": 1, "CHANNELS": 1}))
    ),
    *(_narrow_step(*case) for case in ((1, False, True), (1, True, True), (1, True, False), (2, True, False))),
    *(_narrow_step(1, True, True, CHANNELS=c, UNITS=49 * c) for c in (1, 384)),
    *(_narrow_step(*case, apart=True) for case in ((1, True, True), (2, True, False))),
    _narrow_step(1, True, True, apart=True, CHANNELS=1, PITCH=1),
    _narrow_count("near"),
    _narrow_count("far", WIDTH=1),
    *(_narrow_pool(size) for size in (4, 9)),
    _narrow_pool(9, CHANNELS=832),
    _linear_signs(1, False, ("INPUTS", "UNITS")),
    _linear_signs(1, True, ("INPUTS", "UNITS")),
    _linear_signs(2, True),
    _linear_signs(1, True, (), **dict.fromkeys(("ROWS", "UNITS", "INPUTS", "WORDS"), 1)),
    _linear_step(1, True, (128, 128, 64), ("INPUTS", "UNITS", "STRIDE")),
    _linear_step(1, True, (128, 64, 64), ("INPUTS", "STRIDE")),
    _linear_step(1, True, (64, 64, 32)),
    _linear_step(1, True, (64, 64, 32), (), **dict.fromkeys(("POINTS", "UNITS", "INPUTS", "WORDS", "STRIDE"), 1)),
    _linear_step(2, False, (64, 64, 32), ("INPUTS", "STRIDE")),
    _linear_step(2, False, (64, 64, 32)),
    _covariance("bf16", True, ("COLUMNS", "D")),
    _covariance("fp16", False, ("COLUMNS",)),
    *(_program(*kernel) for kernel in (("program_run_kernel", 64, 1), ("program_count_kernel", 256, 4))),
)

"""Fingerprints of codes."""

from polykern_benches._harness import Case, Setting, Trial, codes, same
from polykern_kernels import digest

CHECKED = 8  # rows the reference repeats


def cases(setting: Setting) -> list[Case]:
    """Many rows of a language model's layer, few rows of a whole vision tail."""
    many = setting.pick((1 << 20 if setting.device == "cuda" else 1 << 16, 96), (9, 3))
    long = setting.pick((1 << 16 if setting.device == "cuda" else 1 << 11, 3504), (2, 70))
    return [_fingerprints(setting, *many), _fingerprints(setting, *long)]


def _fingerprints(setting: Setting, rows: int, size: int) -> Case:
    bits = 32 * size

    def setup() -> Trial:
        words = codes(rows, size, device=setting.device)
        few = words[-CHECKED:]
        return Trial(
            inputs=(words,),
            run=lambda backend: digest.fingerprints(words, bits, backend=backend),
            holds=lambda got: same(got[-CHECKED:], digest.fingerprints(few, bits, backend="reference")),
        )

    return Case(
        operation="digest.fingerprints",
        params={"rows": rows, "bits": bits},
        dtype="int32",
        cost=digest.cost(rows, bits),
        ways=digest.IMPLS["fingerprints"],
        setup=setup,
    )

"""The GPU's own account of a run: clocks, power, temperature, and why it ran slower than it could.

NVML (`nvidia-ml-py`) tells; without it, or on a device it does not know, there is nothing to read.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

# bits of NVML's clock event reasons that slow a run down; the others (idle, clocks that were asked for) do not
SLOWED = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
SM, MEMORY, ON_THE_DIE = 1, 2, 0  # NVML's numbers of two clocks and a sensor
REASONS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the board: MHz, W, degrees Celsius, and what slows it; None where the board does not say."""

    sm_mhz: int | None = None
    memory_mhz: int | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    throttled: tuple[str, ...] = ()


class Board:
    """The board of the current CUDA device."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle

    @classmethod
    def of(cls, device: str) -> "Board | None":
        """The board of the current device, None on the CPU and where NVML does not say."""
        if device != "cuda":
            return None
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None
        try:
            nvml.nvmlInit()
            uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            return cls(nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
        except (nvml.NVMLError, AttributeError):
            return None

    def read(self) -> Reading:
        """How it runs now."""
        power = self._ask("nvmlDeviceGetPowerUsage")
        bits = next((found for name in REASONS if (found := self._ask(name)) is not None), 0)
        return Reading(
            self._ask("nvmlDeviceGetClockInfo", SM),
            self._ask("nvmlDeviceGetClockInfo", MEMORY),
            None if power is None else power / 1e3,
            self._ask("nvmlDeviceGetTemperature", ON_THE_DIE),
            tuple(reason for bit, reason in SLOWED.items() if bits & bit),
        )

    def limits(self) -> dict[str, Any]:
        """What it may reach at most, and the driver."""
        cap = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        try:
            driver = str(self.nvml.nvmlSystemGetDriverVersion())
        except self.nvml.NVMLError:
            driver = None
        return {
            "driver": driver,
            "max_sm_mhz": self._ask("nvmlDeviceGetMaxClockInfo", SM),
            "max_memory_mhz": self._ask("nvmlDeviceGetMaxClockInfo", MEMORY),
            "power_cap_w": None if cap is None else cap / 1e3,
        }

    def _ask(self, name: str, *args: int) -> int | None:
        """What a function of NVML says of the board, None where it cannot."""
        function: Callable[..., int] | None = getattr(self.nvml, name, None)
        if function is None:
            return None
        try:
            return int(function(self.handle, *args))
        except self.nvml.NVMLError:
            return None


def summary(readings: Sequence[Reading]) -> dict[str, Any] | None:
    """Of a run: median clocks, the highest power and temperature, all that slowed it; None without a reading."""
    if not readings:
        return None

    def of(name: str, how: Callable[[list[Any]], Any]) -> Any:
        found = [value for r in readings if (value := getattr(r, name)) is not None]
        return how(found) if found else None

    return {
        "sm_mhz": of("sm_mhz", median),
        "memory_mhz": of("memory_mhz", median),
        "power_w": of("power_w", max),
        "temperature_c": of("temperature_c", max),
        "throttle_reasons": sorted({reason for r in readings for reason in r.throttled}),
    }

"""CUDA C++ on the device at hand: compiled by nvcc or, where there is none, by NVRTC; launched by the driver."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

NOT_FOUND = 500  # CUDA_ERROR_NOT_FOUND: the module has no such function


class CompilerError(RuntimeError):
    """The text could not be compiled; the message is the compiler's."""


def architecture(device: str = "cuda") -> str:
    """The target of a device, with the instructions of its own where it has any: "80", "90a"."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}{minor}" + "a" * (major >= 9)


def compiled(source: Path, target: str) -> bytes:
    """The machine code (cubin) of a CUDA C++ file that includes nothing.

    source  the file
    target  "80", "90a", "100a"

    Raises CompilerError when there is no compiler, or with what it says.
    """
    return _by_nvcc(source, target) if shutil.which("nvcc") else _by_nvrtc(source, target)


def _by_nvcc(source: Path, target: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernels.cubin"
        code = f"-gencode=arch=compute_{target},code=sm_{target}"
        run = subprocess.run(
            ["nvcc", "-O3", "-cubin", code, "-o", str(out), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise CompilerError(f"nvcc cannot compile {source.name}: {run.stderr.strip()}")
        return out.read_bytes()


def _by_nvrtc(source: Path, target: str) -> bytes:
    library, program = _nvrtc(), ctypes.c_void_p()
    text, name = source.read_bytes(), source.name.encode()
    done = library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None)
    options = (ctypes.c_char_p * 1)(f"--gpu-architecture=sm_{target}".encode())
    done = done or library.nvrtcCompileProgram(program, 1, options)
    if done:
        raise CompilerError(f"NVRTC cannot compile {source.name}: {_told(library, program, 'ProgramLog').decode()}")
    code = _told(library, program, "CUBIN")
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code


def _told(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    """What NVRTC has under a name: the size first, then as many bytes."""
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    space = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, space)
    return space.raw


def _nvrtc() -> ctypes.CDLL:
    """The library that torch brings with it, or the system's."""
    major = (torch.version.cuda or "13").split(".")[0]
    name = f"libnvrtc.so.{major}"
    spec = find_spec("nvidia")
    roots = [Path(root) for root in spec.submodule_search_locations or ()] if spec else []
    brought = [path for root in roots for path in sorted(root.glob(f"*/lib/{name}"))]
    for path in brought:
        for part in path.parent.glob("libnvrtc-builtins.so*"):  # which the library opens by its name alone
            ctypes.CDLL(str(part), ctypes.RTLD_GLOBAL)
    for found in [*map(str, brought), name, "libnvrtc.so"]:
        try:
            return ctypes.CDLL(found)
        except OSError:
            continue
    raise CompilerError(f"neither nvcc nor {name} is here: pip install nvidia-cuda-nvrtc")


class Module:
    """Compiled kernels on the current device, launched on torch's current stream."""

    def __init__(self, code: bytes, driver: Any = None) -> None:
        """Loads machine code; `driver` is the CUDA driver's library."""
        torch.cuda.synchronize()  # makes the device's context, and makes it current in this thread
        self._driver = driver or ctypes.CDLL("libcuda.so.1")
        self._module = ctypes.c_void_p()
        self._check(self._driver.cuModuleLoadData(ctypes.byref(self._module), code), "load the kernels")
        self._functions: dict[str, ctypes.c_void_p] = {}

    def has(self, name: str) -> bool:
        """Whether the module has a kernel of this name: units that a device lacks are left out of it."""
        if name not in self._functions:
            found = ctypes.c_void_p()
            status = self._driver.cuModuleGetFunction(ctypes.byref(found), self._module, name.encode())
            if status == NOT_FOUND:
                return False
            self._check(status, f"find {name}")
            self._functions[name] = found
        return True

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[Any]) -> None:
        """Launches a kernel on a line of blocks; arguments are ctypes values, pointers as c_void_p."""
        if not self.has(name):
            raise LookupError(f"the module has no kernel {name}")
        places = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(x) for x in arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        shape = (blocks, 1, 1, threads, 1, 1)
        status = self._driver.cuLaunchKernel(self._functions[name], *shape, 0, stream, places, None)
        self._check(status, f"launch {name}")

    def _check(self, status: int, what: str) -> None:
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(text))
            raise RuntimeError(f"the driver cannot {what}: {(text.value or b'error').decode()} ({status})")

"""Nearest codes: `run(a, b, k)` gives distances int32 (n, k), ascending; the order among ties is a peer's own."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from polykern_benches.peers._wanted import octets, on_cpu, on_cuda
from polykern_benches.peers.pairwise import products
from polykern_kernels import pack
from polykern_kernels._dispatch import Impl

ROWS = 4096  # of distances held at once, where a peer gives all of them


def _faiss(a: Tensor, b: Tensor, k: int) -> Tensor:
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    rows, columns = (np.asarray(octets(x)) for x in (a, b))
    index = faiss.IndexBinaryFlat(8 * columns.shape[1])
    index.add(columns)
    return torch.from_numpy(index.search(rows, k)[0])


def _faiss_gpu(a: Tensor, b: Tensor, k: int) -> Tensor:
    import faiss

    rows, columns = (np.asarray(octets(x).cpu()) for x in (a, b))
    index = faiss.GpuIndexBinaryFlat(faiss.StandardGpuResources(), 8 * columns.shape[1])
    index.add(columns)
    return torch.from_numpy(index.search(rows, k)[0])


def _faiss_gpu_objection(*args: Tensor) -> str | None:
    reason = on_cuda("faiss", FAISS_GPU)(*args)
    if reason is None:
        import faiss

        return None if hasattr(faiss, "GpuIndexBinaryFlat") else f"faiss is the CPU's: pip install {FAISS_GPU}"
    return reason


def _usearch(a: Tensor, b: Tensor, k: int) -> Tensor:
    import usearch.index

    library: Any = usearch.index
    rows, columns = (np.asarray(octets(x)) for x in (a, b))
    hamming, threads = library.MetricKind.Hamming, torch.get_num_threads()
    found = library.search(columns, rows, k, hamming, exact=True, threads=threads)
    distances = np.asarray(found.distances).reshape(len(rows), k)
    return torch.from_numpy(distances.astype(np.int32)).sort(1).values


def _products(a: Tensor, b: Tensor, k: int) -> Tensor:
    parts = [products(part, b).topk(k, dim=1, largest=False).values for part in a.split(ROWS)]
    return torch.cat(parts).sort(1).values


def _scikit_learn(a: Tensor, b: Tensor, k: int) -> Tensor:
    from sklearn.neighbors import NearestNeighbors

    bits = 32 * b.shape[1]
    rows, columns = (pack.unpack(x, bits).numpy() for x in (a, b))
    found = NearestNeighbors(n_neighbors=k, algorithm="brute", metric="hamming").fit(columns).kneighbors(rows)[0]
    return torch.from_numpy(np.rint(found * bits).astype(np.int32))


FAISS_GPU = "faiss-gpu-cu13-cuvs==1.15.0"
PEERS = (
    Impl("faiss", _faiss, on_cpu("faiss", "faiss-cpu==1.15.1")),
    Impl("faiss-gpu", _faiss_gpu, _faiss_gpu_objection),
    Impl("usearch", _usearch, on_cpu("usearch", "usearch==2.26.6")),
    Impl("torch-int8", _products, lambda *args: None),
    Impl("scikit-learn", _scikit_learn, on_cpu("sklearn", "scikit-learn==1.9.1")),
)

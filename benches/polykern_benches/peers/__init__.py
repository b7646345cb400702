"""What a user would take today, on the same data: rows beside ours, and judges of what ours finds.

    pairwise   distances of all pairs of codes
    nearest    the nearest codes of each
    clusters   HDBSCAN
    products   covariances and co-occurrences in float64
    regions    the exact partition of a plane
    dense      the pixels of a map through the network as it is, in float32, TF32 and float16

A peer is an `Impl`: a name, how to run it, and the objection, which names the line that installs it. No peer is
imported before it runs.
"""

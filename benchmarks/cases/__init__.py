"""The benchmarks, one per file, found by file name (see `benchmarks.registry`)."""

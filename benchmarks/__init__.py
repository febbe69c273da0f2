"""Speed and memory, compared with naive implementations of the same calculations and with other tools.

``python -m benchmarks [NAME ...] [--quick] [--json DIR]`` from the root of the repository. Each file in
`benchmarks.cases` is one benchmark, found by its name, with a function ``benchmark(quick, device) -> Result``.
"""

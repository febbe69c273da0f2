"""Files, processes, progress bars: what a program needs of the machine that it runs on.

JSON and tables are written atomically (`storage`), tensors too and checked when they are read (`tensors`), the group of
processes is that of ``torchrun`` (`processes`), and running out of memory or disk space becomes one sentence
(`resource_errors`). Imports `crosstime.errors` and nothing else of crosstime. Add here what would be the same in any
other scientific project.
"""

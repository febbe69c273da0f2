"""What the machine underneath gives: files, processes, progress bars.

Files are written atomically (`storage`), processes are those of ``torchrun`` (`processes`), and running out of memory
or disk becomes one sentence (`resource_errors`). Imports `crosstime.errors` and nothing else of crosstime. Add here
what concerns the machine and would be the same in any other scientific project.
"""

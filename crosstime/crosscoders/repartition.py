"""Join the parts of a crosscoder's file, or divide a file into parts, a block at a time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from crosstime.crosscoders.refuse_uneven_features import refuse_uneven_features
from crosstime.machine.checksum import checksum_of
from crosstime.machine.part_names import index_of, part_names, whole_of
from crosstime.machine.sharded_tensors import remove_parts, write_index
from crosstime.machine.tensor_files import Shape, TensorFiles, write_blocks


def repartition(files: TensorFiles, target: str | Path, n_parts: int) -> None:
    """Write the tensors of a crosscoder to one file or to several with an index; one block is in memory.

    The target is valid as it was before until everything is written, so that it may be the source itself.

    Args:
        files: the crosscoder's files, whose checksums were verified.
        target: name of the whole.
        n_parts: R, number of files.

    Raises:
        CrosscoderError: R does not divide the number of features.
        RunError: a file cannot be read or written; nothing of it is left.

    Examples:
        >>> files = TensorFiles.open("crosscoder.safetensors", FEATURE_AXES)  # doctest: +SKIP
        >>> repartition(files, "parts/crosscoder.safetensors", 4)  # doctest: +SKIP
    """
    refuse_uneven_features(files.length, n_parts)
    index, whole = index_of(target), whole_of(target)
    metadata = {name: text for name, text in files.metadata.items() if name != "sha256"}
    if n_parts == 1:
        write_blocks(whole, files.shapes, files.blocks, metadata | {"sha256": files.digest()})
        remove_parts(whole)
        return

    # Names that no present file has, so that an index which exists stays valid
    generation = files.length
    while any(index.with_name(name).exists() for name in part_names(whole, f"{generation}", n_parts)):
        generation += 1
    names = part_names(whole, f"{generation}", n_parts)

    # The parts, of which the first has the tensors that are stored once
    size = files.length // n_parts
    entries: list[dict[str, str | int]] = []
    try:
        for part, name in enumerate(names):
            path, start, stop = index.with_name(name), part * size, (part + 1) * size
            shapes = {
                tensor: _part_of(shape, files.axes.get(tensor), size)
                for tensor, shape in files.shapes.items()
                if tensor in files.axes or part == 0
            }
            write_blocks(path, shapes, partial(files.blocks, start=start, stop=stop), metadata)
            entries.append({"file": name, "bytes": path.stat().st_size, "sha256": checksum_of(path)})
        write_index(whole, metadata, files.length, {name: files.axes.get(name) for name in files.shapes}, entries)
    except BaseException:
        # Once the index names them, the parts are valid
        if not index.is_file() or names[0] not in index.read_text(encoding="utf-8"):
            for name in names:
                index.with_name(name).unlink(missing_ok=True)
        raise


def _part_of(shape: Shape, axis: int | None, size: int) -> Shape:
    """Dtype and sizes of a part of a tensor."""
    if axis is None:
        return shape
    return replace(shape, sizes=(*shape.sizes[:axis], size, *shape.sizes[axis + 1 :]))

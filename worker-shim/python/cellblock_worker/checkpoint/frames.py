"""pandas: the books it keeps about who shares whose memory.

With copy on write, a frame may share memory with another until one of them is written; `BlockValuesRefs`
counts the sharers. Shared memory is restored shared (see `arrays`), so the books must be too: without them a
write to one frame would change the other. pandas' own pickling drops them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .references import loaded

if TYPE_CHECKING:
    from .pickler import GraphPickler, Reducer, Reduction

_INTERNALS = "pandas._libs.internals"


def reducer_for(cls: type) -> Reducer | None:
    """For blocks, their books, what holds them, and indexes."""
    books = loaded(_INTERNALS, "BlockValuesRefs")
    if books is None:
        return None
    if cls is books:
        return _reduce_books
    for name in ("SharedBlock", "Block"):
        block = loaded(_INTERNALS, name)
        if isinstance(block, type) and issubclass(cls, block):
            return _reduce_block
    manager = loaded("pandas.core.internals.managers", "BaseBlockManager")
    if isinstance(manager, type) and issubclass(cls, manager):
        return _reduce_manager
    index = loaded("pandas", "Index")
    return _reduce_index if isinstance(index, type) and issubclass(cls, index) else None


def _reduce_books(_pickler: GraphPickler, _books: Any) -> Reduction:
    # The sharers enter themselves.
    return make_books, ()


def make_books() -> Any:
    """Books without an entry."""
    from pandas._libs.internals import BlockValuesRefs

    return BlockValuesRefs()


def _reduce_block(_pickler: GraphPickler, block: Any) -> Reduction:
    function, arguments = block.__reduce__()
    return make_block, (function, arguments, block.refs)


def make_block(function: Any, arguments: tuple[Any, ...], books: Any) -> Any:
    """A block that stands in the books of its memory."""
    block = function(*arguments)
    block.refs = books
    books.add_reference(block)
    return block


def _reduce_manager(_pickler: GraphPickler, manager: Any) -> Reduction:
    # That of a Series would save the values without their block.
    if len(manager.axes) == 1:
        return type(manager), (manager.blocks[0], manager.axes[0])
    return type(manager), (manager.blocks, manager.axes)


def _reduce_index(pickler: GraphPickler, index: Any) -> Reduction:
    reduction = pickler.ask(index)
    # A range has no memory, and refuses to be given books.
    is_range = isinstance(index, loaded("pandas", "RangeIndex"))
    books = None if is_range else getattr(index, "_references", None)
    identity = getattr(index, "_id", None)
    if (books is None and identity is None) or (len(reduction) > 2 and reduction[2] is not None):
        return reduction
    return (*reduction[:2], (books, identity), None, None, fill_index)


def fill_index(index: Any, state: tuple[Any, Any]) -> None:
    """Enters an index that shares memory with a block, and makes it known as a view of another."""
    books, index._id = state
    if books is not None:
        index._references = books
        books.add_index_reference(index)

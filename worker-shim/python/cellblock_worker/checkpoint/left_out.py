"""What is never saved, by type, and why.

A type is looked up by the names of its module, and never imported: what is not loaded has no instances.
Subclasses count: a user's thread is a thread.
"""

from __future__ import annotations

from .references import loaded, module_of

_TYPES: dict[str, str] = {
    "a lock": (
        "_thread.lock _thread.RLock _thread.LockType threading._RLock threading.Condition "
        "threading.Semaphore threading.Barrier threading.Event multiprocessing.synchronize.SemLock "
        "multiprocessing.synchronize.Condition multiprocessing.synchronize.Event "
        "multiprocessing.synchronize.Barrier asyncio.locks.Lock asyncio.locks.Event "
        "asyncio.locks.Condition asyncio.locks.Semaphore asyncio.locks.Barrier"
    ),
    "a queue between threads or processes": (
        "queue.Queue _queue.SimpleQueue multiprocessing.queues.Queue "
        "multiprocessing.queues.SimpleQueue asyncio.queues.Queue"
    ),
    "a running thread": "threading.Thread",
    "data of one thread": "_thread._local _threading_local.local",
    "a socket": (
        "_socket.socket socketserver.BaseServer ssl.SSLObject _ssl._SSLSocket "
        "http.client.HTTPConnection multiprocessing.connection._ConnectionBase "
        "multiprocessing.connection.Listener"
    ),
    "a context of TLS": "_ssl._SSLContext",
    "a child process": "subprocess.Popen multiprocessing.process.BaseProcess asyncio.subprocess.Process",
    "a pool of workers": (
        "concurrent.futures._base.Executor multiprocessing.pool.Pool multiprocessing.managers.BaseManager"
    ),
    "a future": (
        "concurrent.futures._base.Future _asyncio.Future asyncio.futures.Future "
        "asyncio.futures._PyFuture asyncio.tasks._PyTask"
    ),
    "an event loop": "asyncio.events.AbstractEventLoop asyncio.runners.Runner asyncio.taskgroups.TaskGroup",
    "a stream of an event loop": (
        "asyncio.streams.StreamReader asyncio.streams.StreamWriter asyncio.transports.BaseTransport"
    ),
    "a selector": "selectors.BaseSelector select.epoll select.poll",
    "a generator": "builtins.generator",
    "a coroutine": "builtins.coroutine builtins.coroutine_wrapper",
    "an asynchronous generator": "builtins.async_generator",
    "an iterator": (
        "builtins.map builtins.filter builtins.zip builtins.enumerate builtins.reversed "
        "builtins.callable_iterator"
    ),
    "a frame of running code": "builtins.frame",
    "a traceback": "builtins.traceback",
    "a context variable": "_contextvars.ContextVar _contextvars.Context _contextvars.Token",
    "a database connection": (
        "sqlite3.Connection sqlite3.Cursor sqlite3.Blob psycopg2.extensions.connection "
        "psycopg2.extensions.cursor psycopg.Connection psycopg.Cursor pymysql.connections.Connection "
        "duckdb.DuckDBPyConnection duckdb.duckdb.DuckDBPyConnection _duckdb.DuckDBPyConnection "
        "sqlalchemy.engine.base.Engine sqlalchemy.engine.base.Connection"
    ),
    "a mapping of a file into memory": "mmap.mmap",
    "memory of C code": (
        "_ctypes._Pointer _ctypes.CFuncPtr ctypes.CDLL builtins.PyCapsule _cffi_backend._CDataBase"
    ),
    "a temporary file": (
        "tempfile.TemporaryDirectory tempfile._TemporaryFileWrapper tempfile.SpooledTemporaryFile"
    ),
    "a call at the end of an object": "weakref.finalize",
    "a handler of log records": "logging.Handler",
    "a figure or a part of one": (
        "matplotlib.artist.Artist matplotlib.container.Container "
        "matplotlib.backend_bases.FigureCanvasBase matplotlib.backend_bases.FigureManagerBase "
        "matplotlib.backend_bases.RendererBase matplotlib.animation.Animation "
        "matplotlib.widgets.Widget matplotlib.axis.Ticker matplotlib.transforms.TransformNode "
        "matplotlib.gridspec.GridSpecBase matplotlib.gridspec.SubplotSpec seaborn.axisgrid.Grid "
        "seaborn.axisgrid._BaseGrid"
    ),
    "a widget": "ipywidgets.widgets.widget.Widget comm.base_comm.BaseComm",
    "a part of the shell": (
        "IPython.core.interactiveshell.InteractiveShell IPython.core.history.HistoryAccessor "
        "IPython.core.magic.Magics IPython.core.magic.MagicsManager "
        "IPython.core.displayhook.DisplayHook IPython.core.displaypub.DisplayPublisher "
        "IPython.core.formatters.DisplayFormatter IPython.core.completer.Completer"
    ),
}
_REASONS = {name: reason for reason, names in _TYPES.items() for name in names.split()}

# Whole modules of one kind.
_MODULES = {"itertools": "an iterator"}
_KEPT = frozenset(["itertools.count"])

# Py_TPFLAGS_IMMUTABLETYPE of CPython's object.h: no class made by Python code has it.
_IMMUTABLE = 1 << 8

_qualname = type.__dict__["__qualname__"].__get__


def reason_of(cls: type) -> str | None:
    """Why instances of a class are left out, or None."""
    for base in type.mro(cls) if type(cls) is type else cls.__mro__:
        module = module_of(base)
        name = f"{module}.{_qualname(base)}"
        reason = _REASONS.get(name) or (_MODULES.get(module or "") if name not in _KEPT else None)
        # The name alone proves nothing: a user's class may call itself so. What is immutable is C's.
        if reason and (base.__flags__ & _IMMUTABLE or loaded(module or "", base.__name__) is base):
            return reason
    return None

"""Kernels of tests that have imported what every notebook imports: forks of one process, which starts them in no time.

    python warm_kernels.py SOCKET            the process that forks them
    python warm_kernels.py SOCKET ARGUMENT…  a kernel: what jupyter_client starts, signals and waits for

A kernel's own process passes its arguments, environment, working folder and output to a fork, and ends with it; so
does the fork with the process, however that ends. All else is an ordinary kernel of ipykernel. Tests of how kernels
start and die use ordinary ones.
"""

import contextlib
import json
import os
import signal
import socket
import sys

PRELOADED = ("ipykernel.kernelapp", "ipykernel.ipkernel", "IPython.core.completer", "anywidget", "ipywidgets",
             "torch", "torch._dynamo", "pandas", "accelerate", "scipy.stats", "sklearn.isotonic",
             "sklearn.feature_extraction.text", "pyarrow.parquet", "bs4", "seqlab.contracts", "seqlab.training.fit",
             "seqlab.evaluation.comparison", "seqlab.tokenizers.rq_vae")  # fmt: skip
READ_AT_IMPORT = {"plotly.io", "matplotlib", "numba"}
"""Modules that read the environment while they are imported: each kernel imports them."""


def command(path: str) -> list[str]:
    """How a kernel is started whose arguments follow, instead of by `python -m ipykernel_launcher`."""
    return [sys.executable, "-I", "-S", __file__, path]


def serve(path: str) -> None:
    """Fork a kernel for every process that connects, until the standard input is closed."""
    import importlib
    import select

    del sys.path[0]  # the folder of this file
    for name in PRELOADED:
        importlib.import_module(name)
    changed = READ_AT_IMPORT & sys.modules.keys()
    assert not changed, f"these read the environment, which is another in every kernel: {changed}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)
        while True:
            readable, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in readable:
                return
            caller, _ = server.accept()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if os.fork() == 0:
                server.close()
                _kernel(caller)
            caller.close()


def _kernel(caller: socket.socket) -> None:
    """Become the kernel that `caller` describes."""
    import threading

    parent = os.getppid()
    os.setsid()
    size = int.from_bytes(caller.recv(4, socket.MSG_WAITALL))
    text, files, _, _ = socket.recv_fds(caller, size, 2, socket.MSG_WAITALL)
    given = json.loads(text)
    for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files)):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(given["env"], JPY_PARENT_PID=str(parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tqdm"]:
        del sys.modules[name]  # torch.hub has imported it, and it too reads the environment
    os.chdir(given["folder"])
    caller.sendall(os.getpid().to_bytes(4))

    def end_with_the_caller() -> None:
        with contextlib.suppress(OSError):
            caller.recv(1)
        os._exit(1)

    threading.Thread(target=end_with_the_caller, daemon=True).start()
    sys.argv = ["ipykernel_launcher", *given["arguments"]]
    code = 0
    try:
        from ipykernel import kernelapp

        kernelapp.launch_new_instance()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(code.to_bytes(4))
    os._exit(code)


def stand_in(path: str, arguments: list[str]) -> int:
    """The process of a kernel that is a fork elsewhere: passes signals on and returns its exit code."""
    description = {"arguments": arguments, "env": dict(os.environ), "folder": os.getcwd()}
    text = json.dumps(description).encode()
    with socket.socket(socket.AF_UNIX) as kernel:
        kernel.connect(path)
        kernel.sendall(len(text).to_bytes(4))
        sent = socket.send_fds(kernel, [text], [1, 2])
        kernel.sendall(text[sent:])
        number = int.from_bytes(kernel.recv(4, socket.MSG_WAITALL))
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda which, _: os.kill(number, which))
        code = kernel.recv(4, socket.MSG_WAITALL)
    return int.from_bytes(code) if code else -1


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(stand_in(sys.argv[1], sys.argv[2:]))

"""Files, the network, processes, signals, the environment, the harness: everything that lies outside the program's own process."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import Attack, body, outside
from tests.attacks.switches import ALL

FILES = {
    "open_read": outside("files", "open('/etc/hostname').read()"),
    "open_write": outside("files", "open('CANARY', 'w').write('x')", "canary"),
    "torch_save": outside("files", "torch.save(x, 'CANARY')", "canary"),
    "torch_save_by_getattr": outside("files", "getattr(torch, 'sa' + 've')(x, 'CANARY')", "canary"),
    "numpy_save": outside("files", "import numpy as np\nnp.save(open('CANARY', 'wb'), x.numpy())", "canary"),
    "numpy_savetxt": outside("files", "import numpy as np\nnp.savetxt('CANARY', x.numpy())", "canary"),
    "numpy_tofile": outside("files", "x.numpy().tofile('CANARY')", "canary"),
    "numpy_dump": outside("files", "x.numpy().dump('CANARY')", "canary"),
    "numpy_memmap": outside("files", "import numpy as np\nnp.memmap('CANARY', mode='w+', shape=(4,))[:] = 1", "canary"),
    "numpy_loadtxt": outside("files", "import numpy as np\nnp.loadtxt('/proc/loadavg', usecols=0, dtype=str)"),
    "numpy_fromfile": outside("files", "import numpy as np\nassert np.fromfile('/etc/hostname', dtype='u1').size"),
    "torch_from_file": outside("files", "torch.from_file('CANARY', shared=True, size=4).fill_(1)", "canary"),
    "pathlib_write": outside("files", "import pathlib\npathlib.Path('CANARY').write_text('x')", "canary"),
    "list_root": outside("files", "import os\nassert os.listdir('/')"),
    "symlink": outside("files", "import os\nos.symlink('/etc', 'CANARY')", "canary"),
    "named_pipe": outside("files", "import os\nos.mkfifo('CANARY')", "canary"),
    "temporary_file": outside("files", "import tempfile, os\nf, n = tempfile.mkstemp()\nos.rename(n, 'CANARY')", "canary"),
    "sqlite_file": outside("files", "import sqlite3\nsqlite3.connect('CANARY').execute('create table t (a)')", "canary"),
    "shelf": outside("files", "import dbm.dumb, os\ndbm.dumb.open('CANARY', 'n').close()\nos.rename('CANARY.dat', 'CANARY')", "canary"),
    "log_file": outside("files", "import logging.handlers\nlogging.FileHandler('CANARY').close()", "canary"),
    "zip_file": outside("files", "import zipfile\nzipfile.ZipFile('CANARY', 'w').close()", "canary"),
    "unpickle": outside("files", "import pickle\npickle.loads(b\"cos\\nmkdir\\n(S'CANARY'\\ntR.\")", "canary"),
    "torch_load_pickle": outside(
        "files",
        "import io, pickle\nclass P:\n    def __reduce__(self):\n        import os\n        return os.mkdir, ('CANARY',)\n"
        "b = io.BytesIO()\ntorch.save(P(), b)\nb.seek(0)\ntorch.load(b, weights_only=False)",
        "canary",
    ),
    "module_behind_module": outside("files", "torch.serialization.os.mkdir('CANARY')", "canary"),
    "module_behind_function": outside("files", "torch.norm.__globals__['torch'].serialization.os.mkdir('CANARY')", "canary"),
    "importlib_file": outside("files", "import importlib\nimportlib.import_module('os').mkdir('CANARY')", "canary"),
    "system_call_by_number": outside("files", "import ctypes\nctypes.CDLL(None).mkdir(b'CANARY', 0o777)", "canary"),
    "chmod_outside": outside("files", "import os\nopen('CANARY', 'w').close()\nos.chmod('CANARY', 0o777)", "canary"),
    "shared_memory_file": outside("files", "from multiprocessing import shared_memory as s\nm = s.SharedMemory(create=True, size=16)\nm.unlink()"),
    "torch_share_memory": outside("files", "x.share_memory_()"),
    "cpp_extension": outside("files", "import torch.utils.cpp_extension as c\nassert c.get_default_build_root()"),
    "jit_save": outside("files", "torch.jit.save(torch.jit.script(torch.nn.ReLU()), 'CANARY')", "canary"),
    "profiler_trace": outside("files", "p = torch.autograd.profiler.profile()\np.__enter__()\np.__exit__(None, None, None)\np.export_chrome_trace('CANARY')", "canary"),
}  # fmt: skip

NETWORK = {
    "tcp_connect": outside("network", "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)", "heard"),
    "tcp_by_descriptor": outside(
        "network", "import _socket\ns = _socket.socket(2, 1)\ns.connect(('127.0.0.1', PORT))", "heard"
    ),
    "urllib_get": outside(
        "network",
        "import urllib.request\ntry:\n    urllib.request.urlopen('http://127.0.0.1:PORT/', timeout=0.2)\nexcept TimeoutError:\n    pass",
        "heard",
    ),
    "http_client": outside("network", "import http.client\nhttp.client.HTTPConnection('127.0.0.1', PORT, timeout=1).connect()", "heard"),
    "ftp_client": outside(
        "network", "import ftplib\ntry:\n    ftplib.FTP(timeout=0.2).connect('127.0.0.1', PORT)\nexcept TimeoutError:\n    pass", "heard"
    ),
    "asyncio_connect": outside(
        "network",
        "import asyncio\nasync def go():\n    await asyncio.open_connection('127.0.0.1', PORT)\nasyncio.run(go())",
        "heard",
    ),
    "udp_socket": outside("network", "import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', 9))"),
    "abstract_socket": outside("network", "import socket\nsocket.socket(1, 1).bind('\\0mergewright-test')"),
    "name_lookup": outside("network", "import socket\nassert socket.gethostbyname('localhost')"),
    "distributed_store": outside("network", "torch.distributed.TCPStore('127.0.0.1', 0, 1, True, wait_for_workers=False)"),
}  # fmt: skip

PROCESSES = {
    "fork": outside("processes", "import os\nif os.fork() == 0:\n    open('CANARY', 'w')\n    os._exit(0)\nos.wait()", "canary"),
    "orphan": outside("processes", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)"),
    "fork_bomb": outside("processes", "import os, time\nfor i in range(20):\n    if os.fork() == 0:\n        time.sleep(30)\n        os._exit(0)"),
    "exec_in_place": outside("processes", "import os\nos.execv('/usr/bin/touch', ['touch', 'CANARY'])", "canary"),
    "shell": outside("processes", "import os\nos.system('touch CANARY')", "canary"),
    "popen": outside("processes", "import os\nos.popen('touch CANARY').close()", "canary"),
    "subprocess": outside("processes", "import subprocess\nsubprocess.run(['touch', 'CANARY'], check=True)", "canary"),
    "spawn": outside("processes", "import os\nos.posix_spawn('/usr/bin/touch', ['touch', 'CANARY'], {})\nos.wait()", "canary"),
    "pty_spawn": outside("processes", "import pty, os\npid, fd = pty.fork()\nif pid == 0:\n    open('CANARY', 'w')\n    os._exit(0)\nos.waitpid(pid, 0)", "canary"),
    "multiprocessing": outside("processes", "import multiprocessing as m\np = m.get_context('fork').Process(target=print)\np.start()\np.join()"),
    "thread": outside("processes", "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()"),
    "thread_pool": outside("processes", "import concurrent.futures as c\nwith c.ThreadPoolExecutor(2) as p:\n    p.submit(print).result()"),
    "torch_threads": outside("processes", "torch.set_num_threads(4)\n(torch.ones(600, 600) @ torch.ones(600, 600))\nassert torch.get_num_threads() == 4", verdict=(R.EXCEPTION,)),
    "data_loader_workers": outside("processes", "list(torch.utils.data.DataLoader([1, 2], num_workers=1, multiprocessing_context='fork'))"),
    "nice": outside("processes", "import os\nos.nice(5)"),
    "pin_to_core": outside("processes", "import os\nos.sched_setaffinity(0, {0})"),
    "raise_limits": outside("processes", "import resource as r\nr.setrlimit(r.RLIMIT_CORE, (0, 0))"),
}  # fmt: skip

SIGNALS = {
    "kill_bystander": outside("signals", "import os\nos.kill(VICTIM, 9)", "victim"),
    "kill_by_pidfd": outside(
        "signals", "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(VICTIM), 9)", "victim"
    ),
    "kill_group": outside("signals", "import os\nos.killpg(VICTIM, 9)", "victim"),
    "signal_parent": outside("signals", "import os, signal\nos.kill(os.getppid(), signal.SIGCONT)"),
    "ignore_signals": outside("signals", "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)"),
    "alarm": outside("signals", "import signal\nsignal.alarm(60)"),
}

ENVIRONMENT = {
    "read_environment": outside("environment", "import os\nassert os.environ['OMP_NUM_THREADS']"),
    "read_maps": outside("environment", "assert open('/proc/self/maps').read()"),
    "read_status_of_others": outside("environment", "assert open('/proc/VICTIM/status').read()"),
    "read_command_lines": outside("environment", "assert open('/proc/1/cmdline', 'rb').read()"),
    "machine_name": outside("environment", "import socket\nassert socket.gethostname() != 'sandbox'"),
    "user_name": outside("environment", "import pwd, os\nassert pwd.getpwuid(0).pw_name"),
    "working_folder": outside("environment", "import os\nassert os.getcwd()"),
    "clock": outside("environment", "import datetime\nassert datetime.datetime.now().year > 2000"),
    "entropy": outside("environment", "import secrets\nassert secrets.token_bytes(4)"),
    "argv": outside("environment", "import sys\nassert sys.argv and sys.executable"),
}

HARNESS = {
    "read_parent_memory": outside("harness", "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')"),
    "find_guards_by_collector": outside("harness", "import gc, sys\nassert sys.modules['sandbox.runner'] and gc.get_objects()"),
    "walk_the_frames": outside("harness", "import sys\nassert sys._getframe(1).f_code"),
    "frames_by_generator": outside("harness", "g = (i for i in [1])\nassert g.gi_frame is not None"),
    "frames_by_traceback": outside("harness", "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f = e.__traceback__.tb_frame.f_back\nassert f.f_globals"),
    "frames_by_coroutine": outside("harness", "async def f():\n    pass\nc = f()\nassert c.cr_frame\nc.close()"),
    "frames_by_context": outside("harness", "try:\n    try:\n        1 / 0\n    finally:\n        {}['k']\nexcept KeyError as e:\n    assert e.__context__.__traceback__.tb_frame"),
    "frames_by_class_pattern": outside(
        "harness",
        "import abc\nfrom dataclasses import dataclass\n@dataclass\nclass P(abc.ABC):\n    gi_frame: object = None\n"
        "g = (i for i in [1])\nP.register(type(g))\nmatch g:\n    case P(f):\n        assert f.f_globals\n    case _:\n        assert False",
    ),
    "write_the_report": outside(
        "harness",
        "import sys\nf = sys._getframe(0)\nwhile 'mapped' not in f.f_locals or 'facades' not in f.f_locals:\n    f = f.f_back\n"
        "m = f.f_locals['mapped']\nimport numpy\nm.outputs[:] = numpy.full(len(m.outputs) // 4, 42, numpy.float32).tobytes()\n"
        "sys.modules['sandbox.runner'].write_report(m.report, dict(reason=None, detail=None, line=None, rule=None))\nimport os\nos._exit(0)",
    ),
    "trace_the_harness": outside("harness", "import sys\nsys.settrace(lambda *a: None)\nsys.settrace(None)"),
    "exit_hook": outside("harness", "import atexit\natexit.register(print)"),
    "import_hook": outside("harness", "import sys\nsys.meta_path.append(object())\nsys.meta_path.pop()"),
    "stop_the_collector_hook": outside("harness", "import gc\ngc.callbacks.append(lambda *a: None)"),
    "forge_a_fault_of_the_host": outside("harness", "import os\nos._exit(70)", "dies", (R.POLICY,)),
    "leave_early": Attack("harness", body("import os\nos._exit(0)"), (R.POLICY,), "lies", ALL, R.NO_RESULT),
}  # fmt: skip

ATTACKS: dict[str, Attack] = FILES | NETWORK | PROCESSES | SIGNALS | ENVIRONMENT | HARNESS

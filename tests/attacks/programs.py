"""Hostile programs, by class. Each wins, where it can, by returning a tensor full of 42 once its deed is done.

Fields of an attack: the class of mechanism; the reasons that count as a right verdict in the real sandbox; and how the deed
shows when the sandbox is broken on purpose (`None`: it has no effect of its own, so only the verdict is tested).
In the text, CANARY is a path that must not come to be, PORT a listening local port, VICTIM the process id of a bystander.
"""

from __future__ import annotations

from dataclasses import dataclass

from sandbox import Reason

R = Reason


@dataclass(frozen=True)
class Attack:
    """`proof`: "returns" (42s come back), "canary" (the file exists), "victim" (the bystander is dead), "heard" (the port got a
    connection), "spoils" (the second tensor is spoilt by what the first left behind), or None."""

    kind: str
    body: str
    verdict: tuple[Reason, ...]
    proof: str | None = None

    @property
    def source(self) -> str:
        """The program: the body is the inside of `merge_models`, unless it defines that itself."""
        if "def merge_models" in self.body or not self.body.startswith("    "):
            return self.body
        return "import torch\n\ndef merge_models(model_dict, device):\n    x = model_dict['a']\n" + self.body


def _wins(kind: str, body: str, proof: str = "returns", verdict: tuple[Reason, ...] = (R.POLICY,)) -> Attack:
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return Attack(kind, lines + "\n    return torch.full_like(x, 42.0)\n", verdict, proof)


def _only(kind: str, body: str, *verdict: Reason) -> Attack:
    return Attack(kind, "\n".join("    " + line for line in body.strip("\n").splitlines()) + "\n", verdict)


ATTACKS: dict[str, Attack] = {
    # Files.
    "open_read": _wins("files", "open('/etc/hostname').read()"),
    "open_write": _wins("files", "open('CANARY', 'w').write('x')", "canary"),
    "torch_save": _wins("files", "torch.save(x, 'CANARY')", "canary"),
    "torch_save_by_getattr": _wins("files", "getattr(torch, 'sa' + 've')(x, 'CANARY')", "canary"),
    "numpy_save": _wins("files", "import numpy as np\nnp.save(open('CANARY', 'wb'), x.numpy())", "canary"),
    "numpy_tofile": _wins("files", "x.numpy().tofile('CANARY')", "canary"),
    "numpy_memmap": _wins("files", "import numpy as np\nnp.memmap('CANARY', mode='w+', shape=(4,))[:] = 1", "canary"),
    "torch_from_file": _wins("files", "torch.from_file('CANARY', shared=True, size=4).fill_(1)", "canary"),
    "pathlib_write": _wins("files", "import pathlib\npathlib.Path('CANARY').write_text('x')", "canary"),
    "list_root": _wins("files", "import os\nassert os.listdir('/')"),
    "unpickle": _wins(
        "files",
        "import pickle\npickle.loads(b\"cos\\nsystem\\n(S'touch CANARY'\\ntR.\")",
        "canary",
    ),
    "torch_load_pickle": _wins(
        "files",
        "import io, pickle\nclass P:\n    def __reduce__(self):\n        import os\n        return os.system, ('touch CANARY',)\n"
        "b = io.BytesIO()\ntorch.save(P(), b)\nb.seek(0)\ntorch.load(b, weights_only=False)",
        "canary",
    ),
    "module_behind_module": _wins("files", "torch.serialization.os.mkdir('CANARY')", "canary"),
    "module_behind_function": _wins("files", "torch.norm.__globals__['torch'].serialization.os.mkdir('CANARY')", "canary"),
    # Network.
    "tcp_connect": _wins("network", "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1)", "heard"),
    "urllib_get": _wins(
        "network",
        "import urllib.request\ntry:\n    urllib.request.urlopen('http://127.0.0.1:PORT/', timeout=0.2)\nexcept TimeoutError:\n    pass",
        "heard",
    ),
    # Processes, threads, signals.
    "fork": _wins("processes", "import os\nif os.fork() == 0:\n    open('CANARY', 'w')\n    os._exit(0)\nos.wait()", "canary"),
    "orphan": _wins("processes", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\n    os._exit(0)"),
    "shell": _wins("processes", "import os\nos.system('touch CANARY')", "canary"),
    "subprocess": _wins("processes", "import subprocess\nsubprocess.run(['touch', 'CANARY'], check=True)", "canary"),
    "thread": _wins("processes", "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()"),
    "more_threads_for_torch": _wins("processes", "torch.set_num_threads(4)\n(torch.ones(600, 600) @ torch.ones(600, 600))"),
    "kill_bystander": _wins("signals", "import os\nos.kill(VICTIM, 9)", "victim"),
    "kill_everything_else": _wins("signals", "import os, signal\nos.kill(os.getppid(), signal.SIGCONT)"),
    # Environment, /proc, the harness's memory.
    "read_environment": _wins("environment", "import os\nassert os.environ['OMP_NUM_THREADS']"),
    "read_proc": _wins("environment", "assert open('/proc/self/maps').read()"),
    "read_parent_memory": _wins("harness", "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')"),
    "find_the_harness": _wins("harness", "import gc\nassert any(type(o).__name__ == 'Guards' for o in gc.get_objects() if o is not None) or 1\nimport sys\nassert sys.modules['sandbox.runner']"),
    "walk_the_frames": _wins("harness", "import sys\nassert sys._getframe(1).f_globals['write_report']"),
    "frames_by_generator": _wins("harness", "g = (i for i in [1])\nassert g.gi_frame is not None"),
    "frames_by_traceback": _wins(
        "harness", "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    f = e.__traceback__.tb_frame.f_back\nassert f.f_globals"
    ),
    # Ways round the language gate.
    "subclasses": _wins("gate", "assert any(c.__name__ == 'Popen' for c in ().__class__.__base__.__subclasses__()) or 1"),
    "format_string": _wins("gate", "assert 'class' in '{0.__class__.__base__}'.format(x)"),
    "format_map_string": _wins("gate", "assert 'class' in '{a.__class__.__base__}'.format_map({'a': x})"),
    "str_format_unbound": _wins("gate", "assert 'class' in str.format('{0.__class__.__mro__}', x)"),
    "getattr_default": _wins("gate", "assert getattr(x, '__reduce_ex__', None)"),
    "import_function": _wins("gate", "__import__('os').mkdir('CANARY')", "canary"),
    "eval_text": _wins("gate", "eval('1 + 1')"),
    "exec_text": _wins("gate", "exec(\"import os; os.mkdir('CANARY')\")", "canary"),
    "builtins_from_globals": _wins("gate", "assert globals()['__builtins__']"),
    "import_in_try": _wins("gate", "try:\n    import os\n    os.mkdir('CANARY')\nexcept BaseException:\n    pass", "canary"),
    "attrgetter": _wins("gate", "import operator\nassert operator.attrgetter('__class__.__mro__')(x)"),
    "swallowed_violation": _wins("gate", "n = '__globals__'\ntry:\n    getattr(merge_models, n)\nexcept BaseException:\n    pass"),
    "match_attributes": _wins("gate", "match (i for i in [1]):\n    case object(gi_frame=f):\n        assert f"),
    "module_type": _wins("gate", "import types\nassert types.FunctionType"),
    "metaclass": _wins("gate", "class M(type):\n    pass\nclass C(metaclass=M):\n    pass"),
    # State left for the next tensor.
    "poison_torch": _wins("poison", "if model_dict and torch.norm(x) == 42:\n    return 'spoilt'\ntorch.norm = lambda t: 42", "spoils"),
    "poison_by_for": _wins("poison", "if torch.norm(x) == 42:\n    return 'spoilt'\nfor torch.norm in [lambda t: 42]:\n    pass", "spoils"),
    "poison_by_tuple": _wins("poison", "if torch.norm(x) == 42:\n    return 'spoilt'\n(torch.norm, y) = (lambda t: 42, 1)", "spoils"),
    "poison_by_with": _wins(
        "poison",
        "import contextlib\nif torch.norm(x) == 42:\n    return 'spoilt'\nwith contextlib.nullcontext(lambda t: 42) as torch.norm:\n    pass",
        "spoils",
    ),
    "poison_by_setattr": _wins("poison", "if torch.norm(x) == 42:\n    return 'spoilt'\nsetattr(torch, 'norm', lambda t: 42)", "spoils"),
    "poison_tensor_class": _wins(
        "poison", "if torch.Tensor.sum(x) == 42:\n    return 'spoilt'\ntorch.Tensor.sum = lambda t: 42", "spoils"
    ),
    "poison_by_wraps": _wins(
        "poison",
        "import functools\nif torch.functional.norm.__globals__.get('spoilt'):\n    return 'spoilt'\n"
        "def f(): pass\nf.g = {'spoilt': 1}\nfunctools.update_wrapper(torch.functional.norm, f, assigned=())\n"
        "torch.functional.norm.__globals__.update(f.g)",
        "spoils",
    ),
    "poison_default_dtype": _wins(
        "poison", "if torch.get_default_dtype() is torch.float64:\n    return 'spoilt'\ntorch.set_default_dtype(torch.float64)", "spoils"
    ),
    # Native memory.
    "ctypes_null": _only("native", "import ctypes\nctypes.string_at(0)", R.POLICY),
    "raw_pointer": _wins("native", "import ctypes\nctypes.string_at(x.data_ptr(), 4)"),
    "as_strided": _only("native", "return torch.as_strided(x, (4, 4), (1 << 40, 1))", R.POLICY),
    "sparse_unchecked": _only("native", "return torch.sparse_csr_tensor([0, 9], [99], [1.0], (1, 1)).to_dense() + x", R.POLICY),
    # Bombs.
    "endless_loop": _only("bombs", "while True:\n    pass", R.TIMEOUT, R.CPU),
    "endless_swallower": _only(
        "bombs", "while True:\n    try:\n        [0] * (1 << 40)\n    except BaseException:\n        pass", R.TIMEOUT, R.CPU
    ),
    "huge_power": _only("bombs", "n = 9 ** 9\nreturn x * (n ** n % 2)", R.TIMEOUT, R.CPU),
    "huge_list": _only("bombs", "y = [0] * (1 << 34)\nreturn x", R.MEMORY),
    "growing_list": _only("bombs", "y = []\nwhile True:\n    y.append('x' * 1000000)", R.MEMORY),
    "huge_tensor": _only("bombs", "return torch.zeros(1 << 36).sum() + x", R.MEMORY),
    "huge_array": _only("bombs", "import numpy as np\nreturn x + np.zeros(1 << 36).sum()", R.MEMORY),
    "deep_recursion": _only("bombs", "return merge_models(model_dict, device)", R.EXCEPTION),
    "regex_bomb": _only("bombs", "import re\nre.match('(a+)+$', 'a' * 60 + 'b')", R.TIMEOUT, R.CPU),
    "print_flood": _only("bombs", "while True:\n    print('x' * 10000)", R.OUTPUT),
    "nested_parentheses": Attack("compile", "x = " + "(" * 300 + ")" * 300, (R.SYNTAX,)),
    "nested_minus": Attack("compile", "x = " + "-" * 60000 + "1", (R.SYNTAX,)),
    "chained_operators": Attack("compile", "x = " + "+".join(["1"] * 20000), (R.SYNTAX,)),
    "nested_lists": Attack("compile", "x = " + "[" * 150 + "]" * 150, (R.SYNTAX,)),
    "nested_functions": Attack("compile", "\n".join(" " * i + "def f():" for i in range(99)) + "\n" + " " * 99 + "pass", (R.SYNTAX, R.POLICY)),
    "many_statements": Attack("compile", "a=1;" * 15000, (R.SYNTAX, R.POLICY)),
    "long_source": Attack("compile", "#" + "x" * 70000, (R.SOURCE_SIZE,)),
    "constant_bomb": Attack("compile", "x = 'a' * 1000000000\ndef merge_models(m, d):\n    return m", (R.MEMORY,)),
    "huge_integer": Attack("compile", "x = " + "9" * 60000, (R.SYNTAX,)),
    "null_byte": Attack("compile", "x = 1\0", (R.SYNTAX,)),
    "surrogate": Attack("compile", "x = '\ud800'", (R.SYNTAX,)),
    # Lies about the result.
    "none": _only("result", "return None", R.NO_RESULT),
    "list": _only("result", "return x.tolist()", R.WRONG_TYPE),
    "array": _only("result", "return x.numpy()", R.WRONG_TYPE),
    "meta_tensor": _only("result", "return x.to('meta')", R.WRONG_TYPE),
    "wrong_shape": _only("result", "return x[:2]", R.WRONG_SHAPE),
    "huge_expanded_shape": _only("result", "return torch.zeros(1).expand(1 << 40)", R.WRONG_SHAPE),
    "integers": _only("result", "return x.int()", R.WRONG_DTYPE),
    "complex": _only("result", "return x.to(torch.complex64)", R.WRONG_DTYPE),
    "nan": _only("result", "return x * float('nan')", R.NONFINITE),
    "overflow_in_cast": _only("result", "return x.double() * 1e300", R.NONFINITE),
    "nan_in_second_tensor": _only("result", "return x * (float('inf') if name == 'second' else 1.0)", R.NONFINITE, R.EXCEPTION),
    "fake_tensor_class": _only("result", "class T:\n    shape = x.shape\n    dtype = x.dtype\nreturn T()", R.WRONG_TYPE),
    "tensor_subclass": _only("result", "class T(torch.Tensor):\n    pass\nreturn x.as_subclass(T)", R.POLICY),
    "leave_early": _only("result", "import os\nos._exit(0)", R.POLICY),
    # Lies to the protocol.
    "forge_the_report": _only(
        "protocol",
        "import gc, mmap\nfor o in gc.get_objects():\n    if isinstance(o, mmap.mmap):\n        o[:4] = b'\\xff' * 4\nimport os\nos._exit(0)",
        R.POLICY,
    ),
    "long_message": _only("protocol", "raise ValueError('x' * 10000000)", R.EXCEPTION),
    "control_bytes": _only("protocol", "raise ValueError('\\x1b[2J\\x00\\r\\n\\u202e' + chr(0xd800))", R.EXCEPTION),
    "message_that_loops": _only(
        "protocol", "class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E()", R.TIMEOUT, R.CPU
    ),
    "message_that_fails": _only("protocol", "class E(Exception):\n    def __str__(self):\n        raise self\nraise E()", R.EXCEPTION),
    "long_class_name": _only("protocol", "class E(Exception):\n    pass\nE.x = 1\nraise E('{\"reason\": null}')", R.EXCEPTION),
}  # fmt: skip

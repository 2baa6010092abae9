"""Lies about the result, about the reason, and to the protocol."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import Attack, body, claiming, lying

RESULTS = {
    "none": lying("result", "return None", R.NO_RESULT),
    "list": lying("result", "return x.tolist()", R.WRONG_TYPE),
    "array": lying("result", "return x.numpy()", R.WRONG_TYPE),
    "number": lying("result", "return 1.0", R.WRONG_TYPE),
    "tuple_of_tensors": lying("result", "return x, x", R.WRONG_TYPE),
    "dictionary": lying("result", "return model_dict", R.WRONG_TYPE),
    "generator": lying("result", "yield x", R.WRONG_TYPE),
    "class_itself": lying("result", "return torch.Tensor", R.WRONG_TYPE),
    "meta_tensor": lying("result", "return x.to('meta')", R.WRONG_TYPE),
    "wrong_shape": lying("result", "return x[:2]", R.WRONG_SHAPE),
    "transposed_shape": lying("result", "return x.reshape(2, 8)", R.WRONG_SHAPE),
    "scalar": lying("result", "return x.sum()", R.WRONG_SHAPE),
    "empty": lying("result", "return x[:0]", R.WRONG_SHAPE),
    "huge_expanded_shape": lying("result", "return torch.zeros(1).expand(1 << 40)", R.WRONG_SHAPE),
    "integers": lying("result", "return x.int()", R.WRONG_DTYPE),
    "booleans": lying("result", "return x > 0", R.WRONG_DTYPE),
    "complex": lying("result", "return x.to(torch.complex64)", R.WRONG_DTYPE),
    "fake_tensor_class": lying("result", "class T:\n    shape = x.shape\n    dtype = x.dtype\nreturn T()", R.WRONG_TYPE),
    "escaped_from_vmap": lying("result", "k = []\ndef f(t):\n    k.append(t)\n    return t\ntorch.vmap(f)(torch.ones(3, 4, 4))\nreturn k[0]", R.EXCEPTION),
    "entry_replaced": Attack("result", "def merge_models(m, d):\n    return m\nclass merge_models:\n    def __init__(self, m, d):\n        pass\n", (R.WRONG_TYPE,), "accepted", frozenset({"deliver"})),
    "nan": lying("result", "return x * float('nan')", R.NONFINITE, off="finite"),
    "infinity": lying("result", "return x / 0", R.NONFINITE, off="finite"),
    "one_nan_of_many": lying("result", "x[1, 2] = float('nan')\nreturn x", R.NONFINITE, off="finite"),
    "overflow_in_cast": lying("result", "return x.double() * 1e300", R.NONFINITE, off="finite"),
    "nan_in_second_tensor": lying("result", "return x * (float('inf') if name == 'second' else 1.0)", R.NONFINITE, off="finite"),
}  # fmt: skip

REASONS = {
    "claims_memory": claiming("raise MemoryError('no more')", R.MEMORY),
    "claims_memory_in_torchs_words": claiming("raise RuntimeError('DefaultCPUAllocator: not enough memory')", R.MEMORY),
    "claims_threads": claiming('raise RuntimeError("can\'t start new thread")', R.THREADS),
    "claims_threads_by_system": claiming("raise OSError('Resource temporarily unavailable')", R.THREADS),
    "claims_gpu_memory": claiming("raise torch.OutOfMemoryError('CUDA out of memory')", R.GPU_MEMORY),
    "claims_memory_by_throw": claiming(
        "def g():\n    yield\ni = g()\nnext(i)\ni.throw(MemoryError('no more'))", R.MEMORY
    ),
}

PROTOCOL = {
    "control_bytes": Attack("protocol", body("raise ValueError('\\x1b[2J\\x00\\r\\n\\u202e' + chr(0xd800))"), (R.EXCEPTION,), "raw", frozenset({"clean"})),
    "many_lines": Attack("protocol", body("raise ValueError('line\\n' * 50)"), (R.EXCEPTION,), "raw", frozenset({"clean"})),
    "long_message": Attack("protocol", body("raise ValueError('x' * 10000000)"), (R.EXCEPTION,), "raw", frozenset({"clean"})),
    "long_class_name": Attack("protocol", body("exec('class ' + 'E' * 5000 + '(Exception): pass\\nraise ' + 'E' * 5000 + '()')"), (R.POLICY,), "raw", frozenset({"clean", "gate"})),
    "address_in_message": Attack("protocol", body("raise ValueError(str(merge_models))"), (R.EXCEPTION,), "raw", frozenset({"clean"})),
}  # fmt: skip

_WRITE = """
import json, sys
f = sys._getframe(0)
while 'mapped' not in f.f_locals or 'facades' not in f.f_locals:
    f = f.f_back
m = f.f_locals['mapped']
t = REPORT
m.report[4:4 + len(t)] = t
m.report[:4] = len(t).to_bytes(4, 'little')
import os
os._exit(0)
"""


def forged(report: str, proof: str = "raises", verdict: R = R.POLICY) -> Attack:
    """Writes a report of its own; succeeds where the gate is off and the host believes what it reads."""
    return Attack("protocol", body(_WRITE.replace("REPORT", report)), (verdict,), proof, frozenset({"gate", "report"}))


FORGED = {
    "report_without_reason": forged("b'[]'"),
    "report_with_a_list_as_reason": forged("b'{\"reason\": [1], \"detail\": \"a\", \"line\": 1, \"rule\": null}'"),
    "report_with_success": forged("b'{\"reason\": null, \"detail\": null, \"line\": null, \"rule\": null, \"more\": 1}'", "accepted"),
    "report_with_a_huge_line": Attack(
        "protocol",
        body(_WRITE.replace("REPORT", "b'{\"reason\": \"exception\", \"detail\": \"a\", \"line\": 1' + b'0' * 4000 + b', \"rule\": null}'")),
        (R.POLICY,), "lies", frozenset({"gate", "report"}), R.EXCEPTION,
    ),
    "report_with_the_parents_reason": Attack(
        "protocol", body(_WRITE.replace("REPORT", "b'{\"reason\": \"timeout\", \"detail\": \"a\", \"line\": 1, \"rule\": null}'")), (R.POLICY,), "lies", frozenset({"gate", "report"}), R.TIMEOUT
    ),
    "report_with_a_list_as_rule": Attack(
        "protocol", body(_WRITE.replace("REPORT", "b'{\"reason\": \"exception\", \"detail\": \"a\", \"line\": 1, \"rule\": []}'")), (R.POLICY,), "lies", frozenset({"gate", "report"}), R.EXCEPTION
    ),
    "report_with_a_rule_that_is_none_of_its": Attack(
        "protocol", body(_WRITE.replace("REPORT", "b'{\"reason\": \"exception\", \"detail\": \"a\", \"line\": 1, \"rule\": \"name\"}'")), (R.POLICY,), "lies", frozenset({"gate", "report"}), R.EXCEPTION
    ),
    "report_nested_deeply": Attack("protocol", body(_WRITE.replace("REPORT", "b'[' * 60000")), (R.POLICY,), "dies", frozenset({"gate"})),
}  # fmt: skip

ATTACKS: dict[str, Attack] = RESULTS | REASONS | PROTOCOL | FORGED

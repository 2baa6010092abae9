"""Time, memory, output: more than a program's share. Memory bombs take some twice the suite's limit, so that they can be seen to work."""

from __future__ import annotations

from sandbox import Reason as R
from tests.attacks.attack import Attack, body, endless, hogging

ATTACKS: dict[str, Attack] = {
    "endless_loop": endless("while True:\n    pass"),
    "endless_swallower": endless("while True:\n    try:\n        [0] * (1 << 40)\n    except BaseException:\n        pass"),
    "endless_in_finally": endless("try:\n    1 / 0\nfinally:\n    while True:\n        pass"),
    "endless_generator": endless("import itertools\nsum(itertools.repeat(1))"),
    "endless_iterator_in_c": endless("import itertools\nlist(itertools.filterfalse(bool, itertools.repeat(1)))"),
    "endless_comparison": endless("class C:\n    def __eq__(self, other):\n        while True:\n            pass\n[C()].index(1)"),
    "endless_in_message": endless("class E(Exception):\n    def __str__(self):\n        while True:\n            pass\nraise E()"),
    "endless_finaliser": endless(
        "global keep\ndef g():\n    try:\n        yield\n    finally:\n        while True:\n            pass\nkeep = g()\nnext(keep)"
    ),
    "endless_class_body": endless("class C:\n    while True:\n        pass"),
    "endless_on_import": Attack("bombs", "while True:\n    pass\ndef merge_models(m, d):\n    return m\n", (R.TIMEOUT, R.CPU), "runs_on", frozenset({"clock"})),
    "huge_power": endless("n = 9 ** 9\ny = n ** n % 2"),
    "huge_factorial": endless("import math\nmath.factorial(5000000)"),
    "huge_product": endless("import itertools\nfor p in itertools.product(range(99), repeat=99):\n    pass"),
    "regex_bomb": endless("import re\nre.match('(a+)+$', 'a' * 60 + 'b')"),
    "sleep": Attack("bombs", body("import time\ntime.sleep(2)"), (None,), "runs_on", frozenset({"gate", "seccomp", "clock"})),
    "decimal_bomb": Attack("bombs", body("import decimal\ndecimal.getcontext().prec = 9999999\ndecimal.Decimal(2).sqrt()"), (R.POLICY,), "runs_on", frozenset({"gate", "clock"})),
    "matrix_bomb": endless("y = torch.eye(1200)\nfor i in range(10 ** 6):\n    y = y @ y"),
    "huge_list": hogging("y = [0] * (64 << 20)"),
    "growing_list": hogging("y = []\nfor i in range(600):\n    y.append('x' * 1000000 + str(i))"),
    "growing_text": hogging("y = 'x'\nfor i in range(29):\n    y += y"),
    "growing_dictionary": hogging("y = {i: i for i in range(5000000)}"),
    "huge_bytes": hogging("y = bytearray(400 << 20)"),
    "huge_tensor": hogging("y = torch.ones(150 << 20)"),
    "huge_product_of_tensors": hogging("y = torch.ones(12000, 1) @ torch.ones(1, 12000)"),
    "huge_broadcast": hogging("y = (torch.ones(12000, 1) + torch.ones(12000)).clone()"),
    "huge_repeat": hogging("y = torch.ones(1000).repeat(150000)"),
    "huge_array": hogging("import numpy as np\ny = np.ones(75 << 20)"),
    "huge_outer_array": hogging("import numpy as np\ny = np.outer(np.ones(9000), np.ones(9000))"),
    "memory_in_cycles": hogging("for i in range(300):\n    y = [torch.ones(1 << 19)]\n    y.append(y)"),
    "swallowed_memory_error": hogging("y = []\ntry:\n    for i in range(600):\n        y.append(bytearray(1 << 20))\nexcept MemoryError:\n    y = None\n    raise"),
    "many_objects": hogging("y = [object() for i in range(14000000)]", "rlimits", "cgroups", "clock", verdict=(R.MEMORY, R.TIMEOUT, R.CPU)),
    "mapped_past_the_limit": Attack("bombs", body("import mmap\ny = mmap.mmap(-1, 300 << 20)\nfor i in range(300):\n    y.write(b'1' * (1 << 20))"), (R.POLICY,), "returns", frozenset({"gate", "rlimits", "cgroups", "seccomp", "clock"})),
    "print_flood": hogging("for i in range(3000):\n    print('x' * 1000)", "output", verdict=(R.OUTPUT,)),
    "print_flood_of_objects": hogging("for i in range(4000):\n    print(None, None, None, None)", "output", "clock", verdict=(R.OUTPUT,)),
    "print_flood_swallowed": hogging("for i in range(3000):\n    try:\n        print('x' * 1000)\n    except Exception:\n        pass", "notes", verdict=(R.OUTPUT,)),
}  # fmt: skip

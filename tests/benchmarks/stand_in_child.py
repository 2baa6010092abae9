"""Stands in for `python -m benchmarks.vllm_worker`: the protocol, written a second time, and every way to die. Standard library only.

Its environment names a folder, STAND_IN. `plan.json` there says what each of its lives does on each request (the last life goes on
for ever); every request is written down in `seen.jsonl`, with the number of the life.
"""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ["STAND_IN"])
PLAN = json.loads((FOLDER / "plan.json").read_text())
MEMORY_NAME = "/proc/self/fd/{}"


def read(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            sys.exit(0)
        data += part
    return data


def write(connection, message):
    body = json.dumps(message).encode()
    connection.sendall(struct.pack(">Q", len(body)) + body)


def first_weight(memory):
    """The first float32 of the shared weights."""
    with open(MEMORY_NAME.format(memory), "rb") as file:
        return struct.unpack("f", file.read(4))[0]


def behave(how, connection):
    """What is not an ordinary reply."""
    if how == "exit":
        print("a warning\n\nRuntimeError: the engine  is dead", flush=True)
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        signal.pause()
    if how == "half":
        connection.sendall(struct.pack(">Q", 100) + b'{"answers"')
        os._exit(0)
    if how == "garbage":
        connection.sendall(b"Traceback (most recent call last)")
        os._exit(1)
    if how == "slow":
        for _ in range(5):
            time.sleep(0.3)  # all together longer than the silence that is allowed
            write(connection, {"alive": True})
    if how in ("BenchmarkError", "ModelFolderError", "BenchmarkUserError"):
        write(connection, {"error": f"one line of {how}", "kind": how})
        return True
    return False


def main():
    if sys.argv[1] == "-c":
        sys.exit(PLAN.get("check", 0))
    lives = FOLDER / "lives"
    life = len(lives.read_text()) if lives.exists() else 0
    lives.write_text("x" * (life + 1))
    plan = PLAN["lives"][min(life, len(PLAN["lives"]) - 1)]
    connection = socket.socket(fileno=int(sys.argv[-1]))
    helper = subprocess.Popen(["sleep", "1000"])
    memory = None
    while True:
        (length,) = struct.unpack(">Q", read(connection, 8))
        request = json.loads(read(connection, length))
        memory = request.get("memory", memory)
        about = {
            "life": life,
            "arguments": sys.argv[1:],
            "session": os.getsid(0),
            "pid": os.getpid(),
            "helper": helper.pid,
        }
        with open(FOLDER / "seen.jsonl", "a") as seen:
            seen.write(json.dumps({**request, **about, "environment": dict(os.environ)}) + "\n")
        if behave(plan.get(request["do"], "ok"), connection):
            continue
        replies = {"prove": {"context": PLAN.get("context", 1000), "version": "9"}}
        if request["do"] == "answer":
            replies["answer"] = {"answers": [[int(first_weight(memory)), *prompt[:2]] for prompt in request["prompts"]]}
        write(connection, replies.get(request["do"], {}))


main()

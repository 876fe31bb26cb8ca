"""A process that looks at no images but speaks like the one that does: for tests of what the server makes of it."""

import base64
import json
import os
import sys
import time


def tell(**message):
    print(json.dumps(message), flush=True)


def main():
    order = json.loads(sys.stdin.readline())
    print("words of a library", flush=True)
    if order["model"] == "stranger":
        return tell(told="refused", why="no model 'stranger'")
    tell(told="ready")
    for line in sys.stdin:
        ask = json.loads(line)
        if "ask" not in ask:
            continue
        data = base64.b64decode(ask.get("data", ""))
        if data == b"die":
            os._exit(7)
        if data.startswith(b"slow"):
            time.sleep(0.3)
        if data == b"leave":
            assert json.loads(sys.stdin.readline()) == {"left": ask["ask"]}
        if data == b"hang":
            time.sleep(600)
        if data == b"bad":
            tell(told="answer", ask=ask["ask"], error="no picture", status=422)
        else:
            number = ask.pop("ask")
            tell(
                told="answer",
                ask=number,
                content=json.dumps({"image": "0" * 20, "bytes": len(data), "pid": os.getpid()}),
            )


if __name__ == "__main__":
    main()

"""A pymodbus device whose registers can be recomputed from a counter that lies among them.

Every read of the holding registers counts up and rewrites all of them before the answer, so a torn or mixed-up answer
shows. The coils do the same with a counter of their own. Prints `ready`, and on SIGTERM one JSON line with the counters.
"""

import asyncio
import json
import signal
import struct
import sys

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

REGISTERS = 34
reads = {"holding": 0, "coils": 0, "other": 0}


def words(data):
    return list(struct.unpack(f">{len(data) // 2}H", data))


def order(data, name):
    """Reorders the big-endian bytes ABCD... of a value."""
    if name in ("CDAB", "DCBA"):
        data = b"".join(reversed([data[i : i + 2] for i in range(0, len(data), 2)]))
    if name in ("BADC", "DCBA"):
        data = b"".join(data[i : i + 2][::-1] for i in range(0, len(data), 2))
    return data


def holding(c):
    r = words(struct.pack(">I", c))
    r += words(order(struct.pack(">f", c * 0.25), "ABCD"))
    r += words(order(struct.pack(">f", c * 0.5 + 1000.5), "CDAB"))
    r += words(order(struct.pack(">f", -c * 0.25), "BADC"))
    r += words(order(struct.pack(">f", c * 2 + 0.5), "DCBA"))
    r += [(c * 7) & 0xFFFF]
    r += words(struct.pack(">i", -c * 1001))
    r += words(struct.pack(">q", -c * 1_000_000_007))
    r += words(struct.pack(">Q", 9_000_000_000_000_000_000 + c))
    r += words(struct.pack(">Q", 2**64 - 1 - c))
    r += [c & 0xFFFF]
    r += words(f"cycle {c:010d}".encode())
    assert len(r) == REGISTERS
    return r


async def on_read(function_code, start_address, address, count, registers, set_values):
    if function_code == 3:
        reads["holding"] += 1
        registers[:REGISTERS] = holding(reads["holding"])
    elif function_code == 1:
        reads["coils"] += 1
        low = reads["coils"] & 0xFF
        registers[0] = low | ((low ^ 0xFF) << 8)
    else:
        reads["other"] += 1
    return None


async def main():
    blocks = (
        [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
        [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
        [SimData(0, values=[0] * REGISTERS, datatype=DataType.REGISTERS)],
        [SimData(0, values=[0], datatype=DataType.REGISTERS)],
    )
    server = ModbusTcpServer(SimDevice(7, simdata=blocks, action=on_read), address=("127.0.0.1", int(sys.argv[1])))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await stop.wait()
    await server.shutdown()
    print(json.dumps(reads), flush=True)


asyncio.run(main())

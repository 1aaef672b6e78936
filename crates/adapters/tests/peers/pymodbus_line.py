"""A pymodbus device on a serial line, or behind a converter that passes one through a TCP port.

`serial PATH`: the line is a pair of pseudo terminals; PATH becomes a link to the end the client opens.
`tcp PORT`: the frames of a serial line on a TCP port.

Unit 17 holds float32 85.4 at holding register 1 and the numbers 1000 to 1122 from holding register 3 on, and three
discrete inputs. Prints `ready`, and ends on SIGTERM.
"""

import asyncio
import os
import pty
import selectors
import signal
import sys
import threading
import tty

from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def carry(ends):
    """Hands on what comes in at either of two open terminals."""
    selector = selectors.DefaultSelector()
    for here, there in (ends, ends[::-1]):
        selector.register(here, selectors.EVENT_READ, there)
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 1024)
            while data:
                data = data[os.write(key.data, data) :]


def line(path):
    """Two terminals joined to a line; returns the path of the device's end."""
    ends, ports = [], []
    for _ in range(2):
        end, port = pty.openpty()
        tty.setraw(port)
        ends.append(end)
        ports.append(os.ttyname(port))
    threading.Thread(target=carry, args=(ends,), daemon=True).start()
    os.symlink(ports[0], path)
    return ports[1]


async def main():
    numbers = [0x42AA, 0xCCCD] + list(range(1000, 1123))
    blocks = (
        [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
        [SimData(0, values=[True, False, True] + [False] * 13, datatype=DataType.BITS)],
        [SimData(0, values=numbers, datatype=DataType.REGISTERS)],
        [SimData(0, values=[0], datatype=DataType.REGISTERS)],
    )
    device = SimDevice(17, simdata=blocks)
    if sys.argv[1] == "serial":
        server = ModbusSerialServer(device, framer=FramerType.RTU, port=line(sys.argv[2]), baudrate=115_200)
    else:
        server = ModbusTcpServer(device, framer=FramerType.RTU, address=("127.0.0.1", int(sys.argv[2])))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await stop.wait()
    await server.shutdown()


asyncio.run(main())

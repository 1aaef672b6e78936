"""The second peer of the Modbus benchmark: pymodbus's blocking client in a closed loop.

usage: pymodbus_loop.py PORT REGISTERS; then per line "MILLISECONDS" on standard input one line "COUNT NANOSECONDS SUM".
"""

import sys
import time

from pymodbus.client import ModbusTcpClient


def main() -> None:
    port, registers = int(sys.argv[1]), int(sys.argv[2])
    client = ModbusTcpClient("127.0.0.1", port=port)
    if not client.connect():
        sys.exit("cannot connect")
    for line in sys.stdin:
        begin = time.monotonic_ns()
        end = begin + int(line) * 1_000_000
        count = total = 0
        while True:
            answer = client.read_holding_registers(0, count=registers, device_id=1)
            if answer.isError():
                sys.exit(str(answer))
            total += sum(answer.registers)
            count += 1
            now = time.monotonic_ns()
            if now >= end:
                break
        print(count, now - begin, total, flush=True)


main()

"""A Sparkplug B edge node by pysparkplug. Commands on standard input, one a line; what it is asked for goes to standard
output.

usage: sparkplug_node.py PORT GROUP NODE
  data V          NDATA with temperature V
  ddata V         DDATA of device "drive" with speed V
  device          births the device "drive"
  nodevice        its death
"""

import sys
import time

import pysparkplug as psp

port, group, node = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def metric(name, datatype, value):
    return psp.Metric(timestamp=psp.get_current_timestamp(), name=name, datatype=datatype, value=value)


def say(*words):
    # in one piece: commands are answered from another thread
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def asked(_, message):
    for wanted in message.payload.metrics:
        say("NCMD", wanted.name, wanted.value)


births = [
    metric("temperature", psp.DataType.DOUBLE, 20.0),
    metric("Motor/count", psp.DataType.INT16, -87),
    metric("state", psp.DataType.STRING, "run"),
    metric("on", psp.DataType.BOOLEAN, True),
    metric("large", psp.DataType.INT64, -9007199254740993),
]
edge = psp.EdgeNode(group, node, births, cmd_callback=asked)
edge.connect("127.0.0.1", port=port)
time.sleep(0.3)
say("ready")
for line in sys.stdin:
    words = line.split()
    if words[0] == "data":
        edge.update([metric("temperature", psp.DataType.DOUBLE, float(words[1]))])
    elif words[0] == "device":
        drive = psp.Device("drive", [metric("speed", psp.DataType.FLOAT, 0.5)])
        edge.register(drive)
    elif words[0] == "ddata":
        edge.update_device("drive", [metric("speed", psp.DataType.FLOAT, float(words[1]))])
    elif words[0] == "nodevice":
        edge.deregister("drive")
    say("done")

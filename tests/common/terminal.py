#!/usr/bin/env python3
"""Runs a command on a terminal of its own: terminal.py COLUMNS ROWS COMMAND…

What the command writes to its terminal goes to standard output as it is. SIGINT is what Ctrl-C is: the terminal sends it to the command.
Exits as the command did.
"""
import fcntl
import os
import pty
import signal
import struct
import sys
import termios

columns, rows = int(sys.argv[1]), int(sys.argv[2])
child, terminal = pty.fork()
if child == 0:
    # The size is set before the command can ask for it.
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(sys.argv[3], sys.argv[3:])
for name in (signal.SIGINT, signal.SIGTERM):
    signal.signal(name, lambda *_: os.write(terminal, b"\x03"))
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:  # The command has closed its end.
        break
    if not data:
        break
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

# SPDX-License-Identifier: GPL-2.0-or-later
"""A QEMU without a processor, whose memory this process shares.

    QMP socket    --  questions about threads, quitting
    qtest socket  --  port and memory accesses in place of a guest's
    memory file   --  guest memory, mapped here too
"""

import functools
import json
import mmap
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

MIB = 1 << 20


class BenchError(Exception):
    """Something the person who runs the benchmark has to know: one line."""


# A processor has nothing to do: cli; hlt; jmp to the hlt, at the reset vector
FIRMWARE = bytes((64 << 10) - 16) + b'\xfa\xf4\xeb\xfd' + bytes(12)


@functools.lru_cache(None)
def accelerator(binary):
    """The accelerator without processors.  If the binary has none, because
    distributions leave it out, it is one that halts the processor at once.
    No list shows it, so it is tried."""
    run = subprocess.run([binary, '-accel', 'qtest', '-machine', 'none',
                          '-nodefaults', '-display', 'none',
                          '-monitor', 'stdio'], input=b'quit\n', check=False,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 'tcg' if run.returncode else 'qtest'


class Qemu:
    """One QEMU process, from start to close(); use it in a 'with'."""

    def __init__(self, binary, args, memory_mib=256, wrapper=(), patience=30,
                 keep_fds=(), chardevs=()):
        """binary: qemu-system-x86_64; args: its options for this machine.
        wrapper: a command to run it under.  patience: seconds that any
        answer may take.  keep_fds: file descriptors that it inherits.
        chardevs: names of sockets to talk to it by, see .sockets."""
        self.patience = patience
        self.process = None
        self.folder = tempfile.mkdtemp(prefix='qemu-bench-')
        self.memory_fd = os.memfd_create('guest-memory')
        os.ftruncate(self.memory_fd, memory_mib * MIB)
        self.memory = mmap.mmap(self.memory_fd, memory_mib * MIB)
        try:
            self._start(binary, args, memory_mib, wrapper, keep_fds, chardevs)
        except BaseException:
            self.close()
            raise

    def _start(self, binary, args, memory_mib, wrapper, keep_fds,
               chardevs):
        if not os.access(binary, os.X_OK):
            raise BenchError(f'{binary}: no such program; build it first')
        listeners = {name: self._listen(name)
                     for name in ('qmp', 'qtest', *chardevs)}
        # The machine insists on one, even if there is no processor
        firmware = os.path.join(self.folder, 'firmware')
        with open(firmware, 'wb') as f:
            f.write(FIRMWARE)
        command = [
            *wrapper, binary, '-accel', accelerator(binary), '-nodefaults',
            '-display', 'none', '-bios', firmware, '-m', str(memory_mib),
            '-machine', 'pc,memory-backend=memory,vmport=off',
            '-object', f'memory-backend-file,id=memory,size={memory_mib}M,'
            f'mem-path=/proc/self/fd/{self.memory_fd},share=on',
            '-qmp', f'unix:{self.folder}/qmp',
            '-qtest', f'unix:{self.folder}/qtest', '-qtest-log', 'none',
            *(word for name in chardevs for word in
              ('-chardev', f'socket,id={name},path={self.folder}/{name}')),
            *args]
        self.errors = open(os.path.join(self.folder, 'stderr'), 'w+b')
        try:
            self.process = subprocess.Popen(
                command, pass_fds=[self.memory_fd, *keep_fds],
                stdin=subprocess.DEVNULL, stdout=self.errors,
                stderr=self.errors)
        except OSError as e:
            raise BenchError(f'{command[0]}: {e.strerror}') from None
        self.qtest_socket = self._accept(listeners['qtest'])
        self.qmp_socket = self._accept(listeners['qmp'])
        self.sockets = {name: self._accept(listeners[name])
                        for name in chardevs}
        self.qmp_file = self.qmp_socket.makefile('rb')
        self.qtest_file = self.qtest_socket.makefile('rb')
        self._read_qmp()
        self.qmp('qmp_capabilities')

    def _listen(self, name):
        s = socket.socket(socket.AF_UNIX)
        s.bind(os.path.join(self.folder, name))
        s.listen(1)
        return s

    def _accept(self, listener):
        deadline = time.monotonic() + self.patience
        listener.settimeout(0.1)
        with listener:
            while True:
                try:
                    connection, _ = listener.accept()
                    connection.settimeout(self.patience)
                    return connection
                except socket.timeout:
                    self.check_alive()
                if time.monotonic() > deadline:
                    raise BenchError('QEMU did not start within '
                                     f'{self.patience} s')

    def messages(self):
        """What QEMU has printed so far."""
        self.errors.flush()
        with open(self.errors.name, errors='replace') as f:
            return f.read()

    def check_alive(self):
        """Raise BenchError with QEMU's last words if it has ended."""
        status = self.process.poll()
        if status is not None:
            lines = [line for line in self.messages().splitlines()
                     if line and not line.startswith('==')]
            raise BenchError(f'QEMU ended with status {status}: '
                             + (lines[-1] if lines else 'no message'))

    def _lost(self):
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        self.check_alive()
        raise BenchError('QEMU does not answer')

    # --- QMP ---

    def _read_qmp(self):
        try:
            line = self.qmp_file.readline()
        except socket.timeout:
            line = b''
        if not line:
            self._lost()
        return json.loads(line)

    def qmp(self, command, **arguments):
        """Run a QMP command and return its answer."""
        message = {'execute': command, 'arguments': arguments}
        self.qmp_socket.sendall(json.dumps(message).encode())
        while True:
            answer = self._read_qmp()
            if 'return' in answer:
                return answer['return']
            if 'error' in answer:
                raise BenchError(f"{command}: {answer['error']['desc']}")

    def iothreads(self):
        """Thread ids of the IOThreads, by name."""
        return {t['id']: t['thread-id'] for t in self.qmp('query-iothreads')}

    # --- qtest ---

    def qtest(self, command):
        """Run a command of the qtest protocol; returns the words after OK."""
        self.qtest_socket.sendall(command.encode() + b'\n')
        try:
            answer = self.qtest_file.readline().split()
        except socket.timeout:
            answer = []
        if not answer:
            self._lost()
        if answer[0] != b'OK':
            raise BenchError(f'qtest {command}: {b" ".join(answer).decode()}')
        return answer[1:]

    def port_out(self, port, value, size):
        self.qtest(f'out{"_bw_l"[size]} {port:#x} {value:#x}')

    def port_in(self, port, size):
        return int(self.qtest(f'in{"_bw_l"[size]} {port:#x}')[0], 16)

    def mem_write(self, addr, value, size):
        letter = {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size]
        self.qtest(f'write{letter} {addr:#x} {value:#x}')

    def mem_read(self, addr, size):
        letter = {1: 'b', 2: 'w', 4: 'l', 8: 'q'}[size]
        return int(self.qtest(f'read{letter} {addr:#x}')[0], 16)

    # --- What the host knows of the process ---

    def thread_stat(self, tid):
        """The file that says how long a thread has run."""
        return f'/proc/{self.process.pid}/task/{tid}/schedstat'

    def anonymous_kib(self):
        """Memory that is this process's alone: neither files nor guest's."""
        with open(f'/proc/{self.process.pid}/smaps_rollup') as f:
            return int(re.search(r'^Anonymous: *(\d+)', f.read(), re.M)[1])

    # --- The end ---

    def settled_kib(self):
        """The same once it stays: threads give back what others have freed."""
        known = None
        for _ in range(50):
            now = self.anonymous_kib()
            if now == known:
                break
            known = now
            time.sleep(0.2)
        return known

    def quit(self):
        """Ask QEMU to end, and wait until it has."""
        self.qmp('quit')
        try:
            self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            raise BenchError('QEMU does not quit') from None

    def close(self):
        """Leave nothing behind, whatever happened."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
        for name in ('errors', 'qmp_socket', 'qtest_socket', 'memory'):
            if hasattr(self, name):
                getattr(self, name).close()
        for s in getattr(self, 'sockets', {}).values():
            s.close()
        if self.memory_fd is not None:
            os.close(self.memory_fd)
            self.memory_fd = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

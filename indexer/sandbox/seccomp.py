"""Which system calls a child may still make: a seccomp filter, built here, for x86_64 and aarch64.

It refuses what a parser never needs and what would lead out of its process: sockets, other
processes, signals, mounts, namespaces, keys, tracing, kernel interfaces with a history of holes,
and calls newer than this table. Refused calls fail with EPERM (newer ones with ENOSYS, so that the
C library falls back), so a parser that tries one gets an exception, not a crash. Trade-off: a list
of what is refused holds back less than a list of what is allowed would; in return a C library that
nobody here has seen still works.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys

_LAST_KNOWN = 450  # set_mempolicy_home_node, Linux 5.17: the newest call that the table considers

# name -> number on (x86_64, aarch64); None where the architecture has no such call.
_NETWORK = {
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    "recvmmsg": (299, 243),
}
_SOCKETS = {"socket": (41, 198), "socketpair": (53, 199)}
_PROCESSES = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "setsid": (112, 157),
    "setpgid": (109, 154),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "utime": (132, None),
    "utimes": (235, None),
    "utimensat": (280, 88),
    "futimesat": (261, None),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
}
_ALWAYS = {
    # other processes
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "sched_setaffinity": (203, 122),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # the kernel
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "personality": (135, 92),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "clock_adjtime": (305, 266),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "memfd_secret": (447, 447),
    "vmsplice": (278, 75),
    # who one is
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "setgroups": (116, 159),
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "capset": (126, 91),
    # memory and messages shared with other processes
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    # sockets of other processes: a program may listen on one of its own, and LibreOffice insists
    "connect": (42, 203),
    "sendmmsg": (307, 269),
    # files whose rights and owners Landlock does not guard
    "mknod": (133, None),
    "mknodat": (259, 33),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
}
_CLONE, _CLONE3, _PRLIMIT64, _TGKILL, _IOCTL = (
    (56, 220),
    (435, 435),
    (302, 261),
    (234, 131),
    (16, 29),
)

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_*
_SECCOMP = (317, 277)
_X32_BIT = 0x40000000
_AF_UNIX, _SOCK_STREAM, _SOCKET_TYPES = 1, 1, 0xF
_CLONE_THREAD = 0x00010000
_CLONE_NAMESPACES = 0x7E020080  # CLONE_NEW{USER,PID,NET,IPC,UTS,CGROUP,NS,TIME}
_TERMINAL_INPUT = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD

_LOAD, _AND, _EQUAL, _GREATER, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data

_Step = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def filter_code(machine: str, *, own_pid: int, runs_programs: bool) -> bytes:
    """The filter as the kernel takes it. Raises ValueError for an unknown architecture.

    With `runs_programs`, processes may be started and AF_UNIX streams listened on; else neither.
    """
    if machine not in _ARCHITECTURES:
        raise ValueError(f"no table of system calls for {machine}")
    column, audit = _ARCHITECTURES[machine]
    refuse, missing = _ERRNO | errno.EPERM, _ERRNO | errno.ENOSYS
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        steps += _when(_ANY_BIT, _X32_BIT, _KILL)
    steps += _when(_GREATER, _LAST_KNOWN, missing)
    # Its flags lie in memory, where a filter cannot look; the C library then uses clone.
    steps += _when(_EQUAL, _CLONE3[column], missing)
    refused = _ALWAYS | ({} if runs_programs else _PROCESSES | _NETWORK | _SOCKETS)
    for number in sorted(each for row in refused.values() if (each := row[column]) is not None):
        steps += _when(_EQUAL, number, refuse)
    only: list[tuple[int, int, list[_Step]]] = [
        (_IOCTL[column], 1, [s for code in _TERMINAL_INPUT for s in _when(_EQUAL, code, refuse)]),
        (_PRLIMIT64[column], 0, [(_EQUAL, 1, 0, 0), (_RETURN, 0, 0, refuse)]),
    ]
    threads_only = [(_ANY_BIT, 1, 0, _CLONE_THREAD), (_RETURN, 0, 0, refuse)]
    only.append(
        (
            _CLONE[column],
            0,
            _when(_ANY_BIT, _CLONE_NAMESPACES, refuse) + ([] if runs_programs else threads_only),
        )
    )
    if runs_programs:
        local = [
            *((_EQUAL, 1, 0, _AF_UNIX), (_RETURN, 0, 0, refuse)),
            *((_LOAD, 0, 0, _FIRST_ARGUMENT + 8), (_AND, 0, 0, _SOCKET_TYPES)),
            # No datagrams: those reach another process without connecting.
            *((_EQUAL, 1, 0, _SOCK_STREAM), (_RETURN, 0, 0, refuse)),
        ]
        only += [(row[column], 0, local) for row in _SOCKETS.values()]
    else:
        # abort() signals its own process, and how a process died must stay in sight.
        only.append((_TGKILL[column], 0, [(_EQUAL, 1, 0, own_pid), (_RETURN, 0, 0, refuse)]))
    for number, argument, looks in only:
        inside = [(_LOAD, 0, 0, _FIRST_ARGUMENT + 8 * argument), *looks, (_RETURN, 0, 0, _ALLOW)]
        steps += [(_EQUAL, 0, len(inside), number), *inside]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _when(test: int, operand: int, result: int) -> list[_Step]:
    return [(test, 0, 1, operand), (_RETURN, 0, 0, result)]


def install(*, own_pid: int, runs_programs: bool) -> None:
    """Put the filter in force for all threads of this process and all that it will start.

    Needs no_new_privs. Raises OSError where the kernel has no seccomp, ValueError for an unknown
    architecture.
    """
    machine = platform.machine()
    if sys.platform != "linux":
        raise ValueError(f"{sys.platform} has no seccomp")
    code = filter_code(machine, own_pid=own_pid, runs_programs=runs_programs)
    held = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    program = Program(len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SECCOMP[_ARCHITECTURES[machine][0]]
    set_filter, all_threads = 1, 1
    result = libc.syscall(
        ctypes.c_long(number),
        ctypes.c_uint(set_filter),
        ctypes.c_uint(all_threads),
        ctypes.byref(program),
    )
    if result != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")

# SPDX-License-Identifier: LGPL-2.1-or-later
"""The network side of a guest, as little as possible: asks for DHCP on a tap, prints the offer.

Source: RFC 2131 (DHCP), RFC 2132 (options 3 router, 6 name servers, 53 type, 255 end).
"""
import fcntl
import os
import select
import socket
import struct
import sys
import time

TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
MAC = bytes.fromhex("000d3a000001")
COOKIE = bytes.fromhex("63825363")


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def discover() -> bytes:
    dhcp = struct.pack(">BBBBIHH16s16s192s", 1, 1, 6, 0, 1, 0, 0x8000, bytes(16), MAC, bytes(192))
    dhcp += COOKIE + bytes([53, 1, 1, 55, 2, 3, 6, 255])
    udp = struct.pack(">HHHH", 68, 67, 8 + len(dhcp), 0) + dhcp
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4),
                       b"\xff" * 4)
    head = head[:10] + struct.pack(">H", checksum(head)) + head[12:]
    return b"\xff" * 6 + MAC + b"\x08\x00" + head + udp


def offer(frame: bytes) -> list[str]:
    """Address, router and name server of an offer; nothing for any other frame."""
    if frame[12:14] != b"\x08\x00" or frame[23:24] != b"\x11" or frame[36:38] != b"\x00\x44":
        return []
    dhcp = frame[42:]
    options, rest = {}, dhcp[240:]
    while rest and rest[0] != 255:
        options[rest[0]], rest = rest[2:2 + rest[1]], rest[2 + rest[1]:]
    if options.get(53) != b"\x02":
        return []
    return [socket.inet_ntoa(x[:4]) for x in (dhcp[16:20], options[3], options[6])]


def main() -> int:
    tap = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", sys.argv[1].encode(), IFF_TAP | IFF_NO_PI))
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        os.write(tap, discover())
        until = time.monotonic() + 1
        while select.select([tap], [], [], max(0, until - time.monotonic()))[0]:
            found = offer(os.read(tap, 2048))
            if found:
                print(*found)
                return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())

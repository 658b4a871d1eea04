#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A second reader of neap's repositories, written from docs/format.md alone.

It shares no code with neap: where the two disagree, the document is wrong or
the program is. Each parser takes its bytes through a cursor that must end
where the document says, so a byte that nobody accounts for is an error.

  read_backup.py REPO [KEY] list
  read_backup.py REPO [KEY] extract JOB/TIME TARGET
  read_backup.py REPO [KEY] verify
  KEY: --key FILE, or --passphrase FILE, whose first line opens a key slot

Exit status: 0 done, 1 failed, 2 usage, 4 a file is not what the format says.
"""
import argparse
import array
import fcntl
import hashlib
import hmac
import json
import os
import re
import stat
import struct
import sys

import xxhash
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (Encoding,
                                                          PublicFormat)

BLOCK = 4096
SLOTS = 32
HEX_ID = re.compile(r'[0-9a-f]{32}\Z')
JOB = re.compile(r'[a-z0-9][a-z0-9_.-]{0,63}\Z')
TIME = re.compile(r'\d{8}T\d{6}Z\Z')
TEMPORARY = re.compile(r'\.tmp-')


class Bad(Exception):
    """Bytes that are not what docs/format.md says."""


def need(true, message, *args):
    if not true:
        raise Bad(message % args)


# ---- 1. conventions ----
class Cursor:
    """Takes bytes in order; end() insists that all of them were taken."""

    def __init__(self, data, what):
        self.data, self.at, self.what = bytes(data), 0, what

    def take(self, n):
        need(self.at + n <= len(self.data), '%s: ends at byte %d, in a field '
             'of %d bytes', self.what, len(self.data), n)
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return int.from_bytes(self.take(2), 'little')

    def u32(self):
        return int.from_bytes(self.take(4), 'little')

    def u64(self):
        return int.from_bytes(self.take(8), 'little')

    def s64(self):
        return int.from_bytes(self.take(8), 'little', signed=True)

    def varint(self):
        n = 0
        for i in range(10):
            b = self.u8()
            n |= (b & 127) << (7 * i)
            if b < 128:
                need(n < 1 << 64, '%s: a varint above 2^64', self.what)
                return n
        raise Bad('%s: a varint of more than ten bytes' % self.what)

    def string(self):
        return self.take(self.varint())

    def zeros(self, n):
        at = self.at
        need(self.take(n) == bytes(n), '%s: reserved bytes at %d are not zero',
             self.what, at)

    def more(self):
        return self.at < len(self.data)

    def end(self):
        need(not self.more(), '%s: %d bytes too many', self.what,
             len(self.data) - self.at)


def unpack(codec, data, plain_bytes, what):
    if codec == 0:
        need(len(data) == plain_bytes, '%s: %d bytes raw, not %d', what,
             len(data), plain_bytes)
        return data
    need(codec == 1, '%s: unknown codec %d', what, codec)
    d = zstandard.ZstdDecompressor().decompressobj()
    try:
        plain = d.decompress(data)
    except zstandard.ZstdError as e:
        raise Bad('%s: %s' % (what, e))
    need(d.eof and not d.unused_data, '%s: not exactly one zstd frame', what)
    need(len(plain) == plain_bytes, '%s: unpacks to %d bytes, not %d', what,
         len(plain), plain_bytes)
    return plain


def hkdf(ikm, salt, info):
    return HKDF(SHA256(), 32, salt, info).derive(ikm)


def check_trailer(tail, magic, what):
    """The 32 bytes at the end: D, sealed length of the directory, a u32."""
    c = Cursor(tail, what + ', trailer')
    need(c.take(8) == magic, '%s: no trailer', what)
    d, length, last = c.u64(), c.u32(), c.u32()
    need(c.u64() == xxhash.xxh64_intdigest(tail[:24]),
         '%s: the trailer does not fit its checksum', what)
    c.end()
    return d, length, last


# ---- 3 and 4. the repository, its keys, sealed frames ----
class Repository:
    def __init__(self, top, key_file=None, passphrase=None):
        self.top = top
        self.about = about = json.loads(self.read('neap.json'))
        need(about['format'] == 1, 'neap.json: unknown format')
        need(about['block_bytes'] == BLOCK and about['chunk_blocks'] == SLOTS,
             'neap.json: unknown geometry')
        need(HEX_ID.match(about['id']), 'neap.json: no id')
        self.id = bytes.fromhex(about['id'])
        self.encrypted = about['encryption'] == 'aes-256-gcm'
        need(about['encryption'] in ('aes-256-gcm', 'none'),
             'neap.json: unknown encryption')
        need(about['digest'] == ('hmac-sha256-blocks' if self.encrypted else
                                 'sha256-blocks'), 'neap.json: unknown digest')
        known = {'format', 'id', 'created', 'block_bytes', 'chunk_blocks',
                 'encryption', 'digest'}
        if self.encrypted:
            known |= {'public_key', 'key_check', 'slots'}
            self.take_keys(self.key_document(key_file, passphrase))
        need(set(about) == known, 'neap.json: members %s are not those of the '
             'format', sorted(set(about) ^ known))

    def read(self, name):
        with open(os.path.join(self.top, name), 'rb') as f:
            return f.read()

    def key_document(self, key_file, passphrase):
        if key_file is not None:
            with open(key_file, 'rb') as f:
                return json.load(f)
        need(passphrase is not None, 'the repository is encrypted: --key')
        for slot in self.about['slots']:
            try:
                return json.loads(self.open_slot(slot, passphrase))
            except InvalidTag:
                pass
        raise Bad('the passphrase opens no slot of neap.json')

    def open_slot(self, slot, passphrase):
        need(slot['kind'] == 'scrypt', 'neap.json: unknown kind of slot')
        need(set(slot) == {'kind', 'n', 'r', 'p', 'salt', 'nonce', 'sealed'},
             'neap.json: unknown member of a slot')
        n, r, p = slot['n'], slot['r'], slot['p']
        need(n <= 1 << 20 and r <= 32 and p <= 16, 'neap.json: scrypt limits')
        key = hashlib.scrypt(passphrase, salt=bytes.fromhex(slot['salt']),
                             n=n, r=r, p=p, dklen=32, maxmem=(2 << 30) - 2)
        return AESGCM(key).decrypt(bytes.fromhex(slot['nonce']),
                                   bytes.fromhex(slot['sealed']), self.id)

    def take_keys(self, k):
        need(k['neap_key'] == 1 and k['kind'] in ('host', 'recovery'),
             'that is no key file')
        need(k['repository'] == self.about['id'] and
             k['public_key'] == self.about['public_key'],
             'the key is of another repository')
        self.id_key = bytes.fromhex(k['id_key'])
        self.meta_key = bytes.fromhex(k['meta_key'])
        self.public = bytes.fromhex(k['public_key'])
        self.private = None
        if k['kind'] == 'recovery':
            self.private = x25519.X25519PrivateKey.from_private_bytes(
                bytes.fromhex(k['private_key']))
            public = self.private.public_key().public_bytes(
                Encoding.Raw, PublicFormat.Raw)
            need(public == self.public, 'the key does not fit itself')
        check = hmac.digest(self.meta_key, b'neap key check' + self.id,
                            'sha256')[:16]
        need(check.hex() == self.about['key_check'],
             'the key does not fit the key check of neap.json')

    def meta(self, kind, file_id):
        if not self.encrypted:
            return None
        return hkdf(self.meta_key, file_id, b'neap meta ' + kind)

    def pack_key(self, pack_id, ephemeral):
        if not self.encrypted:
            return None
        need(self.private is not None,
             'chunks open with the recovery key only')
        shared = self.private.exchange(
            x25519.X25519PublicKey.from_public_bytes(ephemeral))
        return hkdf(shared, ephemeral + self.public, b'neap pack ' + pack_id)

    def open_frame(self, key, file_id, number, frame, what, extra=b''):
        need(len(frame) >= 16, '%s: a frame of %d bytes', what, len(frame))
        aad = file_id + struct.pack('<Q', number) + extra
        if not self.encrypted:
            payload, tag = frame[:-16], frame[-16:]
            need(xxhash.xxh3_128_digest(aad + payload) == tag,
                 '%s: frame %d does not fit its tag', what, number)
            return payload
        try:
            return AESGCM(key).decrypt(struct.pack('<QI', number, 0), frame,
                                       aad)
        except InvalidTag:
            raise Bad('%s: frame %d does not open' % (what, number))

    def chunk_id(self, plain):
        leaves = b''.join(hashlib.sha256(plain[at:at + BLOCK]).digest()
                          for at in range(0, len(plain), BLOCK))
        if self.encrypted:
            return hmac.digest(self.id_key, leaves, 'sha256')
        return hashlib.sha256(leaves).digest()

    def header(self, data, magic, what):
        """The 64 bytes at the start, as a cursor behind the version."""
        need(len(data) >= 64, '%s: %d bytes', what, len(data))
        c = Cursor(data[:64], what + ', header')
        need(c.take(8) == magic, '%s: not a %s', what, magic.decode())
        need(c.u16() == 1, '%s: unknown version', what)
        return c

    def check_flags(self, flags, what):
        need(flags == (1 if self.encrypted else 0), '%s: flags %d', what, flags)


# ---- 5. packs ----
class Pack:
    def __init__(self, repo, name):
        self.repo, self.name = repo, name
        self.data = data = repo.read(name)
        c = repo.header(data, b'neapPACK', name)
        repo.check_flags(c.u16(), name)
        c.zeros(4)
        self.id = c.take(16)
        ephemeral = c.take(32)
        c.end()
        need(name == 'packs/%s/%s' % (self.id.hex()[:2], self.id.hex()),
             '%s: has the id %s', name, self.id.hex())
        need(repo.encrypted or ephemeral == bytes(32),
             '%s: an ephemeral key without encryption', name)
        need(len(data) <= 64 << 20, '%s: more than 64 MiB', name)
        self.ephemeral, self.key = ephemeral, None
        d, length, count = check_trailer(data[-32:], b'neapPEND', name)
        need(d >= 64 and d + length + 32 == len(data),
             '%s: the trailer does not fit the length', name)
        key = repo.meta(b'pack-directory', self.id)
        self.read_directory(repo.open_frame(key, self.id, d, data[d:d + length],
                                            name), d, count)

    def read_directory(self, plain, d, count):
        c = Cursor(plain, self.name + ', directory')
        need(c.u32() == count and 1 <= count <= 65535,
             '%s: the directory has another count', self.name)
        c.zeros(4)
        self.chunks = {}  # id: (offset, packed)
        at = 64
        for _ in range(count):
            chunk, off, packed = c.take(32), c.u32(), c.u32()
            need(off == at and packed >> 28 == 0,
                 '%s: the chunks do not tile at %d', self.name, at)
            need(chunk not in self.chunks, '%s: a chunk twice', self.name)
            self.chunks[chunk] = (off, packed)
            at += packed & 0xfffff
        c.end()
        need(at == d, '%s: %d bytes belong to no chunk', self.name, d - at)

    def chunk(self, chunk):
        if self.key is None:
            self.key = self.repo.pack_key(self.id, self.ephemeral)
        off, packed = self.chunks[chunk]
        sealed, blocks = packed & 0xfffff, (packed >> 20 & 31) + 1
        codec = packed >> 25 & 7
        what = '%s, chunk at %d' % (self.name, off)
        need(sealed <= blocks * BLOCK + 16, '%s: too long', what)
        data = self.repo.open_frame(self.key, self.id, off,
                                    self.data[off:off + sealed], what, chunk)
        if codec == 1:
            p = zstandard.get_frame_parameters(data)
            need(not p.has_checksum and p.content_size ==
                 zstandard.CONTENTSIZE_UNKNOWN,
                 '%s: zstd with checksum or content size', what)
        plain = unpack(codec, data, blocks * BLOCK, what)
        need(self.repo.chunk_id(plain) == chunk,
             '%s: does not fit its digest', what)
        return plain


# ---- 6. tables ----
class Table:
    """All entries of a table, checked: self.entries is a list of pairs."""

    def __init__(self, repo, name, kind, word):
        self.name, self.repo = name, repo
        self.data = data = repo.read(name)
        c = repo.header(data, b'neapTABL', name)
        need(c.u8() == kind, '%s: of another kind', name)
        repo.check_flags(c.u8(), name)
        c.zeros(4)
        self.id = c.take(16)
        c.zeros(32)
        c.end()
        need(name.endswith('/' + self.id.hex()), '%s: has another id', name)
        d, length, reserved = check_trailer(data[-32:], b'neapTEND', name)
        need(d >= 64 and d + length + 32 == len(data) and reserved == 0,
             '%s: the trailer does not fit the length', name)
        self.key = repo.meta(word, self.id)
        self.entries = []
        self.read_directory(repo.open_frame(
            self.key, self.id, 1 << 63, data[d:d + length], name), d)
        self.bytes = len(data)
        self.data = None

    def read_directory(self, plain, d):
        c = Cursor(plain, self.name + ', directory')
        total, frames, at = c.u64(), c.u32(), 64
        for i in range(frames):
            least, off, length = c.string(), c.varint(), c.varint()
            plain_bytes, codec = c.varint(), c.u8()
            need(off == at, '%s: frame %d does not tile', self.name, i)
            at += length
            self.read_frame(i, least, self.data[off:at], plain_bytes, codec)
        c.end()
        need(at == d, '%s: %d bytes belong to no frame', self.name, d - at)
        need(total == len(self.entries), '%s: %d entries, not %d', self.name,
             len(self.entries), total)

    def read_frame(self, i, least, sealed, plain_bytes, codec):
        what = '%s, frame %d' % (self.name, i)
        data = self.repo.open_frame(self.key, self.id, i, sealed, self.name)
        need(codec == 0 or len(data) < plain_bytes, '%s: zstd did not shrink',
             what)
        c = Cursor(unpack(codec, data, plain_bytes, what), what)
        start = len(self.entries)
        while c.more():
            need(c.at < 32768, '%s: was to be closed before %d', what, c.at)
            key, value = c.string(), c.string()
            need(1 <= len(key) <= 4096 and len(value) <= 1 << 20,
                 '%s: lengths of an entry', what)
            need(not self.entries or self.entries[-1][0] < key,
                 '%s: the keys do not ascend', what)
            self.entries.append((key, value))
        need(least and len(self.entries) > start and
             self.entries[start][0] >= least,
             '%s: a key is less than its least', what)
        need(start == 0 or self.entries[start - 1][0] < least,
             '%s: its least key is not above the last', what)


class Segment(Table):
    """An index segment: chunks {id: (pack number, offset, packed)}."""

    def __init__(self, repo, name):
        super().__init__(repo, name, 1, b'index')
        self.chunks, self.packs, self.contains = {}, [], set()
        for key, value in self.entries:
            c = Cursor(value, name + ', entry')
            tag, rest = key[:1], key[1:]
            if tag == b'C':
                need(len(rest) == 32, '%s: a chunk id of %d bytes', name,
                     len(rest))
                self.chunks[rest] = (c.u32(), c.u32(), c.u32())
            elif tag == b'P':
                need(rest == struct.pack('>I', len(self.packs)),
                     '%s: a gap in the pack numbers', name)
                self.packs.append(c.take(16))
            else:
                need(tag == b'S' and len(rest) == 16, '%s: a key %s', name,
                     key.hex())
                self.contains.add(rest)
            c.end()
        need(all(n < len(self.packs) for n, _, _ in self.chunks.values()),
             '%s: a pack number that it does not name', name)


TYPES = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFLNK, 4: stat.S_IFIFO,
         5: stat.S_IFSOCK, 6: stat.S_IFCHR, 7: stat.S_IFBLK,
         8: stat.S_IFREG}
IMAGE = 8


class Object:
    def __init__(self, data, what):
        c = Cursor(data, what)
        need(c.u8() == 1, '%s: unknown version', what)
        kind = c.u8()
        need(kind in TYPES, '%s: unknown type %d', what, kind)
        self.type = TYPES[kind]
        self.mode, self.uid, self.gid = c.varint(), c.varint(), c.varint()
        need(self.mode <= 0o7777, '%s: mode %o', what, self.mode)
        self.links, self.size = c.varint(), c.varint()
        self.mtime = c.s64() * 10**9 + c.varint()
        self.atime = c.s64() * 10**9 + c.varint()
        self.device = os.makedev(c.varint(), c.varint())
        self.flags, self.target = c.varint(), c.string()
        self.xattrs = [(c.string(), c.string()) for _ in range(c.varint())]
        need(sorted(self.xattrs) == self.xattrs, '%s: attributes not in order',
             what)
        self.image = kind == IMAGE
        if self.image:
            self.add_image(c, what)
        c.end()

    def add_image(self, c, what):
        sector = c.varint()
        need(512 <= sector <= 65536 and sector & (sector - 1) == 0,
             '%s: sectors of %d bytes', what, sector)
        for _ in range(3):  # type, UUID and label of its file system
            text = c.string()
            need(len(text) <= 1024 and b'\0' not in text, '%s: text', what)
        need((self.mtime, self.atime, self.device) == (0, 0, 0),
             '%s: an image with times or a device number', what)


class Map(Table):
    """names {(folder, name): object or None}, objects {number: Object or
    None}, extents {object: [(first block, count, chunk or None, slot)]}"""

    def __init__(self, repo, name):
        super().__init__(repo, name, 2, b'map')
        self.names, self.objects, self.extents = {}, {}, {}
        for key, value in self.entries:
            need(len(key) >= 9, '%s: a key %s', name, key.hex())
            tag, obj = key[:1], struct.unpack('>Q', key[1:9])[0]
            need(obj != 0, '%s: an object 0', name)
            c = Cursor(value, '%s, entry of object %d' % (name, obj))
            if tag == b'N':
                self.add_name(obj, key[9:], c)
            elif tag == b'O' and len(key) == 9:
                self.objects[obj] = Object(value, c.what) if value else None
                c.take(len(value))
            else:
                need(tag == b'E' and len(key) == 17, '%s: a key %s', name,
                     key.hex())
                self.add_extent(obj, struct.unpack('>Q', key[9:])[0], c)
            c.end()

    def add_name(self, folder, entry, c):
        need(entry not in (b'', b'.', b'..') and b'/' not in entry and
             b'\0' not in entry, '%s: a name %r', c.what, entry)
        obj = c.varint() if c.more() else None
        need(obj != 0, '%s: an object 0', c.what)
        self.names[folder, entry] = obj

    def add_extent(self, obj, first, c):
        extents = self.extents.setdefault(obj, [])
        count, kind, slot, chunk = c.varint(), c.u8(), 0, None
        need(1 <= count < 1 << 32 and first + count <= 1 << 51,
             '%s: extent of %d at %d', c.what, count, first)
        if kind != 0:
            need(kind == 1, '%s: unknown kind of extent', c.what)
            slot, chunk = c.u8(), c.take(32)
            need(slot + count <= SLOTS, '%s: slots', c.what)
        need(not extents or extents[-1][0] + extents[-1][1] <= first,
             '%s: extents overlap at block %d', c.what, first)
        extents.append((first, count, chunk, slot))


# ---- 7. documents ----
MEMBERS = {'format', 'backup', 'job', 'time', 'host', 'neap_version', 'engine',
           'consistency', 'evidence', 'probe', 'paths', 'maps', 'next_object',
           'parent', 'tracker', 'stats'}


def read_document(repo, name, kind, word):
    data = repo.read(name)
    c = repo.header(data, b'neapDOC1', name)
    need(c.u8() == kind, '%s: of another kind', name)
    repo.check_flags(c.u8(), name)
    length, file_id, codec = c.u32(), c.take(16), c.u8()
    c.zeros(31)
    c.end()
    payload = repo.open_frame(repo.meta(word, file_id), file_id, 0, data[64:],
                              name, name.encode())
    return json.loads(unpack(codec, payload, length, name))


def read_record(repo, name):
    r = read_document(repo, name, 1, b'record')
    need(r['format'] == 1, '%s: unknown format', name)
    need('backups/' + r['backup'] == name and
         r['backup'] == r['job'] + '/' + r['time'], '%s: is of %s', name,
         r['backup'])
    need(set(r) == MEMBERS, '%s: members %s are not those of the format', name,
         sorted(set(r) ^ MEMBERS))
    return r


# ---- a backup: the view that its maps make together ----
def paint(old, new):
    """Extents `new` over extents `old`, both in order."""
    out = []
    for first, count, chunk, slot in old:
        for f, n, _, _ in new:
            if f + n <= first:
                continue
            if f >= first + count:
                break
            if f > first:
                out.append((first, f - first, chunk, slot))
            cut = f + n - first
            first, count, slot = first + cut, count - cut, slot + cut
            if count <= 0:
                break
        if count > 0:
            out.append((first, count, chunk, slot))
    return sorted(out + new)


class Backup:
    def __init__(self, repo, name):
        self.record = read_record(repo, 'backups/' + name)
        self.names, self.objects, self.extents = {}, {}, {}
        for ref in self.record['maps']:
            m = Map(repo, 'maps/' + ref['id'])
            need(m.bytes == ref['bytes'] and len(m.entries) == ref['entries'],
                 '%s: the record says another length', m.name)
            self.names.update(m.names)
            self.objects.update(m.objects)
            for obj, extents in m.extents.items():
                self.extents[obj] = paint(self.extents.get(obj, []), extents)
        top = max([0] + list(self.objects))
        need(self.record['next_object'] > top, '%s: next_object %d, but there '
             'is %d', name, self.record['next_object'], top)

    def children(self):
        """{folder: [(name, object)]}, without what is gone."""
        out = {}
        for (folder, name), obj in sorted(self.names.items()):
            if obj is not None and self.objects.get(folder) is not None:
                out.setdefault(folder, []).append((name, obj))
        return out


class Store:
    """Where chunks are: {chunk id: pack}; every segment is read."""

    def __init__(self, repo):
        self.repo, self.open_packs = repo, {}
        segments = [Segment(repo, n) for n in walk(repo, 'index')]
        self.contained = {i for s in segments for i in s.contains}
        self.segments = [s for s in segments if s.id not in self.contained]
        self.where = {}
        for s in self.segments:
            for chunk, (number, off, packed) in s.chunks.items():
                self.where.setdefault(chunk, (s.packs[number], off, packed))

    def pack(self, pack_id):
        if pack_id not in self.open_packs:
            if len(self.open_packs) > 8:
                self.open_packs.clear()
            name = 'packs/%s/%s' % (pack_id.hex()[:2], pack_id.hex())
            self.open_packs[pack_id] = Pack(self.repo, name)
        return self.open_packs[pack_id]

    def chunk(self, chunk):
        need(chunk in self.where, 'chunk %s is in no index', chunk.hex())
        pack_id, off, packed = self.where[chunk]
        pack = self.pack(pack_id)
        need(pack.chunks.get(chunk) == (off, packed),
             '%s: the index says something else of chunk %s', pack.name,
             chunk.hex())
        return pack.chunk(chunk)


# ---- extract ----
FS_IOC_SETFLAGS = 0x40086602
FS_NOCOW_FL = 0x00800000


class Extractor:
    def __init__(self, repo, name, target):
        self.backup, self.store = Backup(repo, name), Store(repo)
        self.children = self.backup.children()
        self.made = {}  # object: path, for hard links
        self.cache = (None, b'')
        os.makedirs(target)
        self.walk(1, os.fsencode(target))

    def walk(self, folder, path):
        for name, obj in self.children.get(folder, []):
            what = self.backup.objects.get(obj)
            need(what is not None, 'name %r leads to no object', name)
            here = os.path.join(path, name)
            if what.type == stat.S_IFDIR:
                os.mkdir(here)
                self.walk(obj, here)
                self.dress(here, what)
            elif obj in self.made:
                os.link(self.made[obj], here, follow_symlinks=False)
            else:
                self.made[obj] = here
                self.make(here, obj, what)
                self.dress(here, what)

    def make(self, path, obj, what):
        if what.type == stat.S_IFREG:
            self.write(path, obj, what)
        elif what.type == stat.S_IFLNK:
            os.symlink(what.target, path)
        else:
            os.mknod(path, what.type | 0o600, what.device)

    def write(self, path, obj, what):
        with open(path, 'xb') as f:
            if what.flags & FS_NOCOW_FL:
                try:
                    fcntl.ioctl(f, FS_IOC_SETFLAGS,
                                array.array('l', [FS_NOCOW_FL]))
                except OSError:
                    pass  # another file system than btrfs
            for first, count, chunk, slot in self.backup.extents.get(obj, []):
                if chunk is None or first * BLOCK >= what.size:
                    continue
                if self.cache[0] != chunk:
                    self.cache = (chunk, self.store.chunk(chunk))
                data = self.cache[1][slot * BLOCK:(slot + count) * BLOCK]
                need(len(data) == count * BLOCK, '%r: an extent past the end '
                     'of its chunk', path)
                keep = min(len(data), what.size - first * BLOCK)
                need(not any(data[keep:]), '%r: padding is not zero', path)
                f.seek(first * BLOCK)
                f.write(data[:keep])
            f.truncate(what.size)

    def dress(self, path, what):
        os.chown(path, what.uid, what.gid, follow_symlinks=False)
        if what.type != stat.S_IFLNK:
            os.chmod(path, what.mode)
        for name, value in what.xattrs:
            os.setxattr(path, name, value, follow_symlinks=False)
        if not what.image:
            os.utime(path, ns=(what.atime, what.mtime), follow_symlinks=False)


# ---- list and verify ----
def walk(repo, folder):
    """Names of all files below, but for what a crash of the driver left."""
    out = []
    for at, _, files in os.walk(os.path.join(repo.top, folder)):
        at = os.path.relpath(at, repo.top)
        out += [os.path.normpath(os.path.join(at, f)) for f in files
                if not TEMPORARY.match(f)]
    return sorted(out)


def parts_are(name, *patterns):
    parts = name.split('/')[1:]
    return len(parts) == len(patterns) and all(
        p.match(part) for p, part in zip(patterns, parts))


def do_list(repo):
    for name in walk(repo, 'backups'):
        need(parts_are(name, JOB, TIME), '%s: not a name of a record', name)
        r = read_record(repo, name)
        print('%s %s %s %d' % (r['backup'], r['engine'], r['consistency'],
                               r['stats']['logical_bytes']))


def verify_packs(repo, store):
    names = walk(repo, 'packs')
    seen = {}
    for name in names:
        need(parts_are(name, re.compile(r'[0-9a-f]{2}\Z'), HEX_ID),
             '%s: not a name of a pack', name)
        pack = Pack(repo, name)
        for chunk, where in pack.chunks.items():
            pack.chunk(chunk)
            seen.setdefault(chunk, set()).add((pack.id,) + where)
    for segment in store.segments:
        for chunk, (number, off, packed) in segment.chunks.items():
            need((segment.packs[number], off, packed) in seen.get(chunk, ()),
                 '%s: chunk %s is not where it says', segment.name,
                 chunk.hex())
    named = {p for s in store.segments for p in s.packs}
    there = {bytes.fromhex(n[-32:]) for n in names}
    print('packs %d, of which in no segment %d; chunks %d' %
          (len(names), len(there - named), len(seen)))
    return {chunk: (next(iter(w))[2] >> 20 & 31) + 1
            for chunk, w in seen.items()}


def verify_backup(repo, name, blocks, used):
    backup = Backup(repo, name)
    used.update('maps/' + ref['id'] for ref in backup.record['maps'])
    for obj, extents in backup.extents.items():
        if backup.objects.get(obj) is None:
            continue  # gone, with all its extents
        for first, count, chunk, slot in extents:
            need(chunk is None or slot + count <= blocks.get(chunk, 0),
                 '%s: object %d, block %d: chunk %s has no such slot', name,
                 obj, first, chunk and chunk.hex())
    links, todo, children = {}, [1], backup.children()
    need(backup.objects.get(1) is not None and
         backup.objects[1].type == stat.S_IFDIR, '%s: no root folder', name)
    while todo:
        for _, obj in children.get(todo.pop(), []):
            what = backup.objects.get(obj)
            need(what is not None, '%s: no object %d', name, obj)
            links[obj] = links.get(obj, 0) + 1
            need(what.type != stat.S_IFDIR or links[obj] == 1,
                 '%s: folder %d has two names', name, obj)
            if what.type == stat.S_IFDIR:
                todo.append(obj)
    orphans = [o for o, w in backup.objects.items() if w is not None and
               o != 1 and o not in links]
    need(not orphans, '%s: objects %s have no name', name, orphans)
    print('backup %s: %d objects, %d maps' % (name, len(links) + 1,
                                              len(backup.record['maps'])))


def verify_names(repo):
    rest = [n for n in walk(repo, '.') if n != 'neap.json' and
            n.split('/')[0] not in ('packs', 'index', 'maps', 'backups',
                                    'proofs')]
    need(not rest, 'files that the format does not know: %s', rest)
    for name in walk(repo, 'index') + walk(repo, 'maps'):
        need(parts_are(name, HEX_ID), '%s: not a name of a table', name)


def do_verify(repo):
    verify_names(repo)
    store = Store(repo)
    print('segments %d, of which contained in others %d' %
          (len(walk(repo, 'index')),
           len(walk(repo, 'index')) - len(store.segments)))
    blocks = verify_packs(repo, store)
    used = set()
    for name in walk(repo, 'backups'):
        verify_backup(repo, name[len('backups/'):], blocks, used)
    for name in walk(repo, 'maps'):
        Map(repo, name)
    print('maps %d, of which no backup names %d' %
          (len(walk(repo, 'maps')), len(set(walk(repo, 'maps')) - used)))
    for name in walk(repo, 'proofs'):
        need(parts_are(name, JOB, TIME, TIME), '%s: not a name of a proof',
             name)
        read_document(repo, name, 2, b'proof')
    print('proofs %d' % len(walk(repo, 'proofs')))
    print('every byte is accounted for')


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('repo')
    p.add_argument('--key')
    p.add_argument('--passphrase')
    p.add_argument('command', choices=['list', 'extract', 'verify'])
    p.add_argument('args', nargs='*')
    a = p.parse_args()
    if len(a.args) != (2 if a.command == 'extract' else 0):
        p.error('wrong number of arguments')
    passphrase = None
    if a.passphrase:
        with open(a.passphrase, 'rb') as f:
            passphrase = f.readline().rstrip(b'\n')
    try:
        repo = Repository(a.repo, a.key, passphrase)
        if a.command == 'list':
            do_list(repo)
        elif a.command == 'verify':
            do_verify(repo)
        else:
            Extractor(repo, *a.args)
    except Bad as e:
        print('read_backup: %s' % e, file=sys.stderr)
        return 4
    except OSError as e:
        print('read_backup: %s' % e, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

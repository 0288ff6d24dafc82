"""The Lua scripts, and the keys in the server that they work on.

A store is three keys, which share a hash tag, so that a proxy before a cluster keeps them together:

======================================  =======  ================================================
key                                     type     contents
======================================  =======  ================================================
``kvfs:{NAMESPACE/STORE}:index``        zset     the keys of all records, score 0: in byte order
``kvfs:{NAMESPACE/STORE}:values``       hash     key of a record -> its value
``kvfs:{NAMESPACE/STORE}:about``        hash     ``format`` -> 1; ``id`` -> 16 random bytes as hex
======================================  =======  ================================================

What was changed is published on ``kvfs:{NAMESPACE/STORE}:changes``, if somebody listens: keys, each
behind its length in four bytes, big-endian.

The server runs one script at a time and nothing else meanwhile, so a script is atomic and isolated.
It is refused whole if memory has run out when it begins, unless it is allowed to go on
(``allow-oom``): then it may only delete.
"""

from __future__ import annotations

from hashlib import sha1

import attrs

FORMAT = b"1"
OK, STALE = 0, -1
"""What a commit answers; otherwise the number of the guard that does not hold, from 1."""


@attrs.frozen
class Script:
    """A script, and the name by which the server knows it."""

    text: str
    digest: str = attrs.field(init=False)

    @digest.default
    def _digest(self) -> str:
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


@attrs.frozen
class Names:
    """The keys of a store in the server."""

    index: str
    values: str
    about: str
    changes: str

    @classmethod
    def of(cls, namespace: str, store: str) -> Names:
        """The keys of that store of that volume."""
        prefix = f"kvfs:{{{namespace}/{store}}}:"
        return cls(prefix + "index", prefix + "values", prefix + "about", prefix + "changes")


# Arguments: format, id of a new store.  Answers: format and id of the store; nothing if what is
# there is not of KVFS.
CREATE = Script(
    """#!lua
local index, values, about = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', about) == 0 then
  if redis.call('EXISTS', index, values) ~= 0 then return {} end
  redis.call('HSET', about, 'format', ARGV[1], 'id', ARGV[2])
end
return redis.call('HMGET', about, 'format', 'id')
"""
)

# Arguments: id of the store; channel; how many guards, range deletes, deletes and puts; then
# these: key, '1' and value or key, '0' and '' (absent); start and stop; key; key and value.
# Work is done in portions, as Lua's stack takes only some thousand arguments.
_COMMIT = """
local index, values, about = KEYS[1], KEYS[2], KEYS[3]
local channel = ARGV[2]
local guards, ranges = tonumber(ARGV[3]), tonumber(ARGV[4])
local deletes, puts = tonumber(ARGV[5]), tonumber(ARGV[6])
local portion = 1000
local at = 7

if redis.call('HGET', about, 'id') ~= ARGV[1] then return -1 end
for number = 1, guards do
  local value = redis.call('HGET', values, ARGV[at])
  local holds
  if ARGV[at + 1] == '1' then holds = value == ARGV[at + 2] else holds = not value end
  if not holds then return number end
  at = at + 3
end

local watched = redis.call('PUBSUB', 'NUMSUB', channel)[2] > 0
local function tell(keys)
  if not watched or #keys == 0 then return end
  local parts = {}
  for _, key in ipairs(keys) do parts[#parts + 1] = struct.pack('>I4', #key) .. key end
  redis.call('PUBLISH', channel, table.concat(parts))
end
local function remove(keys)
  if #keys == 0 then return end
  redis.call('HDEL', values, unpack(keys))
  redis.call('ZREM', index, unpack(keys))
  tell(keys)
end

for _ = 1, ranges do
  local low, high = '[' .. ARGV[at], '(' .. ARGV[at + 1]
  repeat
    local keys = redis.call('ZRANGEBYLEX', index, low, high, 'LIMIT', 0, portion)
    remove(keys)
  until #keys < portion
  at = at + 2
end

local gone = {}
for _ = 1, deletes do
  if redis.call('HEXISTS', values, ARGV[at]) == 1 then gone[#gone + 1] = ARGV[at] end
  if #gone == portion then remove(gone); gone = {} end
  at = at + 1
end
remove(gone)

while puts > 0 do
  local count = math.min(puts, portion)
  local scored, keys = {}, {}
  for place = at, at + 2 * (count - 1), 2 do
    scored[#scored + 1] = 0
    scored[#scored + 1] = ARGV[place]
    keys[#keys + 1] = ARGV[place]
  end
  redis.call('HSET', values, unpack(ARGV, at, at + 2 * count - 1))
  redis.call('ZADD', index, unpack(scored))
  tell(keys)
  at, puts = at + 2 * count, puts - count
end
return 0
"""
COMMIT = Script("#!lua" + _COMMIT)
COMMIT_OF_DELETES = Script("#!lua flags=allow-oom" + _COMMIT)

# Arguments: ZRANGEBYLEX or ZREVRANGEBYLEX; its bounds; most records; how many bytes are enough.
# Answers: 1 if there may be more, then keys and values in turn.
PAGE = Script(
    """#!lua flags=no-writes
local index, values = KEYS[1], KEYS[2]
local most, enough = tonumber(ARGV[4]), tonumber(ARGV[5])
local keys = redis.call(ARGV[1], index, ARGV[2], ARGV[3], 'LIMIT', 0, most)
local found, bytes = {#keys == most and 1 or 0}, 0
for number, key in ipairs(keys) do
  local value = redis.call('HGET', values, key)
  found[2 * number], found[2 * number + 1] = key, value
  bytes = bytes + #key + #value
  if bytes >= enough and number < #keys then
    found[1] = 1
    break
  end
end
return found
"""
)

__all__ = [
    "COMMIT",
    "COMMIT_OF_DELETES",
    "CREATE",
    "FORMAT",
    "OK",
    "PAGE",
    "STALE",
    "Names",
    "Script",
]

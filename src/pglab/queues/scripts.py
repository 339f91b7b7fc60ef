"""Scripts for Redis: one step of what must not be half done, and of nothing else."""

from __future__ import annotations

from typing import Final

__all__ = ["ACKNOWLEDGE", "BURY", "KEEP", "LEAVE", "PUBLISH", "REVIVE"]

# KEYS: stream, note of the key, counters.
# ARGV: body, key, milliseconds to note it, length at most, trim or refuse, group.
PUBLISH: Final = """
if ARGV[2] ~= '' then
    local known = redis.call('GET', KEYS[2])
    if known then return known end
end
local over = redis.call('XLEN', KEYS[1]) - tonumber(ARGV[4]) + 1
if over > 0 then
    if ARGV[5] == 'refuse' then return false end
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', over)) do
        redis.call('XACK', KEYS[1], ARGV[6], entry[1])
        redis.call('XDEL', KEYS[1], entry[1])
    end
    redis.call('HINCRBY', KEYS[3], 'trimmed', over)
end
local id = redis.call('XADD', KEYS[1], '*', 'body', ARGV[1], 'key', ARGV[2])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], id, 'PX', ARGV[3]) end
return id
"""
# KEYS: stream. ARGV: group, id.
ACKNOWLEDGE: Final = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
return redis.call('XDEL', KEYS[1], ARGV[2])
"""
# KEYS: stream. ARGV: group, id, consumer. JUSTID: this is no delivery, and is not counted as one.
KEEP: Final = """
local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1, ARGV[3])
if #held == 0 then return 0 end
return #redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[2], 'JUSTID')
"""
# KEYS: stream. ARGV: group, consumer, milliseconds. DELCONSUMER forgets what a consumer holds: one
# that holds anything stays.
LEAVE: Final = """
local consumers = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
local left = 0
for _, words in ipairs(consumers) do
    local each = {}
    for i = 1, #words, 2 do each[words[i]] = words[i + 1] end
    local gone = each.name == ARGV[2] or each.idle >= tonumber(ARGV[3])
    if each.pending == 0 and gone then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], each.name)
        left = left + 1
    end
end
return left
"""
# KEYS: stream, dead letters. ARGV: group, id, attempts, reason.
BURY: Final = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
if #found == 0 then return 0 end
local fields = found[1][2]
fields[#fields + 1] = 'attempts'
fields[#fields + 1] = ARGV[3]
fields[#fields + 1] = 'reason'
fields[#fields + 1] = ARGV[4]
redis.call('XADD', KEYS[2], '*', unpack(fields))
return 1
"""
# KEYS: stream, dead letters. ARGV: id of the dead letter.
REVIVE: Final = """
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
if #found == 0 then return false end
local fields = found[1][2]
redis.call('XDEL', KEYS[2], ARGV[1])
return redis.call('XADD', KEYS[1], '*', fields[1], fields[2], fields[3], fields[4])
"""

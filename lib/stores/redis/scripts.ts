import { createHash } from 'node:crypto';
import { GRACE } from './session-records.js';

/** A Lua script and the hash that EVALSHA calls it by. */
export interface Script {
  readonly lua: string;
  readonly sha: string;
}

function script(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

// ARGV[1] is the application's time: that of the servers, and of the replica that takes over, need not agree.
// A script is refused (no memory, no disk, a replica) at its first write or not at all, so none is half done. The first
// is one that takes memory, for a server that has none to see it.

/** Expiry and user of the live session under a key. What else may stand there, of whatever type, counts as nothing. */
const LIVE = `
local now = tonumber(ARGV[1])
local function live(key)
  local header = redis.pcall('HMGET', key, 'e', 'u', 'c')
  local expiry = tonumber(header[1])
  if expiry and expiry > now and header[3] then return { header[1], header[2] } end
end
`;

/** HSET of the arguments from one on, in portions that Lua's stack can hold. */
const WRITE = `
local function write(key, first)
  for i = first, #ARGV, 1000 do redis.call('HSET', key, unpack(ARGV, i, math.min(i + 999, #ARGV))) end
end
`;

/**
 * Merges the delta that stands in the arguments from one on: time to live or '' to leave it, count of fields to remove,
 * those fields, pairs to write.
 */
const MERGE = `${WRITE}
local function merge(key, first)
  local pairs_from = first + 2 + ARGV[first + 1]
  write(key, pairs_from)
  for i = first + 2, pairs_from - 1, 1000 do
    redis.call('HDEL', key, unpack(ARGV, i, math.min(i + 999, pairs_from - 1)))
  end
  if ARGV[first] ~= '' then redis.call('PEXPIRE', key, ARGV[first]) end
end
`;

/** Enters an id in an index until an instant, and sees to it that the index lives so long. */
const ENTER = `
local function enter(key, now, lives, id, instant)
  local type = redis.call('TYPE', key).ok
  if type ~= 'zset' and type ~= 'none' then redis.call('DEL', key) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  redis.call('ZADD', key, instant, id)
  if redis.call('PTTL', key) < tonumber(lives) then redis.call('PEXPIRE', key, lives) end
end
`;

/** KEYS: session. ARGV: now, time to live, pairs to write. 1, or 0 if the id is taken. */
export const CREATE = script(`${LIVE}${WRITE}
if live(KEYS[1]) then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DEL', KEYS[1]) end
write(KEYS[1], 3)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`);

/** KEYS: session. ARGV: now, as MERGE. Expiry and user before it, or nil if there is no session. */
export const COMMIT = script(`${LIVE}${MERGE}
local before = live(KEYS[1])
if before then merge(KEYS[1], 2) end
return before
`);

/**
 * KEYS: session, session under its new id, index of the user it is said to have, index of the user it is to have; the
 * same key twice says that there is none. ARGV: now, user it is said to have or '', id, new id, as MERGE, the last pair
 * being 'r' and who rotates. Whether it is done and the user it has, or nil if there is no session.
 *
 * A session whose user is another than was said is left as it is, since the keys of a script must be known beforehand.
 * ioredis sends a command again whose answer got lost with the connection; the second time it finds its own work.
 */
export const ROTATE = script(`${LIVE}${MERGE}${ENTER}
local before = live(KEYS[1])
if not before then
  if redis.pcall('HGET', KEYS[2], 'r') == ARGV[#ARGV] then return { 1 } end
  return nil
end
if (before[2] or '') ~= ARGV[2] then return { 0, before[2] } end
merge(KEYS[1], 5)
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 1000 do redis.call('HSET', KEYS[2], unpack(all, i, math.min(i + 999, #all))) end
redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
redis.call('DEL', KEYS[1])
if KEYS[3] ~= KEYS[1] then redis.pcall('ZREM', KEYS[3], ARGV[3]) end
if KEYS[4] ~= KEYS[1] then
  local expiry = tonumber(redis.call('HGET', KEYS[2], 'e'))
  local instant = expiry + math.max(expiry - now, ${GRACE})
  enter(KEYS[4], ARGV[1], math.max(1, instant - now + ${GRACE}), ARGV[4], instant)
end
return { 1 }
`);

/**
 * KEYS: session. ARGV: now, the id it moves to, for how long it is kept. All of the hash, or nil.
 *
 * What was taken has no 'e' any more, and so counts as gone. Who took it may ask again.
 */
export const TAKE = script(`${LIVE}
if live(KEYS[1]) then
  redis.call('HSET', KEYS[1], 't', ARGV[2], 'x', redis.call('HGET', KEYS[1], 'e'))
  redis.call('HDEL', KEYS[1], 'e')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif redis.pcall('HGET', KEYS[1], 't') ~= ARGV[2] then
  return nil
end
local hash = redis.call('HGETALL', KEYS[1])
hash[#hash + 1] = 'e'
hash[#hash + 1] = redis.call('HGET', KEYS[1], 'x')
return hash
`);

/**
 * KEYS: session. ARGV: now. Expiry and user before it, or nil if there was no session. What says where a session has
 * moved to stays, since whoever looks for that one may not find it otherwise.
 */
export const DESTROY = script(`${LIVE}
local before = live(KEYS[1])
local moved_to = not before and redis.pcall('HGET', KEYS[1], 't')
if type(moved_to) ~= 'string' then redis.call('DEL', KEYS[1]) end
return before
`);

/** KEYS: session. ARGV: the 'e' that was seen, '' for none. Removes what is there unless it has changed since. */
export const DISCARD = script(`
local expiry = redis.pcall('HGET', KEYS[1], 'e')
if type(expiry) == 'table' or (expiry or '') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`);

/** KEYS: index. ARGV: now, time to live, id, the instant until which it is kept. */
export const INDEX = script(`${ENTER}
enter(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return 1
`);

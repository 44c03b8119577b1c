import { createHash } from 'node:crypto';

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

/** ARGV: now, time to live or '' to leave it, count of fields to remove, those fields, pairs to write. */
const MERGE = `${WRITE}
local function merge(key)
  local pairs_from = 4 + ARGV[3]
  write(key, pairs_from)
  for i = 4, pairs_from - 1, 1000 do redis.call('HDEL', key, unpack(ARGV, i, math.min(i + 999, pairs_from - 1))) end
  if ARGV[2] ~= '' then redis.call('PEXPIRE', key, ARGV[2]) end
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

/** KEYS: session. ARGV: as MERGE. Expiry and user before it, or nil if there is no session. */
export const COMMIT = script(`${LIVE}${MERGE}
local before = live(KEYS[1])
if before then merge(KEYS[1]) end
return before
`);

/**
 * KEYS: session, session under its new id. ARGV: as MERGE, the last pair being 'r' and who rotates. Expiry and user
 * before it, or nil.
 *
 * ioredis sends a command again whose answer got lost with the connection; the second time it finds its own work.
 */
export const ROTATE = script(`${LIVE}${MERGE}
local before = live(KEYS[1])
if not before then
  if redis.pcall('HGET', KEYS[2], 'r') == ARGV[#ARGV] then return live(KEYS[2]) end
  return nil
end
merge(KEYS[1])
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 1000 do redis.call('HSET', KEYS[2], unpack(all, i, math.min(i + 999, #all))) end
redis.call('PEXPIRE', KEYS[2], redis.call('PTTL', KEYS[1]))
redis.call('DEL', KEYS[1])
return before
`);

/**
 * KEYS: session. ARGV: now, who takes it, for how long it is kept for him. All of the hash, or nil.
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

/** KEYS: session. ARGV: now. Expiry and user before it, or nil if there was no session. */
export const DESTROY = script(`${LIVE}
local before = live(KEYS[1])
redis.call('DEL', KEYS[1])
return before
`);

/** KEYS: session. ARGV: the 'e' that was seen, '' for none. Removes what is there unless it has changed since. */
export const DISCARD = script(`
local expiry = redis.pcall('HGET', KEYS[1], 'e')
if type(expiry) == 'table' or (expiry or '') == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`);

/** KEYS: index. ARGV: now, time to live, id, the instant until which it is kept. */
export const INDEX = script(`
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'zset' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
redis.call('ZADD', KEYS[1], ARGV[4], ARGV[3])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
`);

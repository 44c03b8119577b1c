/** The commands that servers such as SoliKV can be relied on for. */
const SAFE =
  'get set del exists pttl pexpireat pexpire getdel hset hget hmget hgetall hdel hsetnx hincrby sadd srem smembers ' +
  'zadd zrangebyscore zrem publish subscribe ping info quit';

/**
 * Settings of a server that allows no others: no EVAL, EVALSHA, SCRIPT, WATCH, MULTI, SCAN, KEYS, HELLO, CLIENT or
 * ZREMRANGEBYSCORE.
 */
export const WITHOUT_SCRIPTS = ['--user', 'default', 'reset', 'on', 'nopass', '~*', '&*'].concat(
  SAFE.split(' ').map((name) => `+${name}`),
);

//! What Redis is asked, each as one step there. All that is known of a database is in one hash:
//!
//! - `epoch`, a number that is never the same again, and `run`, the Redis process that it is of: one that was started again
//!   may have forgotten what it had acknowledged;
//! - `m<slot>` how many are about to write to the tables of a slot, `v<slot>` how often they have been written; `ma` and
//!   `va` the same of all tables;
//! - `era` how often definitions have changed, `cur` how many writes are under way that were begun since, `old` how many
//!   that were begun before.
//!
//! Each process notes its own part of that in another hash, so that it can be taken back when the process is gone: `m` with
//! the slot, and `e` with the era.

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult};

use super::super::link::Link;
use crate::config::Redis;

/// KEYS the hash; ARGV a number for a new epoch, the Redis process. Begins anew where it is of another time.
const OPEN: &str = "\
local run = redis.call('HGET', KEYS[1], 'run')
if not run or run ~= ARGV[2] then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'run', ARGV[2], 'era', 0, 'cur', 0, 'old', 0, 'va', 0)
end
return redis.call('HMGET', KEYS[1], 'epoch', 'era')";

/// KEYS the hash, the process' part, the list of parts; ARGV the name of the part. From now on it has one.
const ENTER: &str = "\
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], 'here', 1)
return 1";

/// KEYS the hash, the process' part; ARGV epoch, era that it was planned in, whether it is a new write, whether to anything, slots.
/// Who plans by definitions of another era may write anything.
const BEGIN: &str = "\
local now = redis.call('HMGET', KEYS[1], 'epoch', 'era')
if now[1] ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return {-1, 0, 0} end
local all = 0
if ARGV[4] == '1' or now[2] ~= ARGV[2] then
  all = 1
  redis.call('HINCRBY', KEYS[1], 'ma', 1)
  redis.call('HINCRBY', KEYS[2], 'ma', 1)
end
for i = 5, #ARGV do
  redis.call('HINCRBY', KEYS[1], 'm' .. ARGV[i], 1)
  redis.call('HINCRBY', KEYS[2], 'm' .. ARGV[i], 1)
end
if ARGV[3] == '1' then
  redis.call('HINCRBY', KEYS[1], 'cur', 1)
  redis.call('HINCRBY', KEYS[2], 'e' .. now[2], 1)
end
return {1, tonumber(now[2]), all}";

/// KEYS as before; ARGV epoch, the era it was begun in, whether definitions may be others now, how often anything was marked,
/// slots.
const END: &str = "\
local now = redis.call('HMGET', KEYS[1], 'epoch', 'era')
if now[1] ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return {-1, 0, 0} end
local function over(m, v, n)
  redis.call('HINCRBY', KEYS[1], m, -n)
  redis.call('HINCRBY', KEYS[2], m, -n)
  redis.call('HINCRBY', KEYS[1], v, n)
end
local all = tonumber(ARGV[4])
if all > 0 then over('ma', 'va', all) end
for i = 5, #ARGV do over('m' .. ARGV[i], 'v' .. ARGV[i], 1) end
redis.call('HINCRBY', KEYS[1], ARGV[2] == now[2] and 'cur' or 'old', -1)
if redis.call('HINCRBY', KEYS[2], 'e' .. ARGV[2], -1) == 0 then redis.call('HDEL', KEYS[2], 'e' .. ARGV[2]) end
local era = tonumber(now[2])
if ARGV[3] == '1' then
  local cur = tonumber(redis.call('HGET', KEYS[1], 'cur'))
  redis.call('HINCRBY', KEYS[1], 'old', cur)
  redis.call('HSET', KEYS[1], 'cur', 0)
  redis.call('HINCRBY', KEYS[1], 'va', 1)
  era = redis.call('HINCRBY', KEYS[1], 'era', 1)
end
return {1, era, 0}";

/// KEYS the hash, the leases of all who write; ARGV slots. State (1 unmarked, 0 marked, -1 nobody knows), epoch, era, the sum
/// of how often they have been written.
const LOOK: &str = "\
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return {-1, '', '0', 0} end
end
local head = redis.call('HMGET', KEYS[1], 'epoch', 'era', 'old', 'ma', 'va')
if not head[1] then return {-1, '', '0', 0} end
local sum, marked = tonumber(head[5] or 0), tonumber(head[3] or 0) > 0 or tonumber(head[4] or 0) > 0
for i = 1, #ARGV do
  local word = redis.call('HMGET', KEYS[1], 'm' .. ARGV[i], 'v' .. ARGV[i])
  marked = marked or tonumber(word[1] or 0) > 0
  sum = sum + tonumber(word[2] or 0)
end
return {marked and 0 or 1, head[1], head[2], sum}";

/// KEYS the hash, the process' part, the list of parts, its lease; ARGV epoch, milliseconds. It is there for so much longer;
/// what nobody has renewed for a day is of no database that there is.
const RENEW: &str = "\
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] or redis.call('EXISTS', KEYS[2]) == 0 then return {-1, 0, 0} end
redis.call('SET', KEYS[4], '', 'PX', ARGV[2])
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], 86400) end
return {1, tonumber(redis.call('HGET', KEYS[1], 'era')), 0}";

/// KEYS the hash, a part, the list of parts; ARGV the part's name. What was marked in that part is over, and whoever had it
/// may have written without a word.
const FORGET: &str = "\
local part = redis.call('HGETALL', KEYS[2])
local era = redis.call('HGET', KEYS[1], 'era')
if era then
  for i = 1, #part, 2 do
    local kind, rest, n = part[i]:sub(1, 1), part[i]:sub(2), tonumber(part[i + 1])
    if kind == 'm' and n > 0 then
      redis.call('HINCRBY', KEYS[1], 'm' .. rest, -n)
      redis.call('HINCRBY', KEYS[1], 'v' .. rest, n)
    elseif kind == 'e' and n > 0 then
      redis.call('HINCRBY', KEYS[1], rest == era and 'cur' or 'old', -n)
    end
  end
  redis.call('HINCRBY', KEYS[1], 'va', 1)
end
redis.call('DEL', KEYS[2])
redis.call('SREM', KEYS[3], ARGV[1])
return 1";

/// The names of what is kept of a database.
#[derive(Clone, Debug)]
pub struct Names(pub String);

impl Names {
    fn hash(&self) -> String {
        format!("{}:words", self.0)
    }

    fn parts(&self) -> String {
        format!("{}:parts", self.0)
    }

    fn part(&self, name: &str) -> String {
        format!("{}:part:{name}", self.0)
    }

    fn lease(&self, epoch: &str, member: u32) -> String {
        format!("{}:lease:{epoch}:{member}", self.0)
    }
}

/// The name of a part: whose it is, and of which of his connections to Redis.
pub fn part_name(member: u32, incarnation: u64) -> String {
    format!("{member}.{incarnation:x}")
}

/// Whose a part is.
pub fn member_of(part: &str) -> Option<u32> {
    part.split('.').next()?.parse().ok()
}

/// A connection on which all of that can be asked.
#[derive(Clone)]
pub struct Line {
    connection: MultiplexedConnection,
    names: Names,
    /// The Redis process.
    run: String,
    scripts: std::sync::Arc<[String; 7]>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What was found of some tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// 1: nobody is about to write; 0: somebody is; otherwise nobody knows.
    pub state: i64,
    /// Which time it is of.
    pub epoch: String,
    /// How often definitions have changed.
    pub era: u64,
    /// How often the tables have been written.
    pub sum: u64,
}

/// A write, as Redis is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// Slots of tables.
    pub slots: &'a [u16],
    /// How often anything was marked: at the beginning, whether it is to be.
    pub anything: u32,
}

impl Line {
    /// One to the Redis of a configuration, for what `names` says.
    ///
    /// # Errors
    /// Whatever keeps it from being had.
    pub async fn open(redis: &Redis, names: Names) -> RedisResult<Line> {
        let Link::Single(mut connection) = Link::open(redis).await? else {
            return Err((ErrorKind::InvalidClientConfig, "one Redis server is needed").into());
        };
        let about: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run = about.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().to_string();
        let mut scripts: [String; 7] = Default::default();
        for (sha, text) in scripts.iter_mut().zip([OPEN, ENTER, BEGIN, END, LOOK, RENEW, FORGET]) {
            *sha = redis::cmd("SCRIPT").arg("LOAD").arg(text).query_async(&mut connection).await?;
        }
        Ok(Line { connection, names, run, scripts: std::sync::Arc::new(scripts) })
    }

    fn ask(&self, script: usize, keys: &[String]) -> redis::Cmd {
        let mut ask = redis::cmd("EVALSHA");
        ask.arg(self.scripts.get(script).map_or("", String::as_str)).arg(keys.len()).arg(keys);
        ask
    }

    /// Which time it is, and how often definitions have changed; `epoch` is the number of a new time, where it is one.
    ///
    /// # Errors
    /// What Redis says, as with all that follow.
    pub async fn begin_time(&mut self, epoch: u64) -> RedisResult<(String, u64)> {
        let mut ask = self.ask(0, &[self.names.hash()]);
        ask.arg(epoch).arg(&self.run).query_async(&mut self.connection).await
    }

    /// A process has a part in it.
    pub async fn enter(&mut self, part: &str) -> RedisResult<i64> {
        let mut ask = self.ask(1, &[self.names.hash(), self.names.part(part), self.names.parts()]);
        ask.arg(part).query_async(&mut self.connection).await
    }

    /// What asks to be told that somebody is about to write.
    pub fn beginning(&self, part: &str, epoch: &str, era: u64, anew: bool, told: Told<'_>) -> redis::Cmd {
        let mut ask = self.ask(2, &[self.names.hash(), self.names.part(part)]);
        ask.arg(epoch).arg(era).arg(u8::from(anew)).arg(u8::from(told.anything > 0)).arg(told.slots);
        ask
    }

    /// The same of a write that is over; `turns` where definitions may be others.
    pub fn ending(&self, part: &str, epoch: &str, era: u64, turns: bool, told: Told<'_>) -> redis::Cmd {
        let mut ask = self.ask(3, &[self.names.hash(), self.names.part(part)]);
        ask.arg(epoch).arg(era).arg(u8::from(turns)).arg(told.anything).arg(told.slots);
        ask
    }

    /// Asks several at once. For each: 1, or something else where it is not of this time; the era; whether anything
    /// was marked.
    pub async fn tell(&mut self, all: Vec<redis::Cmd>) -> RedisResult<Vec<(i64, u64, i64)>> {
        let mut pipe = redis::pipe();
        all.into_iter().for_each(|ask| {
            pipe.add_command(ask);
        });
        pipe.query_async(&mut self.connection).await
    }

    /// How some tables stand, where all of these members are there.
    pub async fn look(&mut self, epoch: &str, members: &[u32], slots: &[u16]) -> RedisResult<Looked> {
        let leases = members.iter().map(|member| self.names.lease(epoch, *member));
        let keys: Vec<String> = std::iter::once(self.names.hash()).chain(leases).collect();
        let mut ask = self.ask(4, &keys);
        let reply: (i64, String, u64, u64) = ask.arg(slots).query_async(&mut self.connection).await?;
        let (state, epoch, era, sum) = reply;
        Ok(Looked { state, epoch, era, sum })
    }

    /// The member is there for so many milliseconds more.
    pub async fn renew(
        &mut self,
        part: &str,
        epoch: &str,
        member: u32,
        ms: u64,
    ) -> RedisResult<(i64, u64, i64)> {
        let names = &self.names;
        let keys = [names.hash(), names.part(part), names.parts(), names.lease(epoch, member)];
        self.ask(5, &keys).arg(epoch).arg(ms).query_async(&mut self.connection).await
    }

    /// Whether a member has a lease of an epoch.
    pub async fn has_lease(&mut self, epoch: &str, member: u32) -> RedisResult<bool> {
        let lease = self.names.lease(epoch, member);
        redis::cmd("EXISTS").arg(lease).query_async(&mut self.connection).await
    }

    /// The parts that there are.
    pub async fn parts(&mut self) -> RedisResult<Vec<String>> {
        redis::cmd("SMEMBERS").arg(self.names.parts()).query_async(&mut self.connection).await
    }

    /// Forgets a part.
    pub async fn forget(&mut self, part: &str) -> RedisResult<i64> {
        let mut ask = self.ask(6, &[self.names.hash(), self.names.part(part), self.names.parts()]);
        ask.arg(part).query_async(&mut self.connection).await
    }
}

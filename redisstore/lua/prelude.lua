-- What every script of this package begins with. A script gets one key, the
-- hash of one breaker, so that it works in a cluster too, and these arguments:
--   1 process  random name of the process that asks; leases belong to it
--   2 node     name of its host; votes belong to it
--   3 alive    milliseconds for which the node counts as alive from now on
--   4 epoch    name for the hash if it has none: a new one tells everybody that
--              the server has lost what it knew
--   5 channel  where changes are published
-- and those of its own from the sixth on. It answers with view().
--
-- Fields of the hash: format (a hash that has another one is left alone), epoch, gen (grows with each change of state and each
-- lease that goes to another process), state, since, until (of open: when the
-- first probe may go), reason, hand (1 if the state was set by hand), hand.at
-- (when one last was), lease.process, lease.node, lease.since, lease.till,
-- lease.used, lease.wanted, shy (the node whose probe failed last), per node
-- alive.NODE and vote.NODE, with the instant at which each is over, and what
-- budget.lua says.
--
-- All instants are milliseconds of the server's clock, and only what remains
-- of them leaves it: the clocks of the others do not matter.

local key, process, node, channel = KEYS[1], ARGV[1], ARGV[2], ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local h = {}
local raw = redis.call('HGETALL', key)
for i = 1, #raw, 2 do h[raw[i]] = raw[i + 1] end

if next(h) and h.format ~= format then
  return cjson.encode({key = key, format = h.format or ''})
end

local function num(field) return tonumber(h[field]) or 0 end

local function put(field, value)
  if type(value) == 'number' then value = string.format('%.0f', value) end
  if h[field] ~= value then
    h[field] = value
    redis.call('HSET', key, field, value)
  end
end

local function drop(...)
  for _, field in ipairs({...}) do
    if h[field] then
      h[field] = nil
      redis.call('HDEL', key, field)
    end
  end
end

-- count returns how many fields with that prefix are not over yet; the rest goes.
local function count(prefix)
  local n, over = 0, {}
  for field in pairs(h) do
    if string.sub(field, 1, #prefix) == prefix then
      if num(field) > now then n = n + 1 else over[#over + 1] = field end
    end
  end
  drop(unpack(over))
  return n
end

-- drop_all drops all fields with that prefix.
local function drop_all(prefix)
  for field in pairs(h) do
    if string.sub(field, 1, #prefix) == prefix then
      redis.call('HDEL', key, field)
      h[field] = nil
    end
  end
end

local function drop_lease()
  drop('lease.process', 'lease.node', 'lease.since', 'lease.till', 'lease.used', 'lease.wanted')
end

local function leased() return num('lease.till') > now end

-- enter makes the hash that of a breaker in that state, for so many milliseconds.
local function enter(state, ms, reason, hand)
  put('gen', num('gen') + 1)
  put('state', state)
  put('since', now)
  put('until', now + ms)
  put('reason', reason)
  put('hand', hand)
  drop_all('vote.')
  drop_lease()
end

-- begun has what was begun in the future, by a clock that has been put back since or
-- by that of another node, begin now: it would last as much longer else.
local function begun(at, till)
  local ahead = num(at) - now
  if ahead > 0 then
    put(at, now)
    put(till, num(till) - ahead)
  end
end

local function view(more)
  local v = {
    key = key, format = format, epoch = h.epoch, gen = num('gen'), state = h.state, hand = h.hand == '1',
    open = math.max(num('until') - now, 0), reason = h.reason,
    process = leased() and h['lease.process'] or '', node = leased() and h['lease.node'] or '',
    lease = math.max(num('lease.till') - now, 0),
    handed = h['hand.at'] or '', ago = now - num('hand.at'),
  }
  for name, value in pairs(more or {}) do v[name] = value end
  return cjson.encode(v)
end

-- publish tells everybody. Who may not publish has written all the same, and
-- the others read it a little later.
local function publish() redis.pcall('PUBLISH', channel, view()) end

if not h.epoch then
  put('format', format)
  put('epoch', ARGV[4])
  put('gen', 0)
  put('state', 'closed')
end
begun('since', 'until')
begun('lease.since', 'lease.till')
put('alive.' .. node, now + tonumber(ARGV[3]))
redis.call('PEXPIRE', key, 31 * 24 * 3600 * 1000) -- longer than any open time

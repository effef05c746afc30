-- The beginning of each script of this package. A script has one key, the hash of
-- one breaker, so it works in a cluster too, and these arguments:
--   1 process  process ID and a random part; owns leases
--   2 node     its host; has one vote
--   3 alive    milliseconds for which the node counts as alive from now on
--   4 epoch    the hash's epoch if it has none: a new epoch shows that the server
--              has lost its data
--   5 channel  where changes are published
-- and its own arguments from the sixth on. It returns view().
--
-- Fields of the hash: format (a hash of another format is not touched), epoch, gen
-- (grows with each change of state, and with each lease that is granted to another
-- process), state, since, until (when an open breaker's first probe may be sent),
-- reason, hand ("1" if the state is a manual override), hand.at (when the latest
-- override was set), lease.process, lease.node, lease.since, lease.till, lease.used,
-- lease.wanted, shy (the node whose probe failed last), for each node alive.NODE and
-- vote.NODE, with the instant at which each expires, and those of budget.lua and
-- reserve.lua. These names, and those that view() publishes, outlive processes and
-- are read by other releases: they are kept, whatever the code calls the same now.
--
-- All instants are milliseconds of the server's clock. Only durations from now leave
-- it, so the clocks of the members need not agree.

local key, process, node, channel = KEYS[1], ARGV[1], ARGV[2], ARGV[5]
local last_failed_node = 'shy' -- the field's name
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

-- count returns how many fields with that prefix have not expired, and drops the rest.
local function count(prefix)
  local n, expired = 0, {}
  for field in pairs(h) do
    if string.sub(field, 1, #prefix) == prefix then
      if num(field) > now then n = n + 1 else expired[#expired + 1] = field end
    end
  end
  drop(unpack(expired))
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

-- enter changes the state; until is ms milliseconds from now.
local function enter(state, ms, reason, manual)
  put('gen', num('gen') + 1)
  put('state', state)
  put('since', now)
  put('until', now + ms)
  put('reason', reason)
  put('hand', manual)
  drop_all('vote.')
  drop_lease()
end

-- clamp_future shifts an interval that starts in the future to now. It was written
-- before the clock was set back, or by another node's clock, and would last too long.
local function clamp_future(from, till)
  local ahead = num(from) - now
  if ahead > 0 then
    put(from, now)
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

-- publish notifies the other members. If publishing is not permitted, the change is
-- stored all the same, and the other members read it a little later.
local function publish() redis.pcall('PUBLISH', channel, view()) end

if not h.epoch then
  put('format', format)
  put('epoch', ARGV[4])
  put('gen', 0)
  put('state', 'closed')
end
clamp_future('since', 'until')
clamp_future('lease.since', 'lease.till')
put('alive.' .. node, now + tonumber(ARGV[3]))
redis.call('PEXPIRE', key, 31 * 24 * 3600 * 1000) -- longer than any open time

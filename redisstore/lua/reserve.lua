-- reserve reserves instants of the rate that the fleet shares: 6 nanoseconds between
-- two, 7 burst, 8 how many are wanted, 9 microseconds from now until the last one
-- that is.
--
-- rate.next is the next instant that nobody has, in microseconds; calls may go
-- earlier than their instants by all but one of a burst. It only grows, so an
-- instant has one owner, and is lost with it. rate.at is when that was written, which
-- tells of a clock that has been put back since. rate.limit is the interval and the
-- burst that hold, and when who has them last asked: a lower limit holds for all, until
-- nobody has asked by it for a minute.
local us = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local held, most, asked = string.match(h['rate.limit'] or '', '(%d+) (%d+) (%d+)')
held, most, asked = tonumber(held), tonumber(most), tonumber(asked)
local lower = held and (held > interval or held == interval and most < burst)
if lower and asked <= now + 60000 and now <= asked + 60000 + held / 1000000 then
  interval, burst = held, most
else
  put('rate.limit', string.format('%.0f %.0f %.0f', interval, burst, now))
end

local from = num('rate.next') - math.max(num('rate.at') - us, 0)
from = math.max(from, us)
local spare = (burst - 1) * interval / 1000
local n = math.floor((us + tonumber(ARGV[9]) + spare - from) * 1000 / interval) + 1
n = math.max(math.min(n, tonumber(ARGV[8])), 0)
put('rate.next', from + math.ceil(n * interval / 1000))
put('rate.at', us)
return view({from = from - us, granted = n, interval = interval, burst = burst, nodes = count('alive.')})

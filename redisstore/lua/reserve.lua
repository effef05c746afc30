-- reserve reserves instants of the rate that the fleet shares: 6 nanoseconds between
-- two instants, 7 burst, 8 how many instants, 9 microseconds from now until the last
-- instant that is of use.
--
-- rate.next is the first instant that is not reserved, in microseconds; a call may go
-- earlier than its instant by all but one of the burst's intervals. rate.next only
-- grows, so no instant is reserved twice, and one that is not used is lost. rate.at is
-- when rate.next was written, and shows that a clock was set back since. rate.limit
-- has the interval and the burst in force, and when a process last requested instants
-- with them: the lowest limit is in force for all, until no process has used it for a
-- minute.
local us = time[1] * 1000000 + time[2]
local interval, burst = tonumber(ARGV[6]), tonumber(ARGV[7])
local last_interval, last_burst, last_used = string.match(h['rate.limit'] or '', '(%d+) (%d+) (%d+)')
last_interval, last_burst, last_used = tonumber(last_interval), tonumber(last_burst), tonumber(last_used)
local lower = last_interval and (last_interval > interval or last_interval == interval and last_burst < burst)
if lower and last_used <= now + 60000 and now <= last_used + 60000 + last_interval / 1000000 then
  interval, burst = last_interval, last_burst
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
return view({from = from - us, count = n, interval = interval, burst = burst, nodes = count('alive.')})

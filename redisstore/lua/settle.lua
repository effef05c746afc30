-- settle reports the result of a probe: 6 token, 0 for a probe that needed no lease;
-- 7 the state that follows; 8 milliseconds that it stays open; 9 reason; 10 "1" if a
-- gate reports it. Only the holder of the lease decides for the fleet: a result with
-- another token is too late, and changes nothing. But what gates have opened is
-- closed by the first success that any gate reports.
if ARGV[7] == 'closed' then drop('vote.' .. node) end
local responded = ARGV[10] == '1' and h.hand ~= '1' and num('until') <= now
if h.state == 'open' and (responded or h['lease.process'] == process and h.gen == ARGV[6]) then
  put(last_failed_node, ARGV[7] == 'open' and node or '')
  enter(ARGV[7], tonumber(ARGV[8]), ARGV[9], '0')
  publish()
end
return view()

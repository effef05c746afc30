-- settle is the result of a probe: 6 token, 0 for one of the node's own, that
-- the fleet had no say in; 7 the state that follows; 8 milliseconds, if that is
-- open; 9 reason. Only the holder of the lease decides for the fleet: a result
-- with another token comes too late, and changes nothing. But 10 "1" is that of a
-- gate: there anybody's success ends what gates have opened.
if ARGV[7] == 'closed' then drop('vote.' .. node) end
local answered = ARGV[10] == '1' and h.hand ~= '1' and num('until') <= now
if h.state == 'open' and (answered or h['lease.process'] == process and h.gen == ARGV[6]) then
  put('shy', ARGV[7] == 'open' and node or '')
  enter(ARGV[7], tonumber(ARGV[8]), ARGV[9], '0')
  publish()
end
return view()

-- settle is the result of a probe: 6 token, 0 for one of the node's own, that
-- the fleet had no say in; 7 the state that follows; 8 milliseconds, if that is
-- open; 9 reason. Only the holder of the lease decides for the fleet: a result
-- with another token comes too late, and changes nothing.
if ARGV[7] == 'closed' then drop('vote.' .. node) end
if h.state == 'open' and h['lease.process'] == process and h.gen == ARGV[6] then
  put('shy', ARGV[7] == 'open' and node or '')
  enter(ARGV[7], tonumber(ARGV[8]), ARGV[9], '0')
  publish()
end
return view()

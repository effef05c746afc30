-- lease requests the fleet's only permission to probe: 6 milliseconds, 7 "1" if a
-- probe is being sent, "0" if one may be sent, 8 milliseconds after which an unused
-- lease is no longer extended if another process wants it, 9 milliseconds for which
-- the node whose probe failed last must let other nodes go first. The response names
-- the holder of the lease; the generation in it is the holder's token.
local ms, used = tonumber(ARGV[6]), ARGV[7] == '1'
if h.state == 'open' and num('until') <= now then
  if not leased() then
    local yields = h[last_failed_node] == node and num('until') + tonumber(ARGV[9]) > now and count('alive.') > 1
    if not yields then
      drop_lease()
      put('gen', num('gen') + 1)
      put('lease.process', process)
      put('lease.node', node)
      put('lease.since', now)
      put('lease.till', now + ms)
      if used then put('lease.used', '1') end
    end
  elseif h['lease.process'] ~= process then
    put('lease.wanted', '1')
  elseif used or not h['lease.wanted'] or num('lease.since') + tonumber(ARGV[8]) > now then
    put('lease.till', math.max(num('lease.till'), now + ms))
    if used then put('lease.used', '1') end
  end
end
return view()

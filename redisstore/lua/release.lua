-- release returns a lease under which no probe is in flight: 6 token.
if h['lease.process'] == process and h.gen == ARGV[6] then
  drop_lease()
  publish()
end
return view()

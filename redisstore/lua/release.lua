-- release gives a lease back under which no probe is out: 6 token.
if h['lease.process'] == process and h.gen == ARGV[6] then
  drop_lease()
  publish()
end
return view()

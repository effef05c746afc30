-- release gives a lease back that has not been used: 6 token.
if h['lease.process'] == process and h.gen == ARGV[6] and not h['lease.used'] then
  drop_lease()
  publish()
end
return view()

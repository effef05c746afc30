-- trip is a node's vote to open: 6 milliseconds that the breaker stays open, 7 quorum,
-- 8 reason, 9 "1" if a gate votes: then the open time elapses at once, since the first
-- success closes the breaker. The fleet opens when enough of the nodes alive have voted.
if h.state == 'closed' then
  put('vote.' .. node, now + tonumber(ARGV[6]))
  if count('vote.') >= math.min(tonumber(ARGV[7]), count('alive.')) then
    enter('open', ARGV[9] == '1' and 0 or tonumber(ARGV[6]), ARGV[8], '0')
    publish()
  end
end
return view()

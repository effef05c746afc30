-- trip is one node's vote to open: 6 milliseconds that it is open for, 7 quorum,
-- 8 reason, 9 "1" if a gate has found it, which the first success opens again, so
-- that no time has to pass. The fleet opens when enough of those alive agree.
if h.state == 'closed' then
  put('vote.' .. node, now + tonumber(ARGV[6]))
  if count('vote.') >= math.min(tonumber(ARGV[7]), count('alive.')) then
    enter('open', ARGV[9] == '1' and 0 or tonumber(ARGV[6]), ARGV[8], '0')
    publish()
  end
end
return view()

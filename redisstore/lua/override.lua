-- override sets a state manually, whatever the state is: 6 state, 7 milliseconds
-- that it stays open, 8 reason, 9 how many milliseconds ago it was set, by a process
-- that could not reach the server then. A later override is kept. A state that has
-- changed by itself since is replaced by isolation only, which would have prevented
-- the change.
--
-- To close drops all shares of the budget, which then has at least the token with
-- which it begins.
local ago = tonumber(ARGV[9])
local at = now - ago
if ago > 0 and at < num('hand.at') then return view() end
put('hand.at', math.max(at, num('hand.at') + 1)) -- differs from that of each earlier override
if ago > 0 and ARGV[6] ~= 'isolated' and at < num('since') and h.hand ~= '1' then return view() end
if ARGV[6] == 'closed' then
  drop_all('share.')
  if h.budget then put('budget', math.max(num('budget'), 20)) end
end
drop(last_failed_node)
enter(ARGV[6], tonumber(ARGV[7]), ARGV[8], '1')
publish()
return view()

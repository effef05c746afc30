-- hand sets what a person wants, whatever there is: 6 state, 7 milliseconds, if
-- that is open, 8 reason, 9 how many milliseconds ago it was wanted, by somebody
-- who could not say so then. What was set by hand since stands; and only isolation
-- undoes what has happened since by itself, as it would have prevented it.
--
-- To close forgets what is lent: the budget has at least the token again with
-- which it begins.
local ago = tonumber(ARGV[9])
local at = now - ago
if ago > 0 and at < num('hand.at') then return view() end
put('hand.at', math.max(at, num('hand.at') + 1)) -- by which others tell it from the last
if ago > 0 and ARGV[6] ~= 'isolated' and at < num('since') and h.hand ~= '1' then return view() end
if ARGV[6] == 'closed' then
  drop_all('share.')
  if h.budget then put('budget', math.max(num('budget'), 20)) end
end
drop('shy')
enter(ARGV[6], tonumber(ARGV[7]), ARGV[8], '1')
publish()
return view()

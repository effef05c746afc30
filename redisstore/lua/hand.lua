-- hand sets what a person wants, whatever there is: 6 state, 7 milliseconds, if
-- that is open, 8 reason. To close forgets the not-before instant as well, and
-- what is lent: the budget has at least the token again with which it begins.
if ARGV[6] == 'closed' then
  drop('hold')
  drop_all('share.')
  if h.budget then put('budget', math.max(num('budget'), 20)) end
end
drop('shy')
enter(ARGV[6], tonumber(ARGV[7]), ARGV[8], '1')
publish()
return view()

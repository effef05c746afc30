-- hand sets what a person wants, whatever there is: 6 state, 7 milliseconds, if
-- that is open, 8 reason. To close forgets the not-before instant as well.
if ARGV[6] == 'closed' then drop('hold') end
drop('shy')
enter(ARGV[6], tonumber(ARGV[7]), ARGV[8], '1')
publish()
return view()

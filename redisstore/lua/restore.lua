-- restore writes back what a server has lost, if it lost all or the latest of its
-- data: 6 epoch, 7 generation, 8 state, 9 milliseconds that it stays open, 10 reason,
-- 11 how many milliseconds ago it was set manually, "" if it was not. What has been
-- written since the loss is kept.
local gen = tonumber(ARGV[7])
if h.epoch ~= ARGV[6] and num('gen') == 0 or h.epoch == ARGV[6] and num('gen') < gen then
  put('gen', math.max(num('gen'), gen))
  if ARGV[11] ~= '' then put('hand.at', math.max(num('hand.at'), now - tonumber(ARGV[11]), 1)) end
  enter(ARGV[8], tonumber(ARGV[9]), ARGV[10], ARGV[11] ~= '' and '1' or '0')
  publish()
end
return view()

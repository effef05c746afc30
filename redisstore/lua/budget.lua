-- budget lends a cell its part of the fleet's retry budget, in twentieths of a
-- token: 6 name of the cell, 7 what it holds, 8 up to what it may hold by now, 9
-- what it hands in besides, 10 the ceiling, 11 what it needs, 12 "new" if it comes
-- for the first time, "ends" if it will not come again, or "".
--
-- A token is in one place: in the field budget, which is what is not lent, in a
-- cell, or on its way, where it may be lost. share.CELL is up to what a cell may
-- hold and when that is forgotten; these limits and budget are together no more
-- than the ceiling. The answer says what is lent now and the new limit; fair,
-- above which a cell hands in what it holds; and left, what is not lent.
local token = 20
local holds, may, ceiling, needs = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10]), tonumber(ARGV[11])
local mine, cells, others, over = 'share.' .. ARGV[6], 1, 0, {}
for field, value in pairs(h) do
  if string.sub(field, 1, 6) == 'share.' and field ~= mine then
    local limit, till = string.match(value, '(%d+) (%d+)')
    if tonumber(till) > now then
      cells, others = cells + 1, others + tonumber(limit)
    else
      over[#over + 1] = field
    end
  end
end
drop(unpack(over))

-- The first cell of a fleet brings the token that a budget begins with. One that
-- has been here before tells of a server that has lost what it knew.
local left = tonumber(h.budget) or (ARGV[12] == 'new' and token or 0)
left = math.max(math.min(left + tonumber(ARGV[9]), ceiling - others - may), 0)
if ARGV[12] == 'ends' then
  drop(mine)
  put('budget', left)
  return view({left = left})
end

-- All cells and what is not lent have equal parts. If those are less than a
-- token, which would be of no use to anybody, who comes has one without need as
-- long as half of the ceiling is not lent.
local fair = math.floor(ceiling / (cells + 1))
if fair < token then fair = left * 2 >= ceiling and token or 0 end
local lent = math.min(math.max(fair - holds, needs - holds, 0), left)
left = left - lent
local limit = holds + lent + math.floor(math.max(ceiling - others - left - holds - lent, 0) / cells)
put('budget', left)
-- Until it has heard of a lower limit, the cell goes by the one that it has.
put(mine, string.format('%.0f %.0f', math.max(limit, may + lent), now + tonumber(ARGV[3])))
return view({lent = lent, limit = limit, fair = fair, left = left})

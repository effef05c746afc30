-- budget returns surplus tokens of a cell and grants it a share of the fleet's retry
-- budget, in twentieths of a token: 6 name of the cell, 7 its balance, 8 its limit,
-- 9 tokens that it returns besides, 10 ceiling of the budget, 11 balance that it
-- needs, 12 "first" for the cell's first request, "last" for its last, or "".
--
-- A token is in one place: in the field budget, which is what no cell holds, in a
-- cell, or on its way, where it may be lost. share.CELL is the limit up to which the
-- cell may hold tokens, and when that limit expires. All limits and budget together
-- are at most the ceiling. The response has granted, the tokens to add to the cell;
-- limit, its new limit; fair_share, above which a cell returns tokens; and available,
-- what no cell holds.
local token = 20
local balance, limit_now, ceiling, need = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[10]), tonumber(ARGV[11])
local mine, cells, others, expired = 'share.' .. ARGV[6], 1, 0, {}
for field, value in pairs(h) do
  if string.sub(field, 1, 6) == 'share.' and field ~= mine then
    local limit, till = string.match(value, '(%d+) (%d+)')
    if tonumber(till) > now then
      cells, others = cells + 1, others + tonumber(limit)
    else
      expired[#expired + 1] = field
    end
  end
end
drop(unpack(expired))

-- The first cell of a fleet brings the token with which a budget begins. If a cell
-- that has made requests before finds no budget, the server has lost its data.
local available = tonumber(h.budget) or (ARGV[12] == 'first' and token or 0)
available = math.max(math.min(available + tonumber(ARGV[9]), ceiling - others - limit_now), 0)
if ARGV[12] == 'last' then
  drop(mine)
  put('budget', available)
  return view({available = available})
end

-- All cells and the budget have equal shares. If a share is less than a token, it is
-- of no use: then a cell that needs none gets a token as long as half of the ceiling
-- is available.
local fair_share = math.floor(ceiling / (cells + 1))
if fair_share < token then fair_share = available * 2 >= ceiling and token or 0 end
local granted = math.min(math.max(fair_share - balance, need - balance, 0), available)
available = available - granted
local limit = balance + granted + math.floor(math.max(ceiling - others - available - balance - granted, 0) / cells)
put('budget', available)
-- Until the cell has received a lower limit, it uses the one that it has.
put(mine, string.format('%.0f %.0f', math.max(limit, limit_now + granted), now + tonumber(ARGV[3])))
return view({granted = granted, limit = limit, fair_share = fair_share, available = available})

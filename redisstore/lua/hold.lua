-- hold sets the not-before instant, unless a later one is set: 6 milliseconds.
if num('hold') < now + tonumber(ARGV[6]) then
  put('hold', now + tonumber(ARGV[6]))
  publish()
end
return view()

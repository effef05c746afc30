-- read changes nothing, but that the node is alive.
return view()

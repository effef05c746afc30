-- read only records that the node is alive.
return view()

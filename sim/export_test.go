package sim

// Gated returns s with a gate, at which clients wait.
func Gated(s Scenario) Scenario {
	s.Clients.gate = wait
	return s
}

package metrics

// Families returns all metrics that a [Snapshot] can have, without samples, in the order of docs/metrics.md.
func Families() []Family {
	return []Family{
		{"perdure_attempts", "Attempts of operations that have ended, by their number and by the class of their error.", Counter, "", nil},
		{"perdure_calls", "Operations that have ended, by outcome and by why no other attempt followed.", Counter, "", nil},
		{"perdure_call_retries", "Retries of an operation.", Histogram, "", nil},
		{"perdure_wait_seconds", "Time that operations have waited, by what for.", Counter, "seconds", nil},
		{"perdure_retry_after", "Waits that servers asked for, by what became of them.", Counter, "", nil},
		{"perdure_retry_after_seconds", "Length of the waits that servers asked for, by what became of them.", Counter, "seconds", nil},
		{"perdure_hedges", "Second requests that were sent because the first was late, and those whose response was used.", Counter, "", nil},
		{"perdure_fallbacks", "Errors for which a fallback was called, by whether it replaced them.", Counter, "", nil},
		{"perdure_resumes", "Bodies that broke and were resumed.", Counter, "", nil},
		{"perdure_resumed_bytes", "Bytes that were read after a resume, and not from the start again.", Counter, "bytes", nil},
		{"perdure_breaker_state", "1 for the state that applies to a call now, else 0.", Gauge, "", nil},
		{"perdure_breaker_open_seconds", "Time in which the breaker was open or its gate limited, the current opening included.", Counter, "seconds", nil},
		{"perdure_breaker_trips", "Openings of the breaker.", Counter, "", nil},
		{"perdure_breaker_probes", "Probes that were admitted.", Counter, "", nil},
		{"perdure_breaker_refusals", "Calls that were refused, by why.", Counter, "", nil},
		{"perdure_breaker_waits", "Waits at the gate or for the rate.", Counter, "", nil},
		{"perdure_breaker_wait_seconds", "Length of the waits at the gate or for the rate.", Counter, "seconds", nil},
		{"perdure_breaker_attempts", "Attempts of all processes that share the state and count, by the class of their error.", Counter, "", nil},
		{"perdure_breaker_retries", "Retries of all processes that share the state and count.", Counter, "", nil},
		{"perdure_budget_balance", "Tokens in the retry budget.", Gauge, "", nil},
		{"perdure_budget_denials", "Retries that were not made because the budget had no tokens.", Counter, "", nil},
		{"perdure_gate_limited", "1 while the gate limits calls, else 0.", Gauge, "", nil},
		{"perdure_gate_pace", "Calls per second that the gate has admitted since it was limited; 0 if it is not.", Gauge, "", nil},
		{"perdure_gate_waiters", "Calls that wait at the gate.", Gauge, "", nil},
	}
}

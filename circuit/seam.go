package circuit

import "github.com/seed-0f2c7998/perdure/internal/seam"

const _ = uint(generationShift-seam.GenerationShift) + uint(seam.GenerationShift-generationShift) // they are the same, or this does not compile

// What this module's own packages call, and users do not see.
func init() { //nolint:gochecknoinits // see package seam
	seam.OfferCircuit(seam.Circuit[*Breaker, Permit, *OpenError, Tokens]{
		Begin: (*Breaker).begin, BeginAttempt: (*Breaker).beginAttempt, AtGate: Permit.atGate, Refuse: (*Breaker).refuseKnown, Refused: (*Breaker).refusedDue, Peek: (*Breaker).peek,
		Invalid: (*Breaker).invalid, Nested: nest, Guarded: Permit.guarded, KeepPlace: (*Breaker).keepPlace,
		Balance: (*Breaker).balance, Withdraw: (*Breaker).withdraw, Refund: (*Breaker).refund,
		Permit: permitOf, Succeed: Permit.successOf, Record: Permit.recordEnd,
	})
}

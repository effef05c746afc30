package seam

import (
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Breaker is a *circuit.Breaker. Its method has no exported name, so that only a type
// with a [Handle] is a Breaker.
type Breaker interface{ hot() *Hot }

// A Handle makes the type that embeds it a [Breaker].
type Handle struct{ state Hot }

func (h *Handle) hot() *Hot { return &h.state }

// Of returns the Hot of b, which must not be nil. If the compiler knows the type of b,
// it inlines Of and the methods of Hot.
func Of(b Breaker) *Hot { return b.hot() }

// A Hot is the part of a breaker that a call reads while the breaker is healthy.
type Hot struct {
	Cell  *cell.Ref
	Full  int64 // balance of the budget from which a success records nothing
	Plain bool  // the packed state alone admits calls, and calls are not measured
	Paced bool  // calls have a rate or a limit of concurrency; false if Plain
	// GateMask selects the bits of the gate's first word that InHealth is compared with;
	// both are 0 if the breaker has no gate.
	GateMask, InHealth uint64
	Layers             atomic.Int32 // how many layers of a call use the breaker: Single, or more; 0 means not known
}

// Single is the value of Layers if each call passes the breaker once.
const Single = 1

// GenerationShift is the lowest bit of the generation in a breaker's packed state. All
// lower bits of a healthy breaker are 0.
const GenerationShift = 52

// Healthy returns the breaker's packed state, and whether the breaker admits a call by
// that state alone.
func (h *Hot) Healthy() (state uint64, admitted bool) {
	c := h.Cell.Load()
	state = c.Breaker.Load()
	return state, h.Plain && state<<(64-GenerationShift) == 0 && h.GateHealthy(c) && h.Layers.Load() == Single
}

// IgnoresSuccess reports whether the success of a call that Healthy admitted changes
// nothing.
func (h *Hot) IgnoresSuccess() bool {
	c := h.Cell.Load()
	return c.Budget.AtLeast(h.Full) && c.Breaker.Load()<<(64-GenerationShift) == 0 && h.GateHealthy(c)
}

// DenyRetry counts a retry for which the budget has no tokens.
func (h *Hot) DenyRetry() { h.Cell.Load().Refused[cell.RefusedBudget].Add(1) }

// GateHealthy reports whether the gate is in health. It is true if the breaker has no
// gate.
func (h *Hot) GateHealthy(c *cell.Cell) bool { return c.Gate[0].Load()&h.GateMask == h.InHealth }

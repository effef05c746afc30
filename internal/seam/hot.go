// Package seam joins the packages of this module where their users must not see
// the joint: package circuit and package retry leave here what the clients'
// adapters call, and what retry calls for each attempt. The packages breakers and
// calls give it its types back.
package seam

import (
	"sync/atomic"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// A Breaker is a *circuit.Breaker, which has a method that nobody else can name.
type Breaker interface{ hot() *Hot }

// A Handle makes the type that embeds it a [Breaker].
type Handle struct{ words Hot }

func (h *Handle) hot() *Hot { return &h.words }

// Of returns the Hot of b, which is not nil. Where the type of b is known, the
// compiler puts the address in the place of the call, and so it does with the
// methods of Hot.
func Of(b Breaker) *Hot { return b.hot() }

// A Hot is all of a breaker that a call has to look at while all is well.
type Hot struct {
	Cell  *cell.Ref
	Full  int64 // the level of the budget from which a success has nothing to record
	Plain bool  // calls are admitted by their breaker's word alone, and not measured
	Paced bool  // calls have a rate, or hold places: none is Plain
	// The bits of the gate's first word, and what they are in health; 0: no gate.
	GateMask, InHealth uint64
	Layers             atomic.Int32 // how many times a call comes by, see Single
}

// Single is the Layers of a breaker by which each call comes once.
const Single = 1

// GenerationShift is where the generation is in a breaker's word, at its top. A
// breaker is healthy when all else is 0.
const GenerationShift = 52

// Quick returns the breaker's word, and whether it admits a call about which there
// is nothing else to decide.
func (h *Hot) Quick() (word uint64, admitted bool) {
	c := h.Cell.Load()
	word = c.Breaker.Load()
	return word, h.Plain && word<<(64-GenerationShift) == 0 && h.GateHealthy(c) && h.Layers.Load() == Single
}

// Unmoved reports whether the success of a call that Quick has admitted changes
// nothing.
func (h *Hot) Unmoved() bool {
	c := h.Cell.Load()
	return c.Budget.AtLeast(h.Full) && c.Breaker.Load()<<(64-GenerationShift) == 0 && h.GateHealthy(c)
}

// GateHealthy reports whether the gate, if there is one, is in health.
func (h *Hot) GateHealthy(c *cell.Cell) bool { return c.Gate[0].Load()&h.GateMask == h.InHealth }

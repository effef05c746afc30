package circuit

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/cell"
)

// The bits of the words that this package lays in a cell, and the numbers of
// what they name.
const layout = `version 3
Breaker
  generation 52-63
  state      50-51
  reopened   46-49
  failures   36-45
  successes  41-45
  in flight  36-40
  length     36-45
  probation  12-35
  throttled   2-11
  spared      1-1
  timed       0-0
  instant     0-35
Calls and Slow of a bucket
  slice      40-63
  calls      20-39
  bad         0-19
Reason
  cause      56-63
  n          28-55
  m           0-27
written
  half-open  0019462ee77a1c7b
  bucket     0000070000500003
  reason     0200000070000009
  prober     0001000000000000 and the process ID
states Closed 0, Open 1, HalfOpen 2, Isolated 3
causes Unknown 0, Consecutive 1, Ratio 2, Slow 3, ProbeFailed 4, RecoveryTimeout 5, Recovered 6, Manual 7, FleetDecision 8, Throttled 9
`

func TestLayout(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d\n", cell.Version)
	for _, f := range []struct {
		name string
		of   func(word uint64) uint64 // nil: a heading
	}{
		{"Breaker", nil},
		{"generation", func(w uint64) uint64 { return uint64(packedState(w).generation()) }},
		{"state", func(w uint64) uint64 { return uint64(packedState(w).state()) }},
		{"reopened", func(w uint64) uint64 { return uint64(packedState(w).reopened()) }},
		{"failures", func(w uint64) uint64 { return uint64(packedState(w).failures()) }},
		{"successes", func(w uint64) uint64 { return uint64(packedState(w).successes()) }},
		{"in flight", func(w uint64) uint64 { return uint64(packedState(w).inFlight()) }},
		{"length", func(w uint64) uint64 { return uint64(packedState(w).failures()) }},
		{"probation", func(w uint64) uint64 { return w & uint64(instantMask>>probationShift<<probationShift) }},
		{"throttled", func(w uint64) uint64 { return uint64(packedState(w).throttled()) }},
		{"spared", func(w uint64) uint64 { return w & sparedBit }},
		{"timed", func(w uint64) uint64 { return w & timedBit }},
		{"instant", func(w uint64) uint64 { return w & uint64(packedState(0).until(-1)) }},
		{"Calls and Slow of a bucket", nil},
		{"slice", func(w uint64) uint64 { return bucketWord(w).slice() }},
		{"calls", func(w uint64) uint64 { return bucketWord(w).calls() }},
		{"bad", func(w uint64) uint64 { return bucketWord(w).bad() }},
		{"Reason", nil},
		{"cause", func(w uint64) uint64 { return uint64(unpack(w).code) }},
		{"n", func(w uint64) uint64 { return uint64(unpack(w).n) }},
		{"m", func(w uint64) uint64 { return uint64(unpack(w).m) }},
	} {
		if f.of == nil {
			fmt.Fprintln(&b, f.name)
			continue
		}
		fmt.Fprintf(&b, "  %-10s %s\n", f.name, bitsOf(f.of))
	}
	writeWritten(&b)
	if got := b.String(); got != layout {
		t.Errorf("the bits of a cell's words have changed: raise the version (cell.Version), unless the words were reserved so far, "+
			"or processes of two releases misread each other's cells. They are now\n%s", got)
	}
}

// bitsOf returns which bits of a word a part of it is made of.
func bitsOf(part func(word uint64) uint64) string {
	low, high := -1, -1
	for i := range 64 {
		if part(1<<i) == 0 {
			continue
		}
		if low < 0 {
			low = i
		} else if high != i-1 {
			return fmt.Sprintf("not in one piece: bit %d", i)
		}
		high = i
	}
	return fmt.Sprintf("%2d-%d", low, high)
}

// writeWritten writes what is written in words, and the numbers of states and
// causes.
func writeWritten(b *strings.Builder) {
	halfOpen := packedState(0).next(HalfOpen).reopen(5).high(3).low(2).until(1_782_000_000_123)
	var c cell.Cell
	recordProber(&c, halfOpen)
	fmt.Fprintf(b, "written\n  half-open  %016x\n  bucket     %016x\n  reason     %016x\n  prober     %016x and the process ID\n",
		uint64(halfOpen), uint64(newBucketWord(7, 5, 3)), Reason{Ratio, 7, 9}.pack(), c.Prober.Load()-uint64(os.Getpid()))
	fmt.Fprintf(b, "states Closed %d, Open %d, HalfOpen %d, Isolated %d\n", uint8(Closed), uint8(Open), uint8(HalfOpen), uint8(Isolated))
	fmt.Fprintf(b, "causes Unknown %d, Consecutive %d, Ratio %d, Slow %d, ProbeFailed %d, RecoveryTimeout %d, Recovered %d, Manual %d, FleetDecision %d, Throttled %d\n",
		Unknown, Consecutive, Ratio, Slow, ProbeFailed, RecoveryTimeout, Recovered, Manual, FleetDecision, Throttled)
}

package cell

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// The layout of a Cell, and what its own words hold, as processes of one
// version map them. Package circuit has the bits of the words that it gives a
// meaning, hoststore the file around them.
const layout = `version 3
Cell: 512 bytes
   0 Breaker    8
   8 Budget     8
  16 hint       8
  24 Gate      48
  72 Rate      16
  88 Since      8
  96 Reason     8
 104 Prober     8
 112 override   8
 120 SeenOverride   8
 128 Window   160
 288 name       8
 296 spent      8
 304 longest    8
 312 _          8
 320 Calls     64
 384 Rejected   8
 392 Refused   56
 448 Trips      8
 456 Probes     8
 464 openTime   8
 472 Retries    8
 480 Waits      8
 488 Waited     8
 496 Credits    8
 504 Abandoned   8
Bucket: 16 bytes
   0 Calls      8
   8 Slow       8
Budget
  a deposit of 1          0000000000010000
  full at the ceiling     00000000ffea0000
  a withdrawal of 20      ffffffffffec0000
  grant 5, limit 60 / 200 00000000007d008d
  given back down to 2    00000000007d0090
hint of 1 s, then of a day
  ee77a1c7b00003e8
  ee77a1c7b5265c00
rate of 10 a second, burst 3: two calls, the limit
  18baef8f10ff96c0
  18baef8f10ff96c0
  4cbebc20000f2980
override
  closed                  0000067b9de871ec
  isolated                0000067b9de871ef
`

func TestLayout(t *testing.T) {
	var b strings.Builder
	fmt.Fprintf(&b, "version %d\n", Version)
	for _, is := range []reflect.Type{reflect.TypeFor[Cell](), reflect.TypeFor[Bucket]()} {
		fmt.Fprintf(&b, "%s: %d bytes\n", is.Name(), is.Size())
		for f := range is.Fields() {
			fmt.Fprintf(&b, "%4d %-8s %3d\n", f.Offset, f.Name, f.Type.Size())
		}
	}
	writeWords(&b)
	if got := b.String(); got != layout {
		t.Errorf("the layout of cells has changed: raise the version (cell.Version), or processes of two releases misread each other's cells. "+
			"A reserved word may be used without that if 0 means \"not known\" there: then change only this test. The layout is now\n%s", got)
	}
}

// writeWords writes what operations leave in the words that have a meaning here.
func writeWords(w *strings.Builder) {
	var c Cell
	budget := func(what string, do func(*Budget)) {
		var b Budget
		do(&b)
		fmt.Fprintf(w, "  %-23s %016x\n", what, uint64(b.word.Load()))
	}
	fmt.Fprintln(w, "Budget")
	budget("a deposit of 1", func(b *Budget) { b.Deposit(1, FullMark(MaxCeiling)) })
	budget("full at the ceiling", func(b *Budget) { b.Deposit(1<<40, FullMark(MaxCeiling)) })
	budget("a withdrawal of 20", func(b *Budget) { b.Withdraw(20) })
	budget("grant 5, limit 60 / 200", func(b *Budget) { b.Grant(5, 60, 200) })
	budget("given back down to 2", func(b *Budget) { b.Grant(5, 60, 200); b.GiveBack(2, 200) })
	fmt.Fprintln(w, "hint of 1 s, then of a day")
	now := time.UnixMilli(1_782_000_000_123)
	for _, d := range []time.Duration{time.Second, MaxHint} {
		c.SetHint(now.UnixMilli(), d)
		fmt.Fprintf(w, "  %016x\n", c.hint.Load())
	}
	fmt.Fprintln(w, "rate of 10 a second, burst 3: two calls, the limit")
	l := c.InForce(NewLimit(10, 3), now.UnixNano())
	for range 2 {
		c.Reserve(l, now.UnixNano(), now.UnixNano())
		c.Spend(l, now.UnixNano())
	}
	fmt.Fprintf(w, "  %016x\n  %016x\n  %016x\n", c.Rate[0].Load(), c.spent.Load(), c.Rate[1].Load())
	fmt.Fprintln(w, "override")
	for state, name := range []string{0: "closed", 3: "isolated"} {
		if name != "" {
			c.SetOverride(now, uint8(state))
			fmt.Fprintf(w, "  %-23s %016x\n", name, uint64(c.override.Load()))
		}
	}
}

// A healthy call reads one cache line.
func TestTheHotWordsAreOneLine(t *testing.T) {
	var c Cell
	const gate = 3 // the words that a gate needs
	if end := unsafe.Offsetof(c.Gate) + gate*8; unsafe.Offsetof(c.Breaker) != 0 || end > 64 {
		t.Errorf("the words of breaker, budget, hint and gate end at byte %d, want within the first 64", end)
	}
	if cold := unsafe.Offsetof(c.Rate); cold < 64 {
		t.Errorf("a word that is written while all is well begins at byte %d, in the hot line", cold)
	}
	if size := unsafe.Sizeof(c); size%64 != 0 {
		t.Errorf("a Cell takes %d bytes, want whole lines", size)
	}
	if n := testing.AllocsPerRun(100, func() { c.SetHint(1, time.Hour); c.Hint(1) }); n != 0 {
		t.Errorf("a hint allocates %v times", n)
	}
}
